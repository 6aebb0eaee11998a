"""The records that a table may have held, told from its columns and from its live rows.

A freed cell keeps its bytes, but its first four become a freeblock's header: they held the size of
the payload, the rowid, the size of the header and at times the first serial type. The rest must
then be told from what the table's columns can hold (https://www.sqlite.org/fileformat2.html#b_tree_pages).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from modelstore.recovery.free_space import FREEBLOCK_HEADER
from modelstore.wal.record import decode_value, read_varint, serial_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.recovery.tables import Column, Table
    from modelstore.wal.record import Value

_NULL, _INTEGER, _REAL, _TEXT, _BLOB = range(5)
_USUAL = {
    "INTEGER": {_NULL, _INTEGER},
    "REAL": {_NULL, _INTEGER, _REAL},
    "NUMERIC": {_NULL, _INTEGER, _REAL, _TEXT},
    "TEXT": {_NULL, _TEXT},
    "BLOB": {_NULL, _INTEGER, _REAL, _TEXT, _BLOB},
}
_ENOUGH_ROWS = 8  # live rows after which a column without a type is taken to hold what they hold
_MAX_SAMPLE = 2000
_MAX_COLUMNS = 500  # more columns are rare, and each costs a comparison at each offset
_MAX_GUESSES = 4000  # combinations of two overwritten serial types
_IN_PATTERN = 12  # serial types that the search checks; the others are checked one by one
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd\ufffe\uffff]")
_VARINT = rb"(?:[\x80-\xff]{0,3}[\x00-\x7f])"
_ONE_BYTE_TYPES = tuple(n for n in range(128) if n not in (10, 11))


def class_of(serial: int) -> int:
    """Return the class of a serial type: NULL, integer, real, text or BLOB."""
    if serial >= 12:
        return _TEXT if serial % 2 else _BLOB
    if serial == 0:
        return _NULL
    return _REAL if serial == 7 else _INTEGER


class Header(NamedTuple):
    """A record's header of `size` bytes that ends at `end`, and the size of the values behind it.

    The first `lost` serial types are guesses, because their bytes are overwritten.
    """

    size: int
    end: int
    serials: tuple[int, ...]
    values: int
    lost: int = 0


class Decoded(NamedTuple):
    """The values of a record; `evidence` is in bits: how unlikely it is that chance made them."""

    values: list[Value]
    evidence: float


@dataclass(slots=True)
class Forms:
    """The forms of one table's records: `usual` classes of each column, `widths` in values."""

    table: Table
    encoding: int
    usual: list[set[int]] = field(default_factory=list)
    widths: set[int] = field(default_factory=set)
    _serials: list[Counter[int]] = field(default_factory=list)
    _classes: list[Counter[int]] = field(default_factory=list)
    _rows: int = 0

    def __post_init__(self) -> None:
        self.usual = [set(_USUAL[column.affinity]) for column in self.table.columns]
        self._serials = [Counter() for _ in self.table.columns]

    @property
    def is_usable(self) -> bool:
        """True if the table has a number of columns that can be searched for."""
        return 0 < len(self.table.columns) <= _MAX_COLUMNS

    def learn(self, serials: Sequence[int]) -> None:
        """Take a live row's serial types into account."""
        if self._rows >= _MAX_SAMPLE or len(serials) > len(self.table.columns):
            return
        self._rows += 1
        self.widths.add(len(serials))
        for counts, serial in zip(self._serials, serials, strict=False):
            counts[serial] += 1

    def settle(self) -> None:
        """Draw the conclusions from the live rows."""
        self.widths.add(len(self.table.columns))
        for usual, counts, column in zip(
            self.usual, self._serials, self.table.columns, strict=True
        ):
            seen = set(map(class_of, counts))
            if column.affinity in ("BLOB", "NUMERIC") and self._rows >= _ENOUGH_ROWS:
                usual.intersection_update(seen | {_NULL})
            usual.update(seen)
            self._classes.append(Counter())
            for serial, count in counts.items():
                self._classes[-1][class_of(serial)] += count
            if column.not_null and _NULL not in seen:
                usual.discard(_NULL)

    def may_hold(self, place: int, serial: int, *, usual_only: bool) -> bool:
        """Return True if column `place` can hold a value of this serial type."""
        if serial in (10, 11):
            return False
        if place == self.table.alias:
            return serial == 0
        kind = class_of(serial)
        if kind in self.usual[place]:
            return True
        column = self.table.columns[place]
        if usual_only or (kind == _NULL and column.not_null):
            return False
        return column.affinity != "TEXT" or kind == _BLOB

    def pattern(self) -> re.Pattern[bytes] | None:
        """Return a search for headers of whole records: their size, then their serial types.

        It matches at each offset where a header may begin, and more: `whole_header` checks them.
        """
        if not self.is_usable:
            return None
        least, most = min(self.widths), max(self.widths)
        first = b"".join(
            re.escape(bytes([n])) for n in range(least + 1, min(127, 1 + 4 * most) + 1)
        )
        sizes = b"[" + first + b"]" if first else b"(?!)"
        if most > 31:
            sizes = b"(?:" + sizes + rb"|[\x80-\x8f][\x00-\x7f])"
        types = b"".join(self._type_pattern(n) for n in range(min(least, _IN_PATTERN)))
        return re.compile(b"(?=" + sizes + types + b")", re.DOTALL)

    def _type_pattern(self, place: int) -> bytes:
        if place == self.table.alias:
            return rb"\x00"
        short = [n for n in _ONE_BYTE_TYPES if self.may_hold(place, n, usual_only=False)]
        return (
            b"(?:["
            + b"".join(re.escape(bytes([n])) for n in short)
            + rb"]|[\x80-\xff]"
            + (_VARINT + b")")
        )

    # -- headers -----------------------------------------------------------------------------------

    def whole_header(self, data: bytes, at: int) -> Header | None:
        """Return the record's header at `at`; None if there is none that this table can have."""
        try:
            size, place = read_varint(data, at)
        except IndexError:
            return None
        end = at + size
        if not 2 <= size <= len(data) - at:
            return None
        serials: list[int] = []
        while place < end:
            try:
                serial, place = read_varint(data, place)
            except IndexError:
                return None
            if len(serials) >= len(self.table.columns) or not self.may_hold(
                len(serials), serial, usual_only=False
            ):
                return None
            serials.append(serial)
        if place != end or len(serials) not in self.widths:
            return None
        return Header(size, end, tuple(serials), sum(map(serial_size, serials)))

    def lost_headers(self, data: bytes, start: int, end: int) -> Iterator[Header]:
        """Yield the headers that a cell at `start` may have had; its first four bytes are lost.

        Tries each layout that the sizes of the payload, of the rowid and of the header allow.
        """
        known = start + FREEBLOCK_HEADER
        for width in sorted(self.widths, reverse=True):
            for lost in (1,) if self.table.has_rowid else (2, 1):
                yield from self._without_first(data, known, end, width, lost)
            for at in range(known, min(known + 9, end)):
                run = self._run_of_types(data, at, end, width, 0)
                if run is None:
                    continue
                size = run[0] - at + 1
                size += size > 127
                found = Header(size, run[0], run[1], sum(map(serial_size, run[1])))
                if self._agrees(data, start, found):
                    yield found

    def _without_first(
        self, data: bytes, at: int, end: int, width: int, lost: int
    ) -> Iterator[Header]:
        """Yield headers whose first `lost` serial types, of one byte each, are overwritten.

        Then all sizes before them took one byte each.
        """
        rest = self._run_of_types(data, at, end, width, lost) if width > lost else None
        if rest is None:
            return
        choices = [
            [n for n in _ONE_BYTE_TYPES if self.may_hold(place, n, usual_only=True)]
            for place in range(lost)
        ]
        values_at, serials = rest
        size = 1 + lost + values_at - at
        if lost > 1 and math.prod(map(len, choices)) > _MAX_GUESSES:
            return
        for first in product(*choices):
            values = sum(map(serial_size, (*first, *serials)))
            if values_at + values <= end and size + values < 128:
                yield Header(size, values_at, (*first, *serials), values, lost)

    def _run_of_types(
        self, data: bytes, at: int, end: int, width: int, first: int
    ) -> tuple[int, tuple[int, ...]] | None:
        """Return the end of the serial types of columns `first` to `width` at `at`, and these."""
        serials: list[int] = []
        for place in range(first, width):
            try:
                serial, at = read_varint(data, at)
            except IndexError:
                return None
            if at > end or not self.may_hold(place, serial, usual_only=True):
                return None
            serials.append(serial)
        return at, tuple(serials)

    def _agrees(self, data: bytes, start: int, header: Header) -> bool:
        """Return True if the sizes and what is left of the head agree with each other."""
        begin = header.end - header.size
        rowid_at = start + varint_size(header.size + header.values)
        if not self.table.has_rowid:
            return begin == rowid_at
        if not 1 <= begin - rowid_at <= 9:
            return False
        known = start + FREEBLOCK_HEADER
        size_bytes = encode_varint(header.size)
        if begin >= known and not data.startswith(size_bytes, begin):
            return False
        return begin <= known or (
            data[begin - 1] < 0x80 and all(byte >= 0x80 for byte in data[known : begin - 1])
        )

    # -- values ------------------------------------------------------------------------------------

    def decode(self, header: Header, body: bytes) -> Decoded | None:
        """Return the values of a record; None if SQLite would not have stored one of them so."""
        values: list[Value] = []
        evidence = 0.0
        at = 0
        for place, serial in enumerate(header.serials):
            size = serial_size(serial)
            raw = body[at : at + size]
            at += size
            value = decode_value(serial, raw, self.encoding)
            bits = _bits(self.table.columns[place], serial, raw, value)
            if bits is None:
                return None
            values.append(value)
            evidence += bits + self._likelihood(place, serial, is_guess=place < header.lost)
        return Decoded(values, evidence)

    def _likelihood(self, place: int, serial: int, *, is_guess: bool) -> float:
        """Return bits from -6 to 0: how seldom live rows have a value of this class or type."""
        if place == self.table.alias:
            return 0.0
        counts = self._serials[place]
        if is_guess:
            return max(-6.0, math.log2((counts[serial] + 0.5) / (self._rows + 1))) - 2.0
        if self._rows < _ENOUGH_ROWS:
            return 0.0 if class_of(serial) in self.usual[place] else -4.0
        seen = self._classes[place][class_of(serial)]
        return max(-6.0, math.log2((seen + 0.5) / self._rows)) if seen < self._rows else 0.0


def _bits(column: Column, serial: int, raw: bytes, value: Value) -> float | None:
    """Return the evidence in one value, in bits; None if SQLite stores no such value."""
    if isinstance(value, str):
        return _text_bits(raw, value)
    if isinstance(value, float):
        return _real_bits(column, value)
    if isinstance(value, int) and 1 <= serial <= 6:
        return _integer_bits(serial, value)
    if isinstance(value, bytes):
        return 2.0
    return 3.0


def _text_bits(raw: bytes, value: str) -> float | None:
    if _CONTROL.search(value) or any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        return None
    return 1.0 + 0.9 * min(len(raw), 40)


def _real_bits(column: Column, value: float) -> float | None:
    if not math.isfinite(value) or (value and not 1e-100 < abs(value) < 1e100):
        return None
    if column.affinity != "BLOB" and value == int(value) and abs(value) < 1 << 47:
        return None  # SQLite stores it as an integer
    return 8.0 if 1e-9 < abs(value) < 1e15 else 4.0


def _integer_bits(serial: int, value: int) -> float | None:
    """Return None for an integer that fits a smaller serial type: SQLite takes the smallest."""
    if serial == 1:
        return 4.0 if value not in (0, 1) else None
    bits = 8 * serial_size(serial - 1) - 1
    if -(1 << bits) <= value < 1 << bits:
        return None
    return 4.0 + (1 if serial <= 4 else 0)


def varint_size(value: int) -> int:
    """Return the bytes that the varint of a size takes."""
    return max(1, (value.bit_length() + 6) // 7)


def encode_varint(value: int) -> bytes:
    """Return the varint of a size below 2^56."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(0x80 | value & 0x7F)
    return bytes(reversed(parts))
