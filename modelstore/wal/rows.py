"""Which rows of a table differ between two views of the database.

Pages that both views share are never read. The rows of a rowid table come in the order of their
rowids from both sides and are merged; those of a WITHOUT ROWID table are in an order that only
its collations know, so that they are matched by digests of their keys, part by part where they
are many. Memory is bounded either way, and the counts are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    BtreePage,
    Cell,
    CorruptPageError,
    DatabaseView,
    PageSet,
)
from modelstore.wal.record import (
    RecordError,
    Value,
    decode_value,
    first_values,
    header_size,
    normal_form,
    record_fields,
    serial_size,
)
from modelstore.wal.schema import TableColumns, parse_table

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from modelstore.wal.page_owners import ReadBudget

RowKey = int | tuple[Value, ...]
"""A rowid, or the primary key of a row of a WITHOUT ROWID table."""

StoredRow = tuple[bytes, bytes]
"""The serial types and the values of a record."""

_MAX_HEADER = 1 << 16  # bytes of a record's header: some 30,000 columns
_MAX_TEXT = 1 << 12  # bytes of a text value that are shown
_MAX_REACH = 1 << 20  # bytes of a row before a value that are read to reach it
_MAX_ROW = 1 << 26  # bytes of a row of a WITHOUT ROWID table, which is compared in memory


class OverBudgetError(Exception):
    """More pages than allowed would have to be read."""


@dataclass
class TableView:
    """A table in one view, and those of its pages that the other view does not share.

    `column` is the name of the column whose text is wanted, empty if none is.
    """

    view: DatabaseView
    root: int
    sql: str
    has_rowids: bool
    leaves: array[int]
    interiors: array[int]
    column: str
    in_log: Callable[[int], bool]
    budget: ReadBudget
    _reached: int = 0

    @cached_property
    def _columns(self) -> TableColumns:
        is_wanted = self.column or not self.has_rowids
        return (parse_table(self.sql) if is_wanted else None) or TableColumns((), 0, None)

    @cached_property
    def _has_defaults(self) -> bool:
        return "DEFAULT" in self.sql.upper()

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The lower-case names of the columns of the key; none in a rowid table."""
        return self._columns.stored[: self._columns.key_size]

    def leaf(self, number: int) -> BtreePage:
        """Return a leaf; it costs if it is not in the log."""
        return self._read(number, TABLE_LEAF if self.has_rowids else INDEX_LEAF)

    def pages(self) -> Iterator[BtreePage]:
        """Yield every page that holds rows, the interior ones of a WITHOUT ROWID table too."""
        for number in self.leaves:
            yield self.leaf(number)
        for number in () if self.has_rowids else self.interiors:
            yield self._read(number, INDEX_INTERIOR)

    def _read(self, number: int, kind: int) -> BtreePage:
        if not self.in_log(number) and not self.budget.spend():
            raise OverBudgetError
        return self.view.tree_page(number, kind, self.root)

    def row(self, cell: Cell, seen: PageSet) -> tuple[StoredRow, StoredRow]:
        """Return the key of a row of a WITHOUT ROWID table, and the whole row, to be compared."""
        if cell.size > _MAX_ROW:
            raise CorruptPageError(f"a row of {cell.size} bytes is too large to compare")
        row = self.stored(self.view.payload(cell, seen=seen))
        if not self.key_names:
            return row, row
        try:
            return first_values(*row, len(self.key_names)), row
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error

    def stored(self, payload: bytes) -> StoredRow:
        """Return a record in a form in which equal rows are equal.

        NULLs at its end are left out: rows older than the last columns do not have them. Where
        columns have other defaults, they stay.
        """
        try:
            types, body = normal_form(payload)
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error
        # No serial type ends in a zero byte but NULL, and those whose rest would be cut off.
        return (types if self._has_defaults else types.rstrip(b"\0")), body

    def key(self, cell: Cell) -> RowKey:
        """Return the rowid or primary key of a row; the start of long texts is enough."""
        if cell.rowid is not None:
            return cell.rowid
        return tuple(self._value(cell, place) for place in range(len(self.key_names) or 1))

    def text(self, cell: Cell) -> str | None:
        """Return the start of the wanted column's text; None if it holds none.

        A number is returned as text; so is the rowid where the column stands for it.
        """
        place = self._columns.place(self.column)
        if place is None:
            return None
        value = self._value(cell, place)
        if value is None and self._columns.rowid_alias == self.column.lower():
            value = cell.rowid
        return None if value is None or isinstance(value, bytes) else str(value)

    def _value(self, cell: Cell, place: int) -> Value:
        """Return a value of a row, long ones cut off; None too where it is far from the start."""
        try:
            payload = self._start(cell, min(header_size(cell.local), _MAX_HEADER))
            # There is none where the row is older than the column.
            serial, offset = next(islice(record_fields(payload), place, None), (0, 0))
            if offset > _MAX_REACH:
                return None
            end = offset + min(serial_size(serial), _MAX_TEXT)
            raw = self._start(cell, end)[offset:end]
            return decode_value(serial, raw, self.view.header.text_encoding)
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error

    def _start(self, cell: Cell, size: int) -> bytes:
        """Return the first `size` bytes of a row, or more, or all."""
        content = bytearray(cell.local)
        if len(content) < min(size, cell.size):
            for _, part in self.view.chain(cell, PageSet()):
                content += part
                self._reached += 1
                # A page is part of one row, and a row is met a few times at most.
                if self._reached > 8 * self.view.page_count:
                    raise self.view.corrupt("overflow pages are part of many rows")
                if len(content) >= size:
                    break
        return bytes(content)


@dataclass(slots=True)
class RowSample:
    """Rows of one kind: all are counted, the first `limit` are kept by key and text."""

    limit: int
    count: int = 0
    keys: list[RowKey] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether no more keys are wanted."""
        return len(self.keys) >= self.limit

    def add(self, side: TableView, cell: Cell) -> None:
        """Count a row, and keep it if there is room."""
        self.count += 1
        self.keep(side, cell)

    def keep(self, side: TableView, cell: Cell) -> None:
        """Keep a row that is counted already, if there is room."""
        if not self.is_full:
            self.keys.append(side.key(cell))
            if side.column:
                self.texts.append(side.text(cell))


@dataclass(slots=True)
class RowDifference:
    """What happens to the rows of one table if the log goes: see `TableLoss`."""

    lost: RowSample
    reverted: RowSample
    returning: RowSample
    is_exact: bool = True


_NO_PAGE = BtreePage(0, TABLE_LEAF, b"", (), 0)
_ROWS_AT_ONCE = 1_000_000  # whose digests are held: some 120 MB
_MAX_COLUMNS = 32_767  # SQLite's hard bound
_DIFFERENCE_MAX_ROW = 1 << 20  # bytes; a larger row whose size differs is taken for changed


def compare_rows(
    live: TableView | None, main: TableView | None, *, chains_differ: bool, limit: int
) -> RowDifference:
    """Return how the rows of `live` (with the log) differ from those of `main` (without).

    A side is None where there is no such table. `chains_differ` tells whether any overflow page
    may differ; `limit` is how many keys of each kind to keep. Counts are lower bounds, and
    `is_exact` is False, where the budget ends. Raises `CorruptPageError`.
    """
    found = RowDifference(RowSample(limit), RowSample(limit), RowSample(limit))
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


def _take_all(side: TableView | None, found: RowSample) -> None:
    if side is not None and side.has_rowids:
        _Cursor(side).take_rest(found)
    elif side is not None:
        for page in side.pages():
            _take(side, page, 0, found)


def _take(side: TableView, page: BtreePage, start: int, found: RowSample) -> None:
    """Count the rows of a page from place `start` on; only those to be kept are looked at."""
    found.count += len(page.cells) - start
    for place in range(start, len(page.cells)):
        if found.is_full:
            break
        found.keep(side, side.view.cell(page, place))


class _Cursor:
    """A place in the rows of a rowid table; `rowid` is None at the end."""

    def __init__(self, side: TableView) -> None:
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

    def take_leaf(self, found: RowSample) -> None:
        """Count the rest of this leaf, and go to the next."""
        _take(self.side, self._page, self._place, found)
        self._previous = self.last
        self.next_leaf()

    def take_rest(self, found: RowSample) -> None:
        """Count all rows from this one on."""
        while self.rowid is not None:
            self.take_leaf(found)

    def take(self, found: RowSample) -> None:
        """Count this row, and go to the next."""
        found.add(self.side, self.cell())
        self.advance()


class _Merge:
    """The merge of two rowid tables: a leaf at a time where they do not overlap."""

    def __init__(
        self, live: TableView, main: TableView, found: RowDifference, *, chains_differ: bool
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
        if (
            abs(live.size - main.size) > _MAX_COLUMNS
            or max(live.size, main.size) > _DIFFERENCE_MAX_ROW
        ):
            return False
        ours = self._live.view.payload(live, seen=self._live_chains)
        theirs = self._main.view.payload(main, seen=self._main_chains)
        return self._live.stored(ours) == self._live.stored(theirs)


def _digests(side: TableView, part: int, parts: int) -> Iterator[tuple[int, int, Cell]]:
    """Yield digests of key and content, and the cell, of the rows in one part of the keys."""
    chains = PageSet()
    for page in side.pages():
        for cell in side.view.cells(page):
            key, row = side.row(cell, chains)
            digest = hash(key)  # 64 bits, keyed by a secret of the process
            if digest % parts == part:
                yield digest, hash(row), cell


def _match(live: TableView, main: TableView, found: RowDifference) -> None:
    """Match the rows of two WITHOUT ROWID tables by their keys."""
    if live.key_names != main.key_names:
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
