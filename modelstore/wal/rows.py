"""The rows of one table as one view has them: their keys, and the values of one column."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.wal.columns import TableColumns, parse_table
from modelstore.wal.overlay import PageSet
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    BtreePage,
    Cell,
    CorruptPageError,
    View,
)
from modelstore.wal.record import (
    RecordError,
    Value,
    decode,
    fields,
    first_values,
    header_size,
    normal_form,
    serial_size,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from modelstore.wal.ownership import Budget

Key = int | tuple[Value, ...]
"""A rowid, or the primary key of a row of a WITHOUT ROWID table."""

Stored = tuple[bytes, bytes]
"""The serial types and the values of a record."""

_MAX_HEADER = 1 << 16  # bytes of a record's header: some 30,000 columns
_MAX_TEXT = 1 << 12  # bytes of a text value that are shown
_MAX_REACH = 1 << 20  # bytes of a row before a value that are read to reach it
_MAX_ROW = 1 << 26  # bytes of a row of a WITHOUT ROWID table, which is compared in memory


class OverBudgetError(Exception):
    """More pages than allowed would have to be read."""


@dataclass
class Side:
    """A table in one view, and those of its pages that the other view does not share.

    `column` is the name of the column whose text is wanted, empty if none is.
    """

    view: View
    root: int
    sql: str
    has_rowids: bool
    leaves: array[int]
    interiors: array[int]
    column: str
    in_log: Callable[[int], bool]
    budget: Budget
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

    def row(self, cell: Cell, seen: PageSet) -> tuple[Stored, Stored]:
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

    def stored(self, payload: bytes) -> Stored:
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

    def key(self, cell: Cell) -> Key:
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
            serial, offset = next(islice(fields(payload), place, None), (0, 0))
            if offset > _MAX_REACH:
                return None
            end = offset + min(serial_size(serial), _MAX_TEXT)
            raw = self._start(cell, end)[offset:end]
            return decode(serial, raw, self.view.header.text_encoding)
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
class Found:
    """Rows of one kind: all are counted, the first `limit` are kept by key and text."""

    limit: int
    count: int = 0
    keys: list[Key] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether no more keys are wanted."""
        return len(self.keys) >= self.limit

    def add(self, side: Side, cell: Cell) -> None:
        """Count a row, and keep it if there is room."""
        self.count += 1
        self.keep(side, cell)

    def keep(self, side: Side, cell: Cell) -> None:
        """Keep a row that is counted already, if there is room."""
        if not self.is_full:
            self.keys.append(side.key(cell))
            if side.column:
                self.texts.append(side.text(cell))


@dataclass(slots=True)
class RowDifference:
    """What happens to the rows of one table if the log goes: see `TableLoss`."""

    lost: Found
    reverted: Found
    returning: Found
    is_exact: bool = True
