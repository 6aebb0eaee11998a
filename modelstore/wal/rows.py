"""The rows of one table as one view has them: their keys, and the values of one column."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

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
    header_size,
    serial_size,
    trim_nulls,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from modelstore.wal.columns import TableColumns
    from modelstore.wal.ownership import Budget

Key = int | tuple[Value, ...]
"""A rowid, or the primary key of a row of a WITHOUT ROWID table."""

_MAX_HEADER = 1 << 16  # bytes of a record's header: some 30,000 columns
_MAX_TEXT = 1 << 12  # bytes of a text value that are shown
_MAX_REACH = 1 << 20  # bytes of a row before a value that are read to reach it
_MAX_ROW = 1 << 26  # bytes of a row of a WITHOUT ROWID table, which is compared in memory


class OverBudgetError(Exception):
    """More pages than allowed would have to be read."""


@dataclass(slots=True)
class Side:
    """A table in one view, and those of its pages that the other view does not share.

    `column` is the position in a record of the column whose text is wanted, None if none is.
    """

    view: View
    root: int
    has_rowids: bool
    leaves: array[int]
    interiors: array[int]
    has_defaults: bool
    columns: TableColumns | None
    column: int | None
    in_log: Callable[[int], bool]
    budget: Budget
    _reached: int = 0

    @property
    def key_size(self) -> int:
        """How many values at the start of a record are its key; 0 in a rowid table."""
        return self.columns.key_size if self.columns else 0

    @property
    def key_names(self) -> tuple[str, ...]:
        """The lower-case names of the columns of the key; none in a rowid table."""
        return self.columns.stored[: self.key_size] if self.columns else ()

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

    def row(self, cell: Cell, seen: PageSet) -> tuple[bytes, bytes]:
        """Return the stored bytes of a row's key, and of all of the row (WITHOUT ROWID).

        NULLs at the end are left out: rows older than the last columns do not have them.
        """
        if cell.size > _MAX_ROW:
            raise CorruptPageError(f"a row of {cell.size} bytes is too large to compare")
        payload = self.view.payload(cell, seen=seen)
        if not self.key_size:
            return payload, b""
        try:
            key = bytearray()
            for place, (serial, offset) in enumerate(fields(payload)):
                if place == self.key_size:
                    break
                key += b"%d," % serial + payload[offset : offset + serial_size(serial)]
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error
        return bytes(key), self.trimmed(payload)

    def trimmed(self, payload: bytes) -> bytes:
        """Return a record without the NULLs at its end, unless columns have other defaults."""
        if self.has_defaults:
            return payload
        try:
            return trim_nulls(payload)
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error

    def key(self, cell: Cell) -> Key:
        """Return the rowid or primary key of a row; the start of long texts is enough."""
        if cell.rowid is not None:
            return cell.rowid
        return tuple(self._value(cell, place) for place in range(self.key_size or 1))

    def text(self, cell: Cell) -> str | None:
        """Return the start of the wanted column's text; None if it holds none.

        A number is returned as text; so is the rowid where the column stands for it.
        """
        if self.column is None or self.columns is None:
            return None
        value = self._value(cell, self.column)
        if value is None and self.columns.stored[self.column] == self.columns.rowid_alias:
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
            if side.column is not None:
                self.texts.append(side.text(cell))


@dataclass(slots=True)
class RowDifference:
    """What happens to the rows of one table if the log goes: see `TableLoss`."""

    lost: Found
    reverted: Found
    returning: Found
    is_exact: bool = True
