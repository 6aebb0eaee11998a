"""Which rows of a table differ between two views of the database.

Pages that both views share are never read. The rows of a rowid table come in the order of their
rowids from both sides and are merged; those of a WITHOUT ROWID table are in an order that only
its collations know, so that they are matched by digests of their keys, part by part where they
are many. Memory is bounded either way, and the counts are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.wal.overlay import PageSet
from modelstore.wal.pages import TABLE_LEAF, BtreePage, Cell
from modelstore.wal.rows import Found, OverBudgetError, RowDifference, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_PAGE = BtreePage(0, TABLE_LEAF, b"", (), 0)
_ROWS_AT_ONCE = 1_000_000  # whose digests are held: some 120 MB
_MAX_COLUMNS = 32_767  # SQLite's hard bound
_MAX_ROW = 1 << 20  # bytes; a larger row whose size differs is taken for changed


def compare_rows(
    live: Side | None, main: Side | None, *, chains_differ: bool, limit: int
) -> RowDifference:
    """Return how the rows of `live` (with the log) differ from those of `main` (without).

    A side is None where there is no such table. `chains_differ` tells whether any overflow page
    may differ; `limit` is how many keys of each kind to keep. Counts are lower bounds, and
    `is_exact` is False, where the budget ends. Raises `CorruptPageError`.
    """
    found = RowDifference(Found(limit), Found(limit), Found(limit))
    try:
        if live is None or main is None or live.has_rowids != main.has_rowids:
            _take_all(live, found.lost)
            _take_all(main, found.returning)
        elif live.has_rowids:
            _Merge(live, main, found, chains_differ=chains_differ).run()
        else:
            _match(live, main, found)
    except OverBudgetError:
        found.is_exact = False
    return found


def _take_all(side: Side | None, found: Found) -> None:
    if side is not None and side.has_rowids:
        _Cursor(side).take_rest(found)
    elif side is not None:
        for page in side.pages():
            _take(side, page, 0, found)


def _take(side: Side, page: BtreePage, start: int, found: Found) -> None:
    """Count the rows of a page from place `start` on; only those to be kept are looked at."""
    found.count += len(page.cells) - start
    for place in range(start, len(page.cells)):
        if found.is_full:
            break
        found.keep(side, side.view.cell(page, place))


class _Cursor:
    """A place in the rows of a rowid table; `rowid` is None at the end."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.rowid: int | None = None
        self.last = 0  # the last rowid of the leaf
        self._numbers = iter(side.leaves)
        self._previous = -(1 << 63) - 1
        self._page = _NO_PAGE
        self._cells: list[Cell] = []  # those of the page, once one of them is wanted
        self._place = 0
        self.next_leaf()

    def next_leaf(self) -> None:
        """Go to the first row of the next leaf that has any."""
        self.rowid = None
        for number in self._numbers:
            page = self.side.leaf(number)
            if page.cells:
                self._page, self._cells, self._place = page, [], 0
                self.last = self.side.view.rowid(page, len(page.cells) - 1)
                self._arrive(self.side.view.rowid(page, 0))
                return

    def _arrive(self, rowid: int) -> None:
        if not self._previous < rowid <= self.last:
            raise self.side.view.corrupt(f"page {self._page.number} has rowids out of order")
        self.rowid = self._previous = rowid

    def cell(self) -> Cell:
        """Return the row at this place."""
        if not self._cells:
            self._cells = list(self.side.view.cells(self._page))
        return self._cells[self._place]

    def advance(self) -> None:
        """Go to the next row."""
        self._place += 1
        if self._place < len(self._page.cells):
            self._arrive(self.cell().rowid or 0)
        else:
            self.next_leaf()

    def take_leaf(self, found: Found) -> None:
        """Count the rest of this leaf, and go to the next."""
        _take(self.side, self._page, self._place, found)
        self._previous = self.last
        self.next_leaf()

    def take_rest(self, found: Found) -> None:
        """Count all rows from this one on."""
        while self.rowid is not None:
            self.take_leaf(found)

    def take(self, found: Found) -> None:
        """Count this row, and go to the next."""
        found.add(self.side, self.cell())
        self.advance()


class _Merge:
    """The merge of two rowid tables: a leaf at a time where they do not overlap."""

    def __init__(
        self, live: Side, main: Side, found: RowDifference, *, chains_differ: bool
    ) -> None:
        self._live = live
        self._main = main
        self._found = found
        self._chains_differ = chains_differ
        self._live_chains = PageSet()
        self._main_chains = PageSet()

    def run(self) -> None:
        """Advance both sides to their ends."""
        live, main, found = _Cursor(self._live), _Cursor(self._main), self._found
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
                if not self._same(live.cell(), main.cell()):
                    found.reverted.add(self._live, live.cell())
                live.advance()
                main.advance()
        live.take_rest(found.lost)
        main.take_rest(found.returning)

    def _same(self, live: Cell, main: Cell) -> bool:
        if live.size != main.size:
            return self._same_values(live, main)
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

    def _same_values(self, live: Cell, main: Cell) -> bool:
        if abs(live.size - main.size) > _MAX_COLUMNS or max(live.size, main.size) > _MAX_ROW:
            return False
        ours = self._live.view.payload(live, seen=self._live_chains)
        theirs = self._main.view.payload(main, seen=self._main_chains)
        return self._live.stored(ours) == self._live.stored(theirs)


def _digests(side: Side, part: int, parts: int) -> Iterator[tuple[int, int, Cell]]:
    """Yield digests of key and content, and the cell, of the rows in one part of the keys."""
    chains = PageSet()
    for page in side.pages():
        for cell in side.view.cells(page):
            key, row = side.row(cell, chains)
            digest = hash(key)  # 64 bits, keyed by a secret of the process
            if digest % parts == part:
                yield digest, hash(row), cell


def _match(live: Side, main: Side, found: RowDifference) -> None:
    """Match the rows of two WITHOUT ROWID tables by their keys."""
    if live.key_names != main.key_names:
        _take_all(live, found.lost)
        _take_all(main, found.returning)
        return
    rows = sum(len(page.cells) for page in live.pages())
    parts = rows // _ROWS_AT_ONCE + 1
    for part in range(parts):
        _match_part(live, main, found, part, parts)


def _match_part(live: Side, main: Side, found: RowDifference, part: int, parts: int) -> None:
    rows = {key: content for key, content, _ in _digests(live, part, parts)}
    changed: set[int] = set()
    for key, content, cell in _digests(main, part, parts):
        ours = rows.pop(key, None)
        if ours is None:
            found.returning.add(main, cell)
        elif ours != content:
            found.reverted.count += 1
            changed.add(key)
    found.lost.count += len(rows)
    if (rows and not found.lost.is_full) or (changed and not found.reverted.is_full):
        for key, _, cell in _digests(live, part, parts):
            if found.lost.is_full and found.reverted.is_full:
                break
            if key in rows:
                found.lost.keep(live, cell)
            elif key in changed:
                found.reverted.keep(live, cell)
