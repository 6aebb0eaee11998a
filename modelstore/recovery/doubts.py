"""Rows of a whole database whose text has lost a sector.

SQLite has no checksum for the text of a row: integrity_check passes although a sector of an
overflow page reads as zeros. Such a row stays as it is, and is marked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Additions, Source, key_text
from modelstore.recovery.damage import SECTOR
from modelstore.recovery.free_space import PageImage, layout_of
from modelstore.recovery.tables import Table, quoted, tables_of
from modelstore.recovery.trees import TreeReader
from modelstore.wal.files import read_into
from modelstore.wal.format import PENDING_BYTE
from modelstore.wal.pages import TABLE_INTERIOR, TREE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.recovery.states import State

_MAX_MARKED = 10_000  # rows of one table
_PIECE = 1 << 18  # bytes read at once; larger pieces leave the processor's cache
_MAX_LOOKS = 20_000  # pages with zeros; SQL looks faster then
_ZEROS = bytes(SECTOR)
_LIKE_A_TREE = 1 << 25  # the link to such a page begins as a b-tree page does


def may_have_lost_sectors(state: State, draft: str) -> bool:
    """Return True if a sector of zeros may be part of a row; few databases have one.

    `draft` has the pages of `state`, and nothing else yet.
    """
    usable = state.view().usable
    for looks, (number, page) in enumerate(_pages_with_zeros(draft, state.page_size)):
        if looks > _MAX_LOOKS or _may_have_lost(PageImage(number, page, "", usable)):
            return True
    return state.page_count >= _LIKE_A_TREE


def _pages_with_zeros(path: str, page_size: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each page in which a sector is all zeros."""
    buffer = bytearray(_PIECE)
    offset = 0
    with open(path, "rb", buffering=0) as file:
        while size := read_into(file.fileno(), memoryview(buffer), offset):
            at = 0
            while (at := buffer.find(_ZEROS, at, size)) >= 0:
                at = -(-at // SECTOR) * SECTOR
                if at < size and buffer.startswith(_ZEROS, at):
                    begin = at // page_size * page_size
                    at = begin + page_size
                    yield (offset + begin) // page_size + 1, bytes(buffer[begin:at])
            offset += size


def _may_have_lost(image: PageImage) -> bool:
    page = image.data
    if image.number == PENDING_BYTE // len(page) + 1:
        return False  # SQLite locks this page, and never writes it
    if image.kind == TABLE_INTERIOR:
        return False  # no row is in it
    if image.kind not in TREE_KINDS:
        return True
    zeros = [at for at in range(0, len(page), SECTOR) if page.startswith(_ZEROS, at)]
    spans = layout_of(image).spans
    return any(span.start < at + SECTOR and span.end > at for at in zeros for span in spans)


def mark_doubtful_rows(state: State, additions: Additions) -> int:
    """Mark the rows of the new file whose text has lost bytes; return their number."""
    reader = TreeReader(state.view(), mends=True)
    marked = 0
    for table in tables_of(additions.conn):
        if not table.root or not _has_zeros(additions.conn, table):
            continue
        found = 0
        for row in reader.rows(table.root, has_rowid=table.has_rowid):
            if not row.lost or found >= _MAX_MARKED:
                continue
            found += 1
            values = table.values(row.rowid, row.stored)
            file, frame = state.source(row.page)
            names = table.names_at(row.lost)
            source = Source(file, row.page, frame, confidence=0.5)
            key = key_text(table, values, row.rowid)
            note = f"bytes are lost: {names}, zeros stand for them"
            additions.note(table.name, table.name, key, replace(source, note=note))
        marked += found
    return marked


def _has_zeros(conn: sqlite3.Connection, table: Table) -> bool:
    """Return True if a text of the table has a NUL character, which texts seldom have."""
    tests = " OR ".join(
        f"(typeof({quoted(column.name)}) = 'text' AND instr({quoted(column.name)}, char(0)))"
        for column in table.columns
        if column.affinity not in ("INTEGER", "REAL")
    )
    if not tests:
        return False
    try:
        sql = f"SELECT 1 FROM {quoted(table.name)} WHERE {tests} LIMIT 1"
        return conn.execute(sql).fetchone() is not None
    except (sqlite3.Error, UnicodeError):
        return False
