"""Databases with a known history: each row that was ever committed is known, and can be found.

Every row has a mark at its beginning and at its end, different for each version of it, and long
rows have marks all along: if all are still in the files, then the bytes of the row exist.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
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

    def row(self, n: int, v: int) -> Row:
        """Return a version of a row: always the same one."""
        return self.make(n, *self.marks(n, v), random.Random(f"row {n} {v}"))


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
    committed, with its marks.
    """

    schema: Schema
    directory: Path
    maker: random.Random
    live: dict[Any, Row] = field(default_factory=dict)
    versions: dict[Row, tuple[str, str]] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    gone: set[Row] = field(default_factory=set)

    @property
    def path(self) -> Path:
        """The database."""
        return self.directory / DATABASE

    @property
    def log(self) -> Path:
        """Its log."""
        return self.directory / f"{DATABASE}-wal"

    def existing(self) -> set[Row]:
        """Return the rows, of all that were ever committed, whose bytes are still in the files."""
        content = b"\0".join(file.read_bytes() for file in sorted(self.directory.iterdir()))
        code = self.schema.encoding
        words = set(_WORD.findall(content))
        return {
            row
            for row, marks in self.versions.items()
            if _has_marks(content, marks[0].encode(code), marks[1].encode(code), row)
            and all(_has_words(value, words, content) for value in row)
        }


def _has_marks(content: bytes, first: bytes, last: bytes, row: Row) -> bool:
    """Return True if both marks exist; those of a short row must be near each other."""
    if any(isinstance(value, str) and len(value) > 200 for value in row):
        return first in content and last in content
    at = content.find(first)
    while at >= 0:
        if content.find(last, at, at + 400) >= 0:
            return True
        at = content.find(first, at + 1)
    return False


def _has_words(value: object, words: set[bytes], content: bytes) -> bool:
    """Return True if each word of a long text exists; a page may end within one."""
    if not isinstance(value, str) or len(value) < 100:
        return True
    own = value.encode()
    return all(
        match[0] in words or _is_split(own, match.start(), content) for match in _WORD.finditer(own)
    )


def _is_split(text: bytes, start: int, content: bytes) -> bool:
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
