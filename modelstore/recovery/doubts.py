"""Rows of a whole database whose text has lost a sector.

SQLite has no checksum for the text of a row: integrity_check passes although a sector of an
overflow page reads as zeros. Such a row stays as it is, and is marked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Additions, Source, key_text
from modelstore.recovery.tables import Table, quoted, tables_of
from modelstore.recovery.trees import TreeReader

if TYPE_CHECKING:
    from modelstore.recovery.states import State

_MAX_MARKED = 10_000  # rows of one table


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
