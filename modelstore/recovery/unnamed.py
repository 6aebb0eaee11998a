"""Tables told from their pages alone, when no evidence holds the schema."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.recovery.additions import bindable, free_name
from modelstore.recovery.tables import Column, Table, quoted
from modelstore.wal.pages import INDEX_INTERIOR, INDEX_LEAF, CorruptPageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.sqlite import sqlite3
    from modelstore.recovery.states import StateView
    from modelstore.recovery.trees import StoredRow, TreeReader
    from modelstore.wal.pages import BtreePage

_MAX_COLUMNS = 2000
_MAX_DEPTH = 20
_MAX_ROWS = 2_000_000  # of tables without rowids, which memory holds
_SAMPLE = 50  # rows that are compared with others


class UnnamedTrees:
    """Tables for trees that no schema names: one for each tree, columns c0, c1 and so on.

    Leaves without a parent may be small tables, or parts of one whose interior pages are gone:
    those with rows of one width share a table.
    """

    def __init__(self, conn: sqlite3.Connection, view: StateView) -> None:
        self._conn = conn
        self._made: dict[tuple[int, int], Table] = {}
        self._parents: dict[int, int] = {}
        self._index_pages: list[int] = []
        for number in range(1, view.page_count + 1):
            try:
                page = view.btree_page(number)
            except CorruptPageError:
                continue
            if not page.is_leaf:
                for child in page.children():
                    self._parents.setdefault(child, number)
            if page.kind in (INDEX_LEAF, INDEX_INTERIOR) and page.cells:
                self._index_pages.append(number)

    def table(self, page: BtreePage, rows: Sequence[StoredRow]) -> Table:
        """Return the table of a leaf and its rows; create it if it is the first of its tree."""
        width = min(_MAX_COLUMNS, max(len(row.stored) for row in rows))
        root = self._root(page.number)
        key = (root, 0) if root else (0, width)
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = self._create(width)
        elif len(known.columns) < width:
            known = self._made[key] = self._widen(known, width)
        return known

    def _root(self, number: int) -> int:
        """Return the topmost page above a leaf; 0 if it has no parent."""
        root = 0
        for _ in range(_MAX_DEPTH):
            number = self._parents.get(number, 0)
            if not number:
                break
            root = number
        return root

    def _create(self, width: int) -> Table:
        name = free_name(self._conn, f"recovered_{len(self._made) + 1}")
        columns = tuple(Column(f"c{n}", "BLOB") for n in range(width))
        names = ", ".join(column.name for column in columns)
        self._conn.execute(f"CREATE TABLE {quoted(name)} (original_rowid INTEGER, {names})")
        return Table(name, 0, columns, None, has_rowid=True)

    def _widen(self, table: Table, width: int) -> Table:
        more = tuple(Column(f"c{n}", "BLOB") for n in range(len(table.columns), width))
        for column in more:
            self._conn.execute(f"ALTER TABLE {quoted(table.name)} ADD COLUMN {column.name}")
        return replace(table, columns=table.columns + more)

    def add_tables_without_rowids(self, reader: TreeReader) -> dict[str, int]:
        """Add the trees of index pages that are no index of another tree; return their rows.

        A table without rowids has the same pages as an index. The rows of an index are found in
        its table: its last values are a rowid, or the values are among those of a wider row.
        """
        trees: dict[int, list[StoredRow]] = {}
        for number in self._index_pages:
            with suppress(CorruptPageError):
                page = reader.view.btree_page(number)
                trees.setdefault(self._root(number) or number, []).extend(reader.rows_in(page))
                if sum(map(len, trees.values())) > _MAX_ROWS:
                    break
        added: dict[str, int] = {}
        kept: list[list[StoredRow]] = []
        for rows in sorted(trees.values(), key=lambda rows: -max(_widths(rows), default=0)):
            if not rows or self._names_rowids(rows) or any(_is_part(rows, w) for w in kept):
                continue
            kept.append(rows)
            table = self._create(min(_MAX_COLUMNS, max(_widths(rows))))
            self._made[-len(kept), 0] = table
            marks = ", ".join("?" * (len(table.columns) + 1))
            self._conn.executemany(
                f"INSERT INTO {quoted(table.name)} VALUES ({marks})",
                ((None, *map(bindable, table.values(None, row.stored))) for row in rows),
            )
            added[table.name] = len(rows)
        return added

    def _names_rowids(self, rows: Sequence[StoredRow]) -> bool:
        """Return True if the last values are rowids of one table that was made."""
        sample = [row.stored[-1] for row in rows[:_SAMPLE] if row.stored]
        if not all(isinstance(value, int) for value in sample):
            return False
        marks = ", ".join("?" * len(sample))
        for table in self._made.values():
            found = self._conn.execute(
                f"SELECT count(DISTINCT original_rowid) FROM {quoted(table.name)} "
                f"WHERE original_rowid IN ({marks})",
                sample,
            ).fetchone()[0]
            if 10 * int(found) >= 9 * len(set(sample)):
                return True
        return False


def _widths(rows: Sequence[StoredRow]) -> list[int]:
    return [len(row.stored) for row in rows]


def _is_part(rows: Sequence[StoredRow], wider: Sequence[StoredRow]) -> bool:
    """Return True if the values of a few rows are all among the values of wider rows."""
    sample = [set(map(repr, row.stored)) for row in rows[:3]]
    return all(any(part <= set(map(repr, row.stored)) for row in wider) for part in sample)
