"""The readers of recovery, each behind one function that takes bytes and must not mind them.

The million mutants of ``python -m tests.torture --only parsers`` go through them too.
"""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from modelstore.errors import ModelstoreError
from modelstore.recovery.carve import Carver
from modelstore.recovery.choices import Choices
from modelstore.recovery.damage import PointerMap
from modelstore.recovery.evidence import Evidence, EvidenceFile, Origin, Pair
from modelstore.recovery.free_space import PageImage
from modelstore.recovery.history import read_history
from modelstore.recovery.orphans import free_pages
from modelstore.recovery.rollback import read_rollback
from modelstore.recovery.salvage import read_objects
from modelstore.recovery.states import State, candidate_states
from modelstore.recovery.tables import Column, Table
from modelstore.recovery.trees import StoredRow, TreeReader
from modelstore.wal.pages import CorruptPageError
from tests.torture.mutate import WORDS, mutated, mutated_database, mutated_log, mutated_page
from tests.torture.targets import Parser, WrongAnswerError

_INT64 = 1 << 63
_MAX_STATES = 2
_SIZE = 512

_SQL = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, body TEXT)",
    "CREATE TABLE w (k TEXT PRIMARY KEY, v BLOB, n INTEGER) WITHOUT ROWID",
    "CREATE INDEX t_name ON t (name)",
)
_TABLES = (
    Table("t", 2, (Column("id", "INTEGER"), Column("name", "TEXT", not_null=True),
                   Column("body", "TEXT")), 0, has_rowid=True),
    Table("w", 3, (Column("k", "TEXT", not_null=True), Column("v", "BLOB"),
                   Column("n", "INTEGER")), None, has_rowid=False, order=(0, 1, 2), key_size=1),
)  # fmt: skip


def _fill(conn: sqlite3.Connection, first: int, count: int) -> None:
    for n in range(first, first + count):
        conn.execute("INSERT INTO t VALUES (?, ?, ?)", (n, f"name {n}", "word " * (n * 7 % 150)))
        conn.execute("INSERT INTO w VALUES (?, ?, ?)", (f"key {n}", bytes(n % 40), n * 1000))


@cache
def sound_pairs() -> list[tuple[bytes, bytes]]:
    """Return small databases with their logs: with and without auto_vacuum, UTF-8 and UTF-16."""
    found = []
    for vacuum, encoding in (("NONE", "UTF-8"), ("FULL", "UTF-16le")):
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / "a.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as conn:
                for name, value in (("page_size", _SIZE), ("auto_vacuum", vacuum),
                                    ("encoding", f"'{encoding}'"), ("journal_mode", "WAL"),
                                    ("wal_autocheckpoint", 0)):  # fmt: skip
                    conn.execute(f"PRAGMA {name} = {value}").fetchall()
                for sql in _SQL:
                    conn.execute(sql)
                _fill(conn, 1, 14)
                conn.execute("DELETE FROM t WHERE id % 4 = 0")
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                _fill(conn, 40, 2)
                conn.execute("DELETE FROM t WHERE id = 3")
                found.append((path.read_bytes(), Path(f"{path}-wal").read_bytes()))
    return found


@cache
def _descriptor(name: str) -> int:
    return os.memfd_create(name)


def _held(name: str, data: bytes) -> EvidenceFile:
    """Return a file in memory that holds `data`."""
    fd = _descriptor(name)
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    return EvidenceFile(fd, name, name, Origin.PATH, identity=(0, fd))


def _expect_unchanged(name: str, data: bytes) -> None:
    if os.pread(_descriptor(name), len(data) + 1, 0) != data:
        raise WrongAnswerError(f"the {name} was changed")


def _expect_row(row: StoredRow) -> None:
    if row.rowid is not None and not -_INT64 <= row.rowid < _INT64:
        raise WrongAnswerError(f"a rowid beyond 64 bits: {row.rowid}")
    if any(isinstance(value, int) and not -_INT64 <= value < _INT64 for value in row.stored):
        raise WrongAnswerError(f"an integer beyond 64 bits in page {row.page}")


def feed_pair(data: bytes) -> None:
    """Take a database and its log behind each other; the first four bytes say where."""
    cut = int.from_bytes(data[:4], "little")
    main, log = data[4 : 4 + cut], data[4 + cut :]
    pair = Pair(_held("database", main), _held("log", log) if log else None)
    choices = Choices(Evidence("database", (pair,)))
    choices.read_logs()
    for state in choices.states()[:_MAX_STATES]:
        _read(state)
    for history in choices.logs.values():
        for generation in history.generations:
            for at in range(len(generation.page_numbers)):
                history.image(generation.first + at)
    _expect_unchanged("database", main)
    if log:
        _expect_unchanged("log", log)


def feed_log(data: bytes) -> None:
    history = read_history(_held("log", data).fd)
    for generation in () if history is None else history.generations:
        if not generation.first - 1 <= generation.exact_end <= generation.end:
            raise WrongAnswerError(f"exact up to {generation.exact_end} of {generation.end}")
        for frame in generation.latest(generation.end).values():
            if history is not None and len(history.image(frame)) > history.page_size:
                raise WrongAnswerError(f"frame {frame} is larger than a page")
    _expect_unchanged("log", data)


def feed_database(data: bytes) -> None:
    for state in candidate_states(Pair(_held("database", data), None), None):
        _read(state)
    _expect_unchanged("database", data)


def _read(state: State) -> None:
    """Read all that a state has."""
    try:
        view = state.view()
    except ModelstoreError:
        return
    objects = read_objects(view)
    free_pages(view)
    pointers = PointerMap(view)
    reader = TreeReader(view, mends=True)
    for item in objects:
        for row in reader.rows(item.root) if item.root else ():
            _expect_row(row)
    for number in range(1, min(view.page_count, 64) + 1):
        pointers.root(number)
        if number in reader.seen:
            continue
        try:
            page = view.btree_page(number)
        except CorruptPageError:
            continue
        for row in TreeReader(view).rows_in(page):
            _expect_row(row)


@cache
def _carver(encoding: int) -> Carver:
    """Return a carver that has learned from sound pages."""
    carver = Carver(_TABLES, encoding, lambda number: _pages()[number % len(_pages())])
    for page in _pages():
        for table in _TABLES:
            carver.learn(PageImage(2, page, "main", _SIZE, owner=table.name))
    carver.settle()
    return carver


def feed_page(data: bytes) -> None:
    """Look for deleted rows in one page; its first byte says what kind of page it is."""
    kind, page = data[0], data[1 : 1 + _SIZE].ljust(_SIZE, b"\0")
    owner = ("t", "w", None)[kind % 3]
    image = PageImage(2, page, "main", _SIZE, owner=owner, is_free=owner is None)
    for row in _carver(1 + kind // 3 % 3).rows(image):
        if len(row.values) != len(row.table.columns) or not 0 <= row.confidence <= 1:
            raise WrongAnswerError(f"{row}")


def feed_journal(data: bytes) -> None:
    found = read_rollback(_held("journal", data))
    if found is not None:
        for number in found.pages:
            found.image(number)
    _expect_unchanged("journal", data)


@cache
def _pages() -> list[bytes]:
    files = [data for pair in sound_pairs() for data in pair]
    return [
        data[at : at + _SIZE]
        for data, start, step in zip(files, (0, 56) * 2, (_SIZE, _SIZE + 24) * 2, strict=True)
        for at in range(start + step, len(data) - _SIZE + 1, step)
    ]


@cache
def _journals() -> list[bytes]:
    """Return journals of one and of two segments."""
    pages = _pages()[:4]
    found = []
    for count in (2, 4):
        raw = bytearray()
        for at in range(0, count, 2):
            nonce = 77 + at
            head = bytes.fromhex("d9d505f920a163d7")
            head += struct.pack(">5I", 2, nonce, 9, _SIZE, _SIZE)
            raw += head.ljust(_SIZE, b"\0")
            for number, page in enumerate(pages[at : at + 2], 2 + at):
                total = (nonce + sum(page[_SIZE - 200 : 0 : -200])) & 0xFFFFFFFF
                raw += struct.pack(">I", number) + page + struct.pack(">I", total)
            raw += bytes(-len(raw) % _SIZE)
        found.append(bytes(raw))
    return found


def _pair(rng: random.Random) -> bytes:
    main, log = wrong_pair(rng)
    return len(main).to_bytes(4, "little") + main + log


def wrong_pair(rng: random.Random) -> tuple[bytes, bytes]:
    """Return a database and its log: one of them is wrong, or both, or the log is gone."""
    main, log = rng.choice(sound_pairs())
    kind = rng.randrange(6)
    if kind <= 2:
        log = mutated_log(rng, log)
    elif kind == 3:
        log = b""
    if kind >= 2:
        main = _main(rng, main)
    return main, log


def _main(rng: random.Random, data: bytes) -> bytes:
    return _looped(rng, data) if rng.random() < 0.4 else mutated_database(rng, data)


def _looped(rng: random.Random, data: bytes) -> bytes:
    """Return a database in which links, lengths or counts point to other places."""
    out = bytearray(data)
    pages = len(out) // _SIZE
    for _ in range(rng.choice((1, 2, 5))):
        start = rng.randrange(pages) * _SIZE
        word = rng.choice((*WORDS, *range(pages + 2))) & 0xFFFFFFFF
        at = rng.choice((0, 8, rng.randrange(_SIZE - 4), rng.randrange(_SIZE - 4)))
        struct.pack_into(">I", out, start + at, word)
    return bytes(out)


def _page(rng: random.Random) -> bytes:
    page = mutated_page(rng, rng.choice(_pages()))
    if rng.random() < 0.3:
        page = mutated(rng, page, _pages())
    return bytes([rng.randrange(9)]) + page


READERS = (
    Parser("recover log", 40, lambda rng: mutated_log(rng, rng.choice(sound_pairs())[1]), feed_log),
    Parser(
        "recover database", 30, lambda rng: _main(rng, rng.choice(sound_pairs())[0]), feed_database
    ),
    Parser("recover pair", 10, _pair, feed_pair),
    Parser("recover page", 10, _page, feed_page),
    Parser("recover journal", 10, lambda rng: mutated(rng, rng.choice(_journals())), feed_journal),
)
