"""An independent look at a database: another SQLite, on copies, and a plain reading of the log."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from tests.wal.logfiles import naive_checksum

Rows = dict[tuple[Any, ...], tuple[Any, ...]]
_LIMIT = 5.0  # seconds of processor time for one look at a hostile database


@dataclass(frozen=True, slots=True)
class Look:
    """What SQLite reads. `problem` where it cannot; `sound` where integrity_check says ok."""

    problem: str | None = None  # the first; other tables may be read
    sound: bool = False
    tables: dict[str, Rows] = field(default_factory=dict)  # by rowid
    schema: frozenset[tuple[Any, ...]] = frozenset()

    def column(self, name: str, table: str = "models") -> list[Any]:
        """Return the values of one column, by rowid; raw bytes as surrogates."""
        rows = self.tables.get(table, {(): ()})
        at = rows[()].index(name) if name in rows[()] else -1
        return [row[at] for key, row in rows.items() if key]

    def count(self, table: str = "models") -> int | None:
        return len(self.tables[table]) - 1 if table in self.tables else None


def in_memory(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Return a directory that costs no disk's sync where there is such a place."""
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(prefix=prefix, dir=memory if os.path.isdir(memory) else None)


def look(path: Path, scratch: Path, *, log: bool = True) -> Look:
    """Return what is in a database, with its log or without, as its copy tells."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    copy = scratch / "copy.db"
    if not path.is_file():
        return Look(problem="there is none")
    shutil.copyfile(path, copy)
    if log and Path(f"{path}-wal").is_file():
        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
    try:
        connection = apsw.Connection(str(copy))
    except apsw.Error as error:
        return Look(problem=str(error))
    deadline = time.thread_time() + _LIMIT
    connection.setprogresshandler(lambda: time.thread_time() > deadline, 1000)
    try:
        return _read(connection)
    except apsw.Error as error:
        return Look(problem=str(error))
    finally:
        connection.close()


def _read(connection: apsw.Connection) -> Look:
    encoding = str(connection.execute("PRAGMA encoding").fetchone()[0])  # type: ignore[index]
    schema = connection.execute(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB), rootpage"
        " FROM sqlite_schema"
    ).fetchall()
    tables: dict[str, Rows] = {}
    problem = None
    for kind, name, _, root in schema:
        if _text(kind, encoding) == "table" and root:
            try:
                tables[_text(name, encoding)] = _rows(connection, _text(name, encoding), encoding)
            except apsw.Error as error:
                problem = problem or str(error)
    try:
        sound = connection.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)]
    except apsw.Error as error:
        problem, sound = problem or str(error), False
    return Look(problem, sound, tables, frozenset(row[:3] for row in schema))


def _rows(connection: apsw.Connection, name: str, encoding: str) -> Rows:
    quoted = '"' + name.replace('"', '""') + '"'
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({quoted})")]
    wanted = ", ".join(
        f"typeof({c}), CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END"
        for c in ('"' + column.replace('"', '""') + '"' for column in columns)
    )
    is_without = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
    ).fetchone()
    key = 'hex("' + columns[0] + '")' if is_without and is_without[0] else "_rowid_"
    rows: Rows = {(): tuple(columns)}
    for row in connection.execute(f"SELECT {key}, {wanted} FROM {quoted} NOT INDEXED"):
        pairs = zip(row[1::2], row[2::2], strict=True)
        number = row[:1]
        while number in rows:  # of a broken tree
            number = (*number, "again")
        rows[number] = tuple(
            _text(value, encoding) if kind == "text" else value for kind, value in pairs
        )
    return rows


def _text(raw: object, encoding: str) -> str:
    if not isinstance(raw, bytes):
        return ""
    if encoding == "UTF-8":
        return raw.decode("utf-8", "surrogateescape")
    return raw[: len(raw) // 2 * 2].decode(encoding, "surrogatepass")


def missing_rows(before: Look, after: Look) -> list[str]:
    """Name the rows of `before` that `after` lacks or has otherwise."""
    gone = []
    for name, rows in before.tables.items():
        kept = after.tables.get(name, {})
        gone += [f"{name} {key}" for key, row in rows.items() if kept.get(key) != row]
    return gone


def hides_commits(log: bytes) -> bool:
    """Tell whether SQLite would silently drop intact commits of this log's own generation."""
    if len(log) < 32:
        return False
    magic, _, page_size, _, salt0, salt1, sum0, sum1 = struct.unpack(">8I", log[:32])
    if magic & ~1 != 0x377F0682 or page_size not in {1 << n for n in range(9, 17)}:
        return False  # unreadable from its start: another question
    big_endian = bool(magic & 1)
    if naive_checksum(log[:24], (0, 0), big_endian=big_endian) != (sum0, sum1):
        return False
    state = sum0, sum1
    broken = False
    for start in range(32, len(log) - page_size - 23, page_size + 24):
        page, commit, *rest = struct.unpack_from(">6I", log, start)
        stored = rest[2], rest[3]
        body = log[start + 24 : start + 24 + page_size]
        computed = naive_checksum(log[start : start + 8], state, big_endian=big_endian)
        computed = naive_checksum(body, computed, big_endian=big_endian)
        good = computed == stored and (rest[0], rest[1]) == (salt0, salt1) and page > 0
        if broken and good and commit:
            return True
        broken = broken or not good
        state = stored
    return False
