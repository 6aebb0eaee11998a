"""Databases with a known history: each row that was ever committed is known, and can be found.

A row exists if the bytes of its record are in the files, by these rules:

- The first bytes do not count: a freed cell loses its first four to the header of a freeblock.
- A long row has words all along, and a mark at its end: all of them are there.
- In a log, and in a database that is not damaged, only cells count that a page led to before the
  damage. Free space counts too with ``--deleted``, and in a damaged database.
- A page in the log does not count if more than one byte of it, and not a sector, was changed:
  its checksum says that bytes are false, and nothing says which.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = tuple[Any, ...]
DATABASE = "app.db"
COMMIT = 20  # rows
_WORD = re.compile(rb"w[0-9a-f]{10}\d{4} ")  # the words of a long text
_WORD_SIZE = 16


@dataclass(frozen=True, slots=True)
class Schema:
    """A table of one shape: `make` gives row `n` in version `v` with a mark at both ends."""

    name: str
    sql: Sequence[str]
    columns: int
    key: int
    make: Callable[[int, str, str, random.Random], Row]
    pragmas: Sequence[str] = ()
    has_alias: bool = True
    encoding: str = "utf-8"

    def marks(self, n: int, v: int) -> tuple[str, str]:
        """Return the marks of a version of a row."""
        maker = random.Random(f"{self.name} {n} {v}")
        return f"{maker.getrandbits(40):010x}", f"{maker.getrandbits(40):010x}"

    @property
    def overwritten(self) -> int:
        """The bytes of a record that the header of a freeblock may take."""
        return 3 if "WITHOUT ROWID" in self.sql[0] else 2  # beside the payload's size and the rowid

    def record(self, row: Row) -> bytes:
        """Return a row as SQLite stores it."""
        values = [None if self.has_alias and at == self.key else v for at, v in enumerate(row)]
        fields = [stored(value, self.encoding) for value in values]
        types = b"".join(_varint(serial) for serial, _ in fields)
        return bytes([1 + len(types)]) + types + b"".join(raw for _, raw in fields)

    def row(self, n: int, v: int) -> Row:
        """Return a version of a row: always the same one."""
        return self.make(n, *self.marks(n, v), random.Random(f"row {n} {v}"))


def stored(value: object, encoding: str) -> tuple[int, bytes]:
    """Return the serial type of a value, and its bytes."""
    if value is None:
        return 0, b""
    if isinstance(value, str):
        raw = value.encode(encoding)
        return 13 + 2 * len(raw), raw
    if isinstance(value, float):
        return 7, struct.pack(">d", value)
    assert isinstance(value, int)
    if value in (0, 1):
        return 8 + value, b""
    sizes = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8))
    serial, size = next(s for s in sizes if -(1 << 8 * s[1] - 1) <= value < 1 << 8 * s[1] - 1)
    return serial, value.to_bytes(size, "big", signed=True)


def _varint(value: int) -> bytes:
    raw = [value & 0x7F]
    while value := value >> 7:
        raw.append(0x80 | value & 0x7F)
    return bytes(reversed(raw))


def _model(n: int, first: str, last: str, maker: random.Random) -> Row:
    return (n, f"model-{first}", maker.randrange(10**9, 10**11), maker.choice("abc"), f"/m/{last}")


def _reading(n: int, first: str, last: str, maker: random.Random) -> Row:
    return (f"{first} {n}", maker.uniform(-1e6, 1e6), maker.choice([None, n * 1000]), f"é {last}")


def _pair(n: int, first: str, last: str, maker: random.Random) -> Row:
    return (f"key {n:06d}", f"{first}{'v' * maker.randrange(60)}", n * 7, last)


def _letter(n: int, first: str, last: str, maker: random.Random) -> Row:
    size = maker.choice([40, 300, 2500, 9000])
    words = "".join(f"w{first}{at:04d} " for at in range(size // 16))
    return (n, f"{first}{words}", maker.randrange(100), last)


def _note(n: int, first: str, last: str, maker: random.Random) -> Row:
    return (n, f"ä{first}", None if n % 3 else f"x{n}", maker.random(), last)


SCHEMAS = (
    Schema(
        "models",
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER, kind TEXT, "
         "path TEXT)", "CREATE INDEX t_name ON t(name)"),
        5, 0, _model,
    ),
    Schema(
        "readings",
        ("CREATE TABLE t (label TEXT, value REAL, n INTEGER, place TEXT)",),
        4, 0, _reading, ("page_size = 1024",), has_alias=False,
    ),
    Schema(
        "pairs",
        ("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT, n INTEGER, w TEXT) WITHOUT ROWID",),
        4, 0, _pair, has_alias=False,
    ),
    Schema(
        "letters",
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT, stars INTEGER, author TEXT)",),
        4, 0, _letter, ("auto_vacuum = FULL",),
    ),
    Schema(
        "notes",
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, title TEXT, more TEXT, x REAL, last TEXT)",),
        5, 0, _note, ("page_size = 8192", "encoding = 'UTF-16le'"), encoding="utf-16-le",
    ),
)  # fmt: skip


@dataclass(slots=True)
class Victim:
    """A database before its damage, with what was ever in it.

    `live` are the rows after the last commit, by key; `versions` has each row that was ever
    committed, with its marks. `before` are the files before the damage, `starts` the offsets of the
    records in their cells.
    """

    schema: Schema
    directory: Path
    maker: random.Random
    live: dict[Any, Row] = field(default_factory=dict)
    versions: dict[Row, tuple[str, str]] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    gone: set[Row] = field(default_factory=set)
    before: dict[str, bytes] = field(default_factory=dict)
    starts: set[int] = field(default_factory=set)

    @property
    def path(self) -> Path:
        """The database."""
        return self.directory / DATABASE

    @property
    def log(self) -> Path:
        """Its log."""
        return self.directory / f"{DATABASE}-wal"

    def remember(self) -> None:
        """Remember the files before their damage, and where the records of their rows begin."""
        self.before = {file.name: file.read_bytes() for file in self.directory.iterdir()}
        for content in self.before.values():
            self.starts.update(record_starts(content))

    def existing(self, *, deleted: bool) -> set[Row]:
        """Return the rows, of all that were ever committed, whose bytes are still in the files.

        With `deleted`, free space counts in every file.
        """
        files = {file.name: file.read_bytes() for file in sorted(self.directory.iterdir())}
        content = b"\0".join(files.values())
        words = set(_WORD.findall(content))
        found = set()
        for row, (_, last) in self.versions.items():
            record = self.schema.record(row)
            stem = record[self.schema.overwritten : _STEM]
            is_there = any(
                self._counts(name, file, at, deleted=deleted)
                for name, file in files.items()
                for at in _places(stem, file)
            )
            is_long = len(record) > _STEM
            is_ended = not is_long or last.encode(self.schema.encoding) in content
            if is_there and is_ended and all(_has_words(value, words, content) for value in row):
                found.add(row)
        return found

    def _counts(self, name: str, file: bytes, at: int, *, deleted: bool) -> bool:
        """Return True if the bytes of a row at `at` count as existing."""
        before = self.before.get(name, b"")
        is_log = int.from_bytes(before[:4], "big") & ~1 == _LOG_MAGIC
        is_in_cell = at - self.schema.overwritten in self.starts
        if not (is_in_cell or deleted) and (is_log or file == before):
            return False
        if not is_log:
            return True
        page_size = int.from_bytes(before[8:12], "big")
        start = at - (at - 32) % (24 + page_size) + 24
        pages = before[start : start + page_size], file[start : start + page_size]
        wrong = [place for place, (old, new) in enumerate(zip(*pages, strict=False)) if old != new]
        return len(wrong) < 2 or not any(file[start + place] for place in wrong)


_STEM = 300  # bytes of a record that its first page always has
_LOG_MAGIC = 0x377F0682


def _places(part: bytes, content: bytes) -> Iterator[int]:
    at = content.find(part)
    while at >= 0:
        yield at
        at = content.find(part, at + 1)


def record_starts(content: bytes) -> Iterator[int]:
    """Yield the offsets of all records that the pages of a whole database or log lead to."""
    first, stride, size = 0, 0, int.from_bytes(content[16:18], "big")
    if int.from_bytes(content[:4], "big") & ~1 == _LOG_MAGIC:
        size = int.from_bytes(content[8:12], "big")
        first, stride = 32 + 24, 24
    for page in range(first, len(content), size + stride) if size else ():
        head = page + (100 if content[page : page + 6] == b"SQLite" else 0)
        kind = content[head] if head + 8 <= len(content) else 0
        begin = {13: 8, 10: 8, 2: 12}.get(kind)
        if begin is None:
            continue
        for number in range(int.from_bytes(content[head + 3 : head + 5], "big")):
            at = head + begin + 2 * number
            cell = page + int.from_bytes(content[at : at + 2], "big") + (4 if kind == 2 else 0)
            for _ in range(2 if kind == 13 else 1):  # the size of the payload, and the rowid
                while content[cell] & 0x80:
                    cell += 1
                cell += 1
            yield cell


def _has_words(value: object, words: set[bytes], content: bytes) -> bool:
    """Return True if each word of a long text exists; a page may end within one."""
    if not isinstance(value, str) or len(value) < 100:
        return True
    own = value.encode()
    return all(
        match[0] in words or is_split(own, match.start(), content) for match in _WORD.finditer(own)
    )


def is_split(text: bytes, start: int, content: bytes) -> bool:
    """Return True if the word at `start` lies in two pages, each part beside its neighbour."""
    near = 2 * _WORD_SIZE  # each part with the whole word beside it
    return any(
        text[max(0, cut - near) : cut] in content and text[cut : cut + near] in content
        for cut in range(start + 1, start + _WORD_SIZE)
    )


class Author:
    """Writes a history into a database that stays open: the log is never folded by itself."""

    def __init__(self, victim: Victim, work: Path) -> None:
        self.victim = victim
        self.work = work
        self.conn = sqlite3.connect(work, isolation_level=None)
        for pragma in victim.schema.pragmas:
            self.run(f"PRAGMA {pragma}")
        self.run("PRAGMA journal_mode = WAL")
        self.run("PRAGMA wal_autocheckpoint = 0")
        self.run("PRAGMA secure_delete = OFF")
        self.run("PRAGMA synchronous = OFF")  # processes are killed, no power is cut

    def run(self, sql: str) -> None:
        """Run one statement to its end."""
        self.conn.execute(sql).fetchall()

    def create(self) -> None:
        """Create the table."""
        for sql in self.victim.schema.sql:
            self.run(sql)

    def write(self, numbers: Sequence[int]) -> None:
        """Insert rows, or replace them by their next version; each commit has `COMMIT` rows."""
        schema = self.victim.schema
        marks = ", ".join("?" * schema.columns)
        for begin in range(0, len(numbers), COMMIT):
            self.run("BEGIN")
            for n in numbers[begin : begin + COMMIT]:
                self._forget(n)
                version = self.victim.newest[n] = self.victim.newest.get(n, 0) + 1
                row = schema.row(n, version)
                self.conn.execute(f"INSERT INTO t VALUES ({marks})", row)
                self.victim.live[n] = row
                self.victim.versions[row] = schema.marks(n, version)
            self.run("COMMIT")

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete rows in one transaction."""
        self.run("BEGIN")
        for n in numbers:
            self._forget(n)
        self.run("COMMIT")

    def _forget(self, n: int) -> None:
        row = self.victim.live.pop(n, None)
        if row is not None:
            names = [part[1] for part in self.conn.execute("PRAGMA table_info(t)")]
            self.conn.execute(
                f"DELETE FROM t WHERE {names[self.victim.schema.key]} = ?",
                [row[self.victim.schema.key]],
            )
            self.victim.gone.add(row)

    def fold(self, mode: str = "TRUNCATE") -> None:
        """Run a checkpoint."""
        self.run(f"PRAGMA wal_checkpoint({mode})")

    def copy(self) -> None:
        """Copy the files as they are now, as a crash would leave them."""
        for end in ("", "-wal"):
            source = Path(f"{self.work}{end}")
            if source.exists():
                shutil.copy(source, f"{self.victim.path}{end}")

    def copy_without_log(self) -> None:
        """Fold, leave WAL mode, and copy the database."""
        self.fold()
        self.run("PRAGMA journal_mode = DELETE")
        shutil.copy(self.work, self.victim.path)


Story = Callable[[Author, int], None]


def _appended(author: Author, total: int) -> None:
    author.write(range(1, total + 1))


def _churned(author: Author, total: int) -> None:
    maker = author.victim.maker
    for part in range(4):
        first = 1 + part * total // 4
        author.write(range(first, first + total // 4))
        known = sorted(author.victim.live)
        author.write(maker.sample(known, len(known) // 6))
        author.delete(maker.sample(known, len(known) // 10))


STORIES: dict[str, Story] = {"appended": _appended, "churned": _churned}


def build(
    schema: Schema,
    story: str,
    place: str,
    directory: Path,
    maker: random.Random,
    total: int,
    after: Callable[[Author], None] | None = None,
) -> Victim:
    """Make a victim. `place` is that of its rows: ``log``, ``main``, or ``both``, half of each.

    `after` goes on with the history before the files are copied.
    """
    directory.mkdir(parents=True)
    work = directory.parent / f"{directory.name}-work.db"
    victim = Victim(schema, directory, maker)
    author = Author(victim, work)
    with closing(author.conn):
        author.create()
        if place == "log":
            author.fold()
        if place == "both":
            STORIES[story](author, total)
            author.fold()
            author.write(range(total + 1, total + 1 + total // 2))
        else:
            STORIES[story](author, total)
        if after is not None:
            if place == "main":
                author.fold()
            after(author)
        if place == "main":
            author.copy_without_log()
        else:
            author.copy()
    for end in ("", "-wal", "-shm"):
        Path(f"{work}{end}").unlink(missing_ok=True)
    return victim
