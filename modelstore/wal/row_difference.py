"""Difference of the rows of one table between two views of a database.

Rows of a rowid table arrive in the order of their rowids from both sides and are merged. The order
of a WITHOUT ROWID table depends on collations, so its rows are matched by digests of their keys, in
several passes if there are many. Memory is bounded, and the counts are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.wal.pages import TABLE_LEAF, BtreePage, Cell, CorruptPageError, PageSet
from modelstore.wal.record import first_values
from modelstore.wal.rows import OverBudgetError, RowSample, TableView
from modelstore.wal.schema_columns import has_other_alias

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS_AT_ONCE = 1_000_000  # digests in memory at a time: some 120 MB
_MAX_HEADER = 32_767  # bytes by which two forms of one row may differ: SQLite's bound on columns
_MAX_DECODED = 1 << 30  # bytes of a row: SQLite's bound
_MAX_COMPARED = 1 << 20  # bytes; a larger row counts as changed if its size differs
_NO_PAGE = BtreePage(0, TABLE_LEAF, b"", (), 0)


@dataclass(slots=True)
class RowDifference:
    """Rows of one table that change if the log goes; the kinds are those of `TableLoss`."""

    lost: RowSample
    reverted: RowSample
    returning: RowSample
    is_exact: bool = True
    same: int = 0  # of the rows that were compared

    @property
    def total(self) -> int:
        """The rows that change."""
        return self.lost.count + self.reverted.count + self.returning.count

    @property
    def may_be_renumbered(self) -> bool:
        """True if the rows may be the same ones under other rowids."""
        lost, returning = self.lost.count, self.returning.count
        is_moved = (lost and returning) or (self.reverted.count and (lost or returning))
        return bool(is_moved) and 2 * abs(lost - returning) <= self.total


def compare_rows(
    live: TableView | None,
    main: TableView | None,
    *,
    chains_differ: bool,
    limit: int,
    renumber: bool = False,
) -> RowDifference:
    """Compare the rows of a table with the log (`live`) and without it (`main`).

    Pass None for a view without this table. Set `chains_differ` if any overflow page may differ.
    Keeps `limit` keys of each kind. If the budget ends, the counts are lower bounds and `is_exact`
    is False. With `renumber`, the rows in the main file count as 1, 2, 3 and so on, as a VACUUM
    numbers them; both views must have all their leaves then. Raises `CorruptPageError`.
    """
    found = RowDifference(RowSample(limit), RowSample(limit), RowSample(limit))
    try:
        if live is None or main is None or live.has_rowids != main.has_rowids:
            _take_all(live, found.lost)
            _take_all(main, found.returning)
        elif live.has_rowids:
            merge = _Merge(live, main, found, chains_differ=chains_differ)
            merge.run(renumber=renumber)
        else:
            _match(live, main, found)
    except OverBudgetError:
        found.is_exact = False
    return found


def _take_all(table: TableView | None, found: RowSample) -> None:
    if table is not None and table.has_rowids:
        _Cursor(table).take_rest(found)
    elif table is not None:
        for page in table.pages():
            _take(table, page, 0, found)


def _take(table: TableView, page: BtreePage, start: int, found: RowSample) -> None:
    """Count the rows of a page from index `start` on; decode only the ones to keep."""
    found.count += len(page.cells) - start
    for place in range(start, len(page.cells)):
        if found.is_full:
            break
        found.keep(table, table.view.cell(page, place))


class _Cursor:
    """A position in the rows of a rowid table; `rowid` is None at the end.

    With `renumber`, rowids are 1, 2, 3 and so on, whatever they are in the table.
    """

    def __init__(self, table: TableView, *, renumber: bool = False) -> None:
        self.table = table
        self._renumber = renumber
        self._before = 0  # rows on the leaves before this one
        self.rowid: int | None = None
        self.last = 0  # the last rowid of the leaf
        self._numbers = iter(table.leaves)
        self._previous = -(1 << 63) - 1
        self._page = _NO_PAGE
        self._cells: list[Cell] = []  # of the page, parsed with the first use
        self._place = 0
        self.next_leaf()

    def next_leaf(self) -> None:
        """Move to the first row of the next leaf that has rows."""
        self.rowid = None
        for number in self._numbers:
            page = self.table.leaf(number)
            if page.cells:
                self._before += len(self._page.cells)
                self._page, self._cells, self._place = page, [], 0
                first, self.last = self._rowid_at(0), self._rowid_at(len(page.cells) - 1)
                self._arrive(first)
                if self.last - first < len(page.cells) - 1:  # as where a page is cut: all are 0
                    raise self._disorder()
                return

    def _rowid_at(self, place: int) -> int:
        if self._renumber:
            return self._before + place + 1
        return self.table.view.rowid(self._page, place)

    def _arrive(self, rowid: int) -> None:
        if not self._previous < rowid <= self.last:
            raise self._disorder()
        self.rowid = self._previous = rowid

    def _disorder(self) -> CorruptPageError:
        return self.table.view.corrupt(f"page {self._page.number} has rowids out of order")

    def cell(self) -> Cell:
        """Return the row at this position."""
        if not self._cells:
            self._cells = list(self.table.view.cells(self._page))
        return self._cells[self._place]

    def advance(self) -> None:
        """Move to the next row."""
        self._place += 1
        if self._place < len(self._page.cells):
            self._arrive(self._rowid_at(self._place))
        else:
            self.next_leaf()

    def take_leaf(self, found: RowSample) -> None:
        """Count the rest of this leaf and move to the next one."""
        _take(self.table, self._page, self._place, found)
        self._previous = self.last
        self.next_leaf()

    def take_rest(self, found: RowSample) -> None:
        """Count all rows from this one on."""
        while self.rowid is not None:
            self.take_leaf(found)

    def take(self, found: RowSample) -> None:
        """Count this row and move to the next one."""
        found.add(self.table, self.cell())
        self.advance()


class _Merge:
    """Merge of two rowid tables; takes whole leaves as long as they do not overlap."""

    def __init__(
        self, live: TableView, main: TableView, found: RowDifference, *, chains_differ: bool
    ) -> None:
        self._live = live
        self._main = main
        self._found = found
        self._chains_differ = chains_differ
        self._live_chains = PageSet()
        self._main_chains = PageSet()
        # The bytes of two rows are not alike if encodings or columns differ.
        self._has_other_alias = has_other_alias(live.sql, main.sql)
        self._by_values = live.decodes or main.has_dropped(live) or self._has_other_alias

    def run(self, *, renumber: bool) -> None:
        """Move both cursors to their ends; see `compare_rows`."""
        live, found = _Cursor(self._live), self._found
        main = _Cursor(self._main, renumber=renumber)
        while live.rowid is not None and main.rowid is not None:
            if live.last < main.rowid:
                live.take_leaf(found.lost)
            elif main.last < live.rowid:
                main.take_leaf(found.returning)
            elif live.rowid < main.rowid:
                live.take(found.lost)
            elif live.rowid > main.rowid:
                main.take(found.returning)
            else:
                if self._is_same(live.cell(), main.cell()):
                    found.same += 1
                else:
                    found.reverted.add(self._live, live.cell())
                live.advance()
                main.advance()
        live.take_rest(found.lost)
        main.take_rest(found.returning)

    def _is_same(self, live: Cell, main: Cell) -> bool:
        if self._by_values:
            return self._has_same_values(live, main)
        if live.size != main.size:
            return self._has_same_values(live, main)
        if self._live.view.usable != self._main.view.usable:
            return self._live.view.payload(live, seen=self._live_chains) == (
                self._main.view.payload(main, seen=self._main_chains)
            )
        if live.local[:2] != main.local[:2]:
            return self._has_same_values(live, main)  # the header's size or first type differs
        if live.local != main.local:
            return False
        if len(live.local) == live.size:
            return True
        if live.overflow == main.overflow and not self._chains_differ:
            return True
        return all(
            ours == theirs
            for (_, ours), (_, theirs) in zip(
                self._live.view.chain(live, self._live_chains),
                self._main.view.chain(main, self._main_chains),
                strict=True,
            )
        )

    def _has_same_values(self, live: Cell, main: Cell) -> bool:
        """Compare two records by the values of their tables' columns.

        Equal ones may differ in form: SQLite stores 0 and 1 in two ways.
        """
        is_far = not self._by_values and abs(live.size - main.size) > _MAX_HEADER
        if is_far and not (self._live.has_more_values(live) or self._main.has_more_values(main)):
            return False
        if max(live.size, main.size) > (_MAX_DECODED if self._by_values else _MAX_COMPARED):
            return False
        ours = self._live.view.payload(live, seen=self._live_chains)
        theirs = self._main.view.payload(main, seen=self._main_chains)
        rowids = (live.rowid, main.rowid) if self._has_other_alias else (None, None)
        rows = (
            self._live.stored(ours, self._live, rowids[0]),
            self._main.stored(theirs, self._live, rowids[1]),
        )
        known = [t.unsure_from for t in (self._live, self._main) if t.unsure_from is not None]
        if rows[0] == rows[1] or not known:
            return rows[0] == rows[1]
        self._found.is_exact = False
        one, two = (first_values(*row, min(known)) for row in rows)
        return one == two


def _match(live: TableView, main: TableView, found: RowDifference) -> None:
    """Match the rows of two WITHOUT ROWID tables by their keys."""
    if len(live.key_names) != len(main.key_names):  # a column of the key may have another name
        _take_all(live, found.lost)
        _take_all(main, found.returning)
        return
    rows = sum(len(page.cells) for page in live.pages())
    parts = rows // _ROWS_AT_ONCE + 1
    for part in range(parts):
        _match_part(live, main, found, part, parts)


def _match_part(
    live: TableView, main: TableView, found: RowDifference, part: int, parts: int
) -> None:
    rows = {key: content for key, content, _ in _digests(live, live, part, parts)}
    changed: set[int] = set()
    for key, content, cell in _digests(main, live, part, parts):
        ours = rows.pop(key, None)
        if ours is None:
            found.returning.add(main, cell)
        elif ours != content and main.unsure_from is not None:
            found.is_exact = False
        elif ours != content:
            found.reverted.count += 1
            changed.add(key)
        else:
            found.same += 1
    found.lost.count += len(rows)
    if (rows and not found.lost.is_full) or (changed and not found.reverted.is_full):
        for key, _, cell in _digests(live, live, part, parts):
            if found.lost.is_full and found.reverted.is_full:
                break
            if key in rows:
                found.lost.keep(live, cell)
            elif key in changed:
                found.reverted.keep(live, cell)


def _digests(
    table: TableView, live: TableView, part: int, parts: int
) -> Iterator[tuple[int, int, Cell]]:
    """Yield the digests of key and content of each row in one part of the keys, and its cell."""
    chains = PageSet()
    for page in table.pages():
        for cell in table.view.cells(page):
            key, row = table.row(cell, chains, live)
            digest = hash(key)  # 64 bits, keyed by a secret of the process
            if digest % parts == part:
                yield digest, hash(row), cell
