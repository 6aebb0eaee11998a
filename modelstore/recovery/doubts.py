"""Rows of a whole database whose text has lost a sector.

SQLite has no checksum for the text of a row: integrity_check passes although a sector of an
overflow page reads as zeros. Such a row stays as it is, and is marked.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Additions, Source, key_text
from modelstore.recovery.damage import SECTOR
from modelstore.recovery.tables import Table, quoted, tables_of
from modelstore.recovery.trees import TreeReader
from modelstore.wal.format import DATABASE_HEADER_SIZE
from modelstore.wal.pages import INTERIORS, TREE_KINDS

if TYPE_CHECKING:
    from modelstore.recovery.states import State

_MAX_MARKED = 10_000  # rows of one table
_PIECE = 1 << 18  # bytes read at once; larger pieces leave the processor's cache
_ZEROS = bytes(SECTOR)
_LIKE_A_TREE = 1 << 25  # the link to such a page begins as a b-tree page does


def may_have_lost_sectors(draft: str, page_size: int) -> bool:
    """Return True if a sector of zeros lies where a row may be; most databases have none."""
    buffer = bytearray(_PIECE)
    first = 1
    with open(draft, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            at = buffer.find(_ZEROS, 0, size)
            while at >= 0:
                at = -(-at // SECTOR) * SECTOR
                if buffer.startswith(_ZEROS, at) and at < size:
                    index = at // page_size
                    page = buffer[index * page_size : (index + 1) * page_size]
                    content = index * page_size + _first_cell(page, first + index)
                    if content < at + SECTOR:
                        return True
                    at = content
                at = buffer.find(_ZEROS, at, size)
            first += _PIECE // page_size
    return first > _LIKE_A_TREE


def _first_cell(page: bytes | bytearray, number: int) -> int:
    """Return the offset of the first cell in a b-tree page, its end if it has none; else 0."""
    start = DATABASE_HEADER_SIZE if number == 1 else 0
    if page[start] not in TREE_KINDS:
        return 0
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    begin = start + (12 if page[start] in INTERIORS else 8)
    if begin + 2 * count > len(page):
        return 0
    return min(struct.unpack_from(f">{count}H", page, begin), default=len(page))


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
