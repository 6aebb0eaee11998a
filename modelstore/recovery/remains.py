"""Rows of damaged tables that only stray bytes still hold.

A damaged page may have whole cells that no pointer leads to. The free space of other pages may have
older copies of rows, because SQLite moves rows and leaves their bytes. Nothing proves that such a
row was not deleted: it is set aside, and only if a page or a cell that cannot be read may have had
its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.recovery.additions import Source
from modelstore.recovery.carve import CarvedRow, carve
from modelstore.recovery.free_space import PageImage
from modelstore.recovery.orphans import count_found, free_pages
from modelstore.recovery.trees import TreeReader
from modelstore.wal.pages import CorruptPageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modelstore.recovery.additions import Additions
    from modelstore.recovery.states import State, StateView
    from modelstore.recovery.tables import Table
    from modelstore.recovery.trees import Gap

_MAX_PAGES = 50_000  # whose free space is searched; others give up damaged and free pages alone
_MAX_COMPARED = 2_000_000  # rows of damaged tables that are remembered without their keys


class Remains:
    """Finds the rows of damaged tables in damaged pages, in free pages and in free space."""

    def __init__(
        self,
        state: State,
        reader: TreeReader,
        additions: Additions,
        gaps: Mapping[str, Sequence[Gap]],
        owners: dict[int, str],
    ) -> None:
        self.state = state
        self.view: StateView = state.view()
        self.reader = reader
        self.additions = additions
        self.gaps = gaps
        self.free, _ = free_pages(self.view)
        self.damaged = {gap.page for of_table in gaps.values() for gap in of_table}
        self.owners = owners
        self._contents: dict[str, set[int]] = {}

    def add(self, tables: Sequence[Table]) -> None:
        """Set aside the rows of `tables` that their gaps may have had."""
        for table in tables:
            walk = TreeReader(self.view, mends=True)
            for found in walk.pages(table.root, has_rowid=table.has_rowid):
                self.owners.setdefault(found.number, table.name)
        for row in carve(self, tables, self.view.header.encoding, self._read_unused):
            if self._is_lost(row):
                where = "a damaged page" if self._is_stray(row.page) else "free space"
                note = f"from {where}: it may have been deleted or changed before the damage"
                source = Source(
                    row.origin, row.page, row.frame, None, round(0.9 * row.confidence, 2),
                    f"{note}; {row.note}" if row.note else note,
                )  # fmt: skip
                self.additions.set_aside(row.table, row.values, row.rowid, source)
                count_found(self.gaps[row.table.name], row.rowid)

    def __iter__(self) -> Iterator[PageImage]:
        """Yield the pages that may hold such rows; `carve` reads them more than once."""
        is_large = self.view.page_count > _MAX_PAGES
        for number in range(2, self.view.page_count + 1):
            owner = self.owners.get(number)
            is_stray = self._is_stray(number)
            if number in self.reader.chains or not (is_stray or (owner and not is_large)):
                continue
            try:
                data = self.view.page(number)
            except CorruptPageError:
                continue
            file, frame = self.state.source(number)
            cut = tuple(self.reader.bad_cells.get(number, ()))
            yield PageImage(number, data, file, self.view.usable, frame, owner, is_stray, cut)

    def _is_stray(self, number: int) -> bool:
        """Return True if a page is damaged, free or part of no tree: its rows may be lost ones."""
        return number in self.damaged or number in self.free or number not in self.reader.seen

    def _read_unused(self, number: int) -> bytes:
        """Return the bytes of a page that can be part of a lost row's overflow chain."""
        if number in self.reader.seen or number in self.reader.chains:
            return b""
        try:
            return self.view.page(number)
        except CorruptPageError:
            return b""

    def _is_lost(self, row: CarvedRow) -> bool:
        """Return True if a gap may have had this row, and the new file does not have it."""
        gaps = self.gaps[row.table.name]
        if row.table.has_rowid and row.rowid is None:
            return _without_key(row.table, row.values) not in self._known(row.table)
        if row.table.has_rowid and not any(gap.has(row.rowid) for gap in gaps):
            return False
        return self.additions.current(row.table, row.values, row.rowid) is None

    def _known(self, table: Table) -> set[int]:
        """Return what the new file has of a table, without its keys."""
        known = self._contents.get(table.name)
        if known is None:
            known = self._contents[table.name] = set()
            for row in self.additions.rows(table):
                if len(known) < _MAX_COMPARED:
                    known.add(_without_key(table, row))
        return known


def _without_key(table: Table, values: Sequence[object]) -> int:
    """Return a hash of a row's values other than its rowid."""
    return hash(tuple(value for place, value in enumerate(values) if place != table.alias))
