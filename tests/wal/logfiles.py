"""Logs for the tests: SQLite's own, and synthetic ones in either byte order.

The checksum here is the definition in SQLite's file format document, word by word, on purpose
not the package's own.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
from dataclasses import dataclass, field
from pathlib import Path

PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
MAGIC = {False: 0x377F0682, True: 0x377F0683}
VERSION = 3007000
SALT = (0x1234ABCD, 0xFEDC0987)


def naive_checksum(data: bytes, state: tuple[int, int], *, big_endian: bool) -> tuple[int, int]:
    s0, s1 = state
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for i in range(0, len(words), 2):
        s0 = (s0 + words[i] + s1) % 2**32
        s1 = (s1 + words[i + 1] + s0) % 2**32
    return s0, s1


class LogBuilder:
    """A log under construction: good until told otherwise."""

    def __init__(
        self,
        page_size: int,
        *,
        big_endian: bool = False,
        salt: tuple[int, int] = SALT,
        sequence: int = 0,
        version: int = VERSION,
    ) -> None:
        self.page_size = page_size
        self.big_endian = big_endian
        self.salt = salt
        fixed = struct.pack(">6I", MAGIC[big_endian], version, page_size, sequence, *salt)
        self.state = naive_checksum(fixed, (0, 0), big_endian=big_endian)
        self.raw = bytearray(fixed + struct.pack(">2I", *self.state))

    def frame(
        self, page_number: int, page: bytes, commit: int = 0, salt: tuple[int, int] | None = None
    ) -> LogBuilder:
        start = struct.pack(">2I", page_number, commit)
        self.state = naive_checksum(start, self.state, big_endian=self.big_endian)
        self.state = naive_checksum(page, self.state, big_endian=self.big_endian)
        self.raw += start + struct.pack(">4I", *(salt or self.salt), *self.state) + page
        return self


def page(page_size: int, fill: int = 1) -> bytes:
    """Return a page that no two words of which are equal."""
    return b"".join(
        struct.pack(">I", (fill * 2654435761 + i * 40503) % 2**32) for i in range(page_size // 4)
    )


def simple_log(page_size: int, commits: int, *, big_endian: bool = False) -> bytearray:
    """Return a log of `commits` transactions of two frames each."""
    log = LogBuilder(page_size, big_endian=big_endian)
    for commit in range(1, commits + 1):
        log.frame(2, page(page_size, commit)).frame(3, page(page_size, -commit), 3)
    return log.raw


def rechain(raw: bytes | bytearray, *, big_endian: bool | None = None) -> bytearray:
    """Return the log with every checksum of its header's generation made right again."""
    out = bytearray(raw)
    if big_endian is None:
        big_endian = bool(struct.unpack_from(">I", raw)[0] & 1)
    struct.pack_into(">I", out, 0, MAGIC[big_endian])
    page_size = struct.unpack_from(">I", raw, 8)[0]
    state = naive_checksum(bytes(out[:24]), (0, 0), big_endian=big_endian)
    struct.pack_into(">2I", out, 24, *state)
    for at in range(32, len(out) - page_size - 23, page_size + 24):
        if out[at + 8 : at + 16] != out[16:24]:
            break
        state = naive_checksum(bytes(out[at : at + 8]), state, big_endian=big_endian)
        body = bytes(out[at + 24 : at + 24 + page_size])
        state = naive_checksum(body, state, big_endian=big_endian)
        struct.pack_into(">2I", out, at + 16, *state)
    return out


@dataclass(frozen=True)
class Sample:
    """A database and its log as bytes, and the rows that each number of commits makes."""

    name: str
    page_size: int
    database: bytes = field(repr=False)
    log: bytes = field(repr=False)
    rows: dict[int, int]


def take(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def sqlite_log(path: Path, page_size: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def make_sample(directory: Path, page_size: int, kind: str) -> Sample:
    """Return a log of SQLite's: 'plain', 'stale' (restarted), 'open' (uncommitted tail)."""
    path = directory / f"{kind}{page_size}.db"
    rows: dict[int, int] = {}
    with contextlib.closing(sqlite_log(path, page_size)) as connection:
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
        count = 0
        if kind == "stale":
            for _ in range(12):
                connection.execute("INSERT INTO t(body) VALUES (randomblob(?))", [page_size])
            connection.execute("PRAGMA wal_checkpoint(RESTART)")
            count = 12
        first = 1 if kind == "stale" else 2
        rows[first - 1] = count
        for commit in range(first, first + 5):
            connection.execute("BEGIN")
            for size in (10, page_size // 3, page_size * 2)[: commit % 3 + 1]:
                connection.execute("INSERT INTO t(body) VALUES (randomblob(?))", [size])
                count += 1
            connection.execute("COMMIT")
            rows[commit] = count
        if kind == "open":
            connection.execute("PRAGMA cache_size=1")
            connection.execute("BEGIN")
            for _ in range(12):
                connection.execute("INSERT INTO t(body) VALUES (randomblob(?))", [page_size * 3])
            # Pages spilled and changed again are overwritten in place, checksums left for later.
            connection.execute("UPDATE t SET body = randomblob(9) WHERE id % 3 = 0")
        database, log = take(path)
        connection.execute("ROLLBACK") if kind == "open" else None
    return Sample(kind, page_size, database, log, rows)


@dataclass(frozen=True)
class Recovery:
    """SQLite's recovery of a log: mxFrame, nPage, the rows, and `PRAGMA page_count`."""

    max_frame: int | None  # None where it refused to open
    page_count: int | None
    rows: int | None  # None where the database is malformed
    counted: int | None


def recover(directory: Path, database: bytes, log: bytes) -> Recovery:
    """Let SQLite recover a copy of a database and its log."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    path = directory / "copy.db"
    path.write_bytes(database)
    Path(f"{path}-wal").write_bytes(log)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        try:
            rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN:
                return Recovery(None, None, None, None)
            rows = counted = None
        raw = Path(f"{path}-shm").read_bytes()
        max_frame, pages = struct.unpack_from("=II", raw, 16)
        if rows is not None:
            counted = connection.execute("PRAGMA page_count").fetchone()[0]
            # A commit that lies about the size of the database may not be folded.
            with contextlib.suppress(sqlite3.DatabaseError):
                folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                assert folded[:2] == (0, max_frame)
        return Recovery(max_frame, pages, rows, counted)
    finally:
        connection.close()
