"""Rows of a damaged table out of its indexes: each entry names a row that the table had.

An index whose columns are all that the table has gives the row itself; another one still proves
that the row existed. https://www.sqlite.org/fileformat2.html#representation_of_sql_indices
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.recovery.additions import Source
from modelstore.recovery.trees import TreeReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.sqlite import sqlite3
    from modelstore.recovery.additions import Additions
    from modelstore.recovery.states import State, StateView
    from modelstore.recovery.tables import Table
    from modelstore.wal.record import Value
    from modelstore.wal.schema import SchemaObject

_ROWID = -1
_MAX_MISSING = 1_000_000  # rowids that are remembered


def add_from_indexes(
    view: StateView,
    state: State,
    table: Table,
    objects: Sequence[SchemaObject],
    additions: Additions,
) -> int:
    """Add the rows that an index holds whole; return how many others it proves to be missing."""
    if not table.has_rowid:
        return 0
    missing: set[int] = set()
    for item in objects:
        if item.type != "index" or item.table.lower() != table.name.lower() or not item.root:
            continue
        places = _places(additions.conn, table, item.name)
        if places is None:
            continue
        is_covering = set(places) >= set(range(len(table.columns))) - {table.alias}
        reader = TreeReader(view)
        for row in reader.rows(item.root):
            rowid = row.stored[-1] if len(row.stored) == len(places) + 1 else None
            if not isinstance(rowid, int) or additions.current(table, (), rowid) is not None:
                continue
            file, frame = state.source(row.page)
            source = Source(file, row.page, frame, confidence=0.95, note=f"index {item.name}")
            values = _row(table, places, row.stored, rowid)
            if is_covering and additions.fit(table, values, rowid, source):
                missing.discard(rowid)
            elif len(missing) < _MAX_MISSING:
                missing.add(rowid)
    return len(missing)


def _places(conn: sqlite3.Connection, table: Table, index: str) -> list[int] | None:
    """Return the columns of an index before its rowid; None if it has an expression."""
    rows = conn.execute("SELECT cid, name FROM pragma_index_xinfo(?)", (index,)).fetchall()
    names = [column.name for column in table.columns]
    if not rows or rows[-1][0] != _ROWID:
        return None
    wanted = [name for _, name in rows[:-1]]
    if any(cid < 0 for cid, _ in rows[:-1]) or any(name not in names for name in wanted):
        return None
    return [names.index(name) for name in wanted]


def _row(
    table: Table, places: Sequence[int], stored: Sequence[Value], rowid: int
) -> tuple[Value, ...]:
    row: list[Value] = [None] * len(table.columns)
    for place, value in zip(places, stored, strict=False):
        row[place] = value
    if table.alias is not None:
        row[table.alias] = rowid
    return tuple(row)
