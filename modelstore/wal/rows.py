"""Rows of one table in one view of the database: their keys, the start of their texts, their form.

`difference` compares the rows of two views. Long values are read only as far as they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.text import ascii_lower
from modelstore.wal.defaults import NO_VALUE, Padding, encode_value
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
    chosen_values,
    decode_record,
    decode_value,
    first_values,
    header_size,
    normal_form,
    record_fields,
    serial_size,
    type_count,
    with_reals,
    with_value,
    without_last_nulls,
)
from modelstore.wal.schema_columns import TableColumns, parse_table

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from modelstore.wal.page_owners import ReadBudget

RowKey = int | tuple[Value, ...]
"""A rowid, or the primary key of a row of a WITHOUT ROWID table."""

StoredRow = tuple[bytes, bytes]
"""The serial types and the values of a record."""

_MAX_COLUMNS = 32_767  # SQLite's hard bound
_MAX_HEADER = 1 << 16  # bytes of a record's header: some 30,000 columns
_MAX_TEXT = 1 << 12  # bytes of a text value to show
_MAX_REACH = 1 << 20  # bytes of a row to read before the value
_MAX_ROW = 1 << 26  # bytes of a WITHOUT ROWID row; memory holds it to compare


class OverBudgetError(Exception):
    """The next page to read is not within the budget."""


@dataclass
class TableView:
    """A table in one view, with the pages that the other view does not share.

    `column` names the column whose text is requested; an empty string requests none. `decodes` is
    True if the two views have different text encodings: rows are compared by their values then.
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
    decodes: bool = False
    unsure_from: int | None = None
    """Values of the last row that are known, if the defaults of later columns are not."""
    _kept: tuple[int, ...] = ()
    _reached: int = 0

    @cached_property
    def _columns(self) -> TableColumns:
        # Without the columns, every NULL counts.
        return parse_table(self.sql) or TableColumns((), 0, None, _MAX_COLUMNS)

    @property
    def columns(self) -> int:
        """Number of values of a row that count: SQLite reads none behind the last column's.

        DROP COLUMN changes the schema and each row: a checkpoint that is cut short may copy the
        schema alone. https://www.sqlite.org/lang_altertable.html#altertabdropcol
        """
        return len(self._columns.stored) or _MAX_COLUMNS

    def has_dropped(self, live: TableView) -> bool:
        """Return True if this table has columns that `live`, the table with the log, lacks."""
        is_changed = self.sql != live.sql  # parse none for most tables
        return is_changed and len(self._columns.stored) > len(live._columns.stored) > 0

    def _kept_columns(self, live: TableView) -> tuple[int, ...]:
        """Return the places of the columns that `live` has too; of all if more has changed."""
        if not self._kept:
            theirs, ours = self._columns.stored, live._columns.stored
            kept = tuple(place for place, name in enumerate(theirs) if name in ours)
            are_dropped = tuple(theirs[place] for place in kept) == ours
            self._kept = kept if are_dropped else tuple(range(len(theirs)))
        return self._kept

    def has_more_values(self, cell: Cell) -> bool:
        """Return True if a row may have more values than the table has columns."""
        try:
            return sum(1 for _ in record_fields(cell.local)) > self.columns
        except RecordError:
            return True  # its header is long

    @property
    def has_own_rowids(self) -> bool:
        """True if no column is an alias of the rowid: a VACUUM may change every rowid then."""
        return self.has_rowids and bool(self._columns.stored) and not self._columns.rowid_alias

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """Lower-case names of the primary key columns; empty for a rowid table."""
        return self._columns.stored[: self._columns.key_size]

    def leaf(self, number: int) -> BtreePage:
        """Return a leaf; it spends the budget unless it is in the log."""
        return self._read(number, TABLE_LEAF if self.has_rowids else INDEX_LEAF)

    def pages(self) -> Iterator[BtreePage]:
        """Yield the pages that hold rows, with the interior pages of a WITHOUT ROWID table."""
        for number in self.leaves:
            yield self.leaf(number)
        for number in () if self.has_rowids else self.interiors:
            yield self._read(number, INDEX_INTERIOR)

    def _read(self, number: int, kind: int) -> BtreePage:
        if not self.in_log(number) and not self.budget.spend():
            raise OverBudgetError
        return self.view.tree_page(number, kind, self.root)

    def row(self, cell: Cell, seen: PageSet, live: TableView) -> tuple[StoredRow, StoredRow]:
        """Return key and content of a row of a WITHOUT ROWID table in comparable form."""
        if cell.size > _MAX_ROW:
            raise CorruptPageError(f"a row of {cell.size} bytes is too large to compare")
        payload = self.view.payload(cell, seen=seen)
        row = self.stored(payload, live)
        if not self.key_names:
            return row, row
        try:
            return first_values(*row, len(self.key_names)), row
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error

    def stored(self, payload: bytes, live: TableView, rowid: int | None = None) -> StoredRow:
        """Return a record in comparable form: equal rows have equal forms.

        Adds the defaults that an older row lacks; `live`, the table with the log, names them. Drops
        NULLs at the end, which an older row lacks too, and the values of columns that `live` lacks:
        DROP COLUMN changes no other value. If columns were renamed or added besides, the schemas do
        not tell one from another, and no row equals one of `live`. Pass the `rowid` to have it in
        the column that is its alias, where a record holds NULL.
        """
        try:
            types, body = self._decoded(payload) if self.decodes else normal_form(payload)
            if len(types) > self.columns:  # a type has one byte at least
                types, body = first_values(types, body, self.columns)
            if rowid is not None and (place := self._columns.alias_place) is not None:
                types, body = with_value(types, body, place, encode_value(rowid, 1))
            is_like = True
            if self.has_dropped(live):
                places = self._kept_columns(live)
                is_like = len(places) == len(live._columns.stored)
                types, body = chosen_values(types, body, places)
            padding = live._padding
            self.unsure_from = None
            if len(padding) and (count := type_count(types)) < len(padding):
                if not padding.is_known_after(count):
                    self.unsure_from = count
                more_types, more_body = padding.after(count)
                types, body = types + more_types, body + more_body
            else:
                types = without_last_nulls(types, live._columns.required)
            reals = live._columns.reals
            types, body = with_reals(types, body, reals) if reals else (types, body)
            return (types, body) if is_like else (types + NO_VALUE, body)
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error

    @cached_property
    def _padding(self) -> Padding:
        encoding = 1 if self.decodes else self.view.header.encoding
        return Padding(self._columns.defaults, encoding)

    def _decoded(self, payload: bytes) -> StoredRow:
        """Return the serial types and the values of a record whose texts are UTF-8."""
        values = decode_record(payload, self.view.header.encoding, self.columns)
        parts = [encode_value(value, 1) for value in values]
        return b"".join(types for types, _ in parts), b"".join(body for _, body in parts)

    def key(self, cell: Cell) -> RowKey:
        """Return the rowid or primary key of a row; long texts are cut."""
        if cell.rowid is not None:
            return cell.rowid
        return tuple(self._value(cell, place) for place in range(len(self.key_names) or 1))

    def text(self, cell: Cell) -> str | None:
        """Return the start of the requested column's text; None for NULL and BLOB.

        Numbers become text; a column that is an alias of the rowid gives the rowid.
        """
        place = self._columns.place(self.column)
        if place is None:
            return None
        value = self._value(cell, place)
        if value is None and self._columns.rowid_alias == ascii_lower(self.column):
            value = cell.rowid
        return None if value is None or isinstance(value, bytes) else str(value)

    def _value(self, cell: Cell, place: int) -> Value:
        """Return a value of a row, long ones cut; None if it begins far from the start."""
        try:
            payload = self._start(cell, min(header_size(cell.local), _MAX_HEADER))
            # A row that is older than the column lacks it.
            serial, offset = next(islice(record_fields(payload), place, None), (0, 0))
            if offset > _MAX_REACH:
                return None
            end = offset + min(serial_size(serial), _MAX_TEXT)
            raw = self._start(cell, end)[offset:end]
            return decode_value(serial, raw, self.view.header.encoding)
        except RecordError as error:
            raise self.view.corrupt(f"a row cannot be read: {error}") from error

    def _start(self, cell: Cell, size: int) -> bytes:
        """Return at least the first `size` bytes of a row, or all of it."""
        content = bytearray(cell.local)
        if len(content) < min(size, cell.size):
            for _, part in self.view.chain(cell, PageSet()):
                content += part
                self._reached += 1
                # Each page belongs to one row, and each row is read a few times at most.
                if self._reached > 8 * self.view.page_count:
                    raise self.view.corrupt("overflow pages are part of many rows")
                if len(content) >= size:
                    break
        return bytes(content)


@dataclass(slots=True)
class RowSample:
    """Rows of one kind: counts all, keeps key and text of the first `limit`."""

    limit: int
    count: int = 0
    keys: list[RowKey] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """True if no more keys are needed."""
        return len(self.keys) >= self.limit

    def add(self, table: TableView, cell: Cell) -> None:
        """Count a row and keep it if there is room."""
        self.count += 1
        self.keep(table, cell)

    def keep(self, table: TableView, cell: Cell) -> None:
        """Keep an already counted row if there is room."""
        if not self.is_full:
            self.keys.append(table.key(cell))
            if table.column:
                self.texts.append(table.text(cell))
