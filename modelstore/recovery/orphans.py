"""Leaves that no tree leads to, because a page above them is gone.

The pointer map of a database with auto_vacuum names the tree of each page. Without one, a leaf
belongs to the only damaged table that all of its rows fit, by their types and by their rowids. If
they fit several tables, they are set aside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.recovery.additions import Source, bindable
from modelstore.recovery.damage import PointerMap
from modelstore.recovery.states import looks_like_tree
from modelstore.recovery.tables import quoted
from modelstore.recovery.unnamed import UnnamedTrees
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    BtreePage,
    CorruptPageError,
    PageSet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modelstore.recovery.additions import Additions
    from modelstore.recovery.states import State, StateView
    from modelstore.recovery.tables import Table
    from modelstore.recovery.trees import Gap, StoredRow, TreeReader

_MAX_NAME = 100
_ENOUGH = 3  # rows with NULL in the place of a rowid
_ENTRIES = {TABLE_LEAF}, {INDEX_LEAF, INDEX_INTERIOR}


class Orphans:
    """Adds the rows of leaves without a parent to the new file.

    `gaps` are those of each table, `owners` the pages whose table was found.
    """

    def __init__(
        self,
        state: State,
        reader: TreeReader,
        additions: Additions,
        gaps: Mapping[str, Sequence[Gap]],
    ) -> None:
        self.state = state
        self.view: StateView = state.view()
        self.reader = reader
        self.additions = additions
        self.gaps = gaps
        self.pointers = PointerMap(self.view)
        self.free, self.is_certain = free_pages(self.view)
        self.owners: dict[int, str] = {}

    def add(self, damaged: Sequence[Table]) -> None:
        """Add the rows of each leaf to its table; set them aside if that is not certain."""
        kinds: set[int] = set().union(*(_ENTRIES[not table.has_rowid] for table in damaged))
        for page in self._pages(kinds):
            rows = list(self.reader.rows_in(page))
            owners = self._owners(damaged, page.number, rows)
            if not owners:
                continue
            self.reader.seen.add(page.number)
            if len(owners) == 1:
                self.owners[page.number] = owners[0].name
            for row in rows:
                if len(owners) == 1:
                    self._add(owners[0], row)
                else:
                    self._set_aside(owners, row)

    def _owners(
        self, damaged: Sequence[Table], number: int, rows: Sequence[StoredRow]
    ) -> list[Table]:
        """Return the damaged tables that a page may belong to; the pointer map knows the one."""
        root = self.pointers.root(number)
        if root:
            return [table for table in damaged if table.root == root and rows]
        fitting = [t for t in damaged if rows and all(self._fits(t, row) for row in rows)]
        # A record holds NULL for the rowid. Another column is seldom NULL in each row of a page.
        with_alias = [table for table in fitting if table.alias is not None]
        return with_alias if len(rows) >= _ENOUGH and len(with_alias) == 1 else fitting

    def _fits(self, table: Table, row: StoredRow) -> bool:
        return table.fits(row.rowid, row.stored) and any(
            gap.has(row.rowid) for gap in self.gaps[table.name]
        )

    def _add(self, table: Table, row: StoredRow) -> None:
        values = table.values(row.rowid, row.stored)
        file, frame = self.state.source(row.page)
        source = Source(file, row.page, frame, confidence=0.9, note="told from its page alone")
        is_live = self.is_certain and not row.lost and not row.is_doubtful
        if is_live and self.additions.fit(table, values, row.rowid, source):
            count_found(self.gaps[table.name], row.rowid)
            return
        if self.additions.current(table, values, row.rowid) != list(values):
            self.additions.set_aside(table, values, row.rowid, source)
            count_found(self.gaps[table.name], row.rowid)

    def _set_aside(self, owners: Sequence[Table], row: StoredRow) -> None:
        """Set a row aside that may be of several tables."""
        first = owners[0]
        name = "_or_".join(table.name for table in owners)[:_MAX_NAME]
        table = replace(first, name=name)
        file, frame = self.state.source(row.page)
        source = Source(file, row.page, frame, confidence=0.5, note="its table is not certain")
        self.additions.set_aside(table, table.values(row.rowid, row.stored), row.rowid, source)
        for owner in owners:
            count_found(self.gaps[owner.name], row.rowid)

    def add_unnamed(self) -> None:
        """Add the rows of all leaves to tables that are made for them: the schema is gone."""
        trees = UnnamedTrees(self.additions.conn, self.view)
        for page in self._pages(_ENTRIES[0]):
            self._add_unnamed(trees, page)
        trees.add_tables_without_rowids(self.reader)

    def add_trees(self, roots: Sequence[int]) -> None:
        """Add the rows of whole trees to tables that are made for them: their SQL is damaged."""
        trees = UnnamedTrees(self.additions.conn, self.view) if roots else None
        for root in roots:
            for found in self.reader.pages(root):
                if trees is not None and found.page is not None:
                    self._add_unnamed(trees, found.page)

    def _add_unnamed(self, trees: UnnamedTrees, page: BtreePage) -> None:
        rows = list(self.reader.rows_in(page))
        if not rows:
            return
        table = trees.table(page, rows)
        marks = ", ".join("?" * (len(table.columns) + 1))
        self.additions.conn.executemany(
            f"INSERT INTO {quoted(table.name)} VALUES ({marks})",
            ((row.rowid, *map(bindable, table.values(row.rowid, row.stored))) for row in rows),
        )

    def _pages(self, kinds: set[int]) -> Iterator[BtreePage]:
        """Yield the pages of these kinds that are part of no known tree, nor free."""
        for number in range(1, self.view.page_count + 1):
            if number in self.reader.seen or number in self.free or number in self.reader.chains:
                continue
            try:
                page = self.view.btree_page(number)
            except CorruptPageError:
                continue
            if page.kind in kinds and (number == 1 or looks_like_tree(page.data)):
                yield page


def count_found(gaps: Sequence[Gap], rowid: int | None) -> None:
    """Count a row in the gaps that it fills: without a rowid in all of them."""
    for gap in gaps:
        if gap.has(rowid):
            gap.found += 1


def free_pages(view: StateView) -> tuple[PageSet, bool]:
    """Return the pages on the freelist, and if they are as many as the header says."""
    free = PageSet()
    trunk = view.header.freelist_trunk
    total = 0
    while trunk and free.add(trunk):
        total += 1
        try:
            data = view.page(trunk)
        except CorruptPageError:
            break
        count = min(int.from_bytes(data[4:8], "big"), view.usable // 4 - 2)
        for n in range(count):
            total += free.add(int.from_bytes(data[8 + 4 * n : 12 + 4 * n], "big"))
        trunk = int.from_bytes(data[:4], "big")
    return free, total == view.header.freelist_count
