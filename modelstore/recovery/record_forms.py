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
from modelstore.wal.record import (
    RecordError,
    decode_value,
    read_varint,
    record_fields,
    serial_size,
)

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
_LETTERS = 40  # of a text that count
_ENOUGH_LETTERS = 400
_MANY_ROWS = 50  # live rows after which a column is taken to have no other serial types, if few
_MANY_TYPES = 64  # serial types that a column without a usual one may have
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
class _Statistics:
    """The serial types, the letters and the first letters of texts in one column of live rows."""

    serials: Counter[int] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    firsts: Counter[str] = field(default_factory=Counter)
    letter_count: int = 0

    def add(self, serial: int, value: Value) -> None:
        self.serials[serial] += 1
        self.classes[class_of(serial)] += 1
        if isinstance(value, str) and value:
            self.firsts[value[0]] += 1
            self.letters.update(value[:_LETTERS])
            self.letter_count += min(len(value), _LETTERS)

    def text_bits(self, text: str) -> float:
        """Return the evidence in a text: negative if it does not look like those of live rows."""
        part = text[:_LETTERS]
        if self.letter_count < _ENOUGH_LETTERS or not part:
            return 1.0 + 0.9 * len(part)
        bits = 1.0
        for letter in part:
            share = self.letters[letter] / self.letter_count
            bits += min(2.0, math.log2(share * 256)) if share else -6.0
        is_odd = part[0] not in self.firsts and self.firsts.total() >= _MANY_ROWS
        return bits - 14.0 if is_odd else bits

    def is_strange(self, value: Value) -> bool:
        """Return True if live rows speak against a value, as if it were read from a wrong place."""
        if isinstance(value, float):
            return bool(value) and not 1e-9 < abs(value) < 1e15
        if not isinstance(value, str) or not value or self.letter_count < _ENOUGH_LETTERS:
            return False
        few_firsts = len(self.firsts) * 8 <= self.firsts.total()
        few_letters = len(self.letters) * 16 <= self.letter_count
        strangers = sum(letter not in self.letters for letter in value[:_LETTERS])
        return (few_firsts and value[0] not in self.firsts) or (few_letters and strangers > 1)


@dataclass(slots=True)
class Forms:
    """The forms of one table's records: `usual` classes of each column, `widths` in values.

    `rows` counts the rows that it learned from.
    """

    table: Table
    encoding: int
    usual: list[set[int]] = field(default_factory=list)
    widths: set[int] = field(default_factory=set)
    _columns: list[_Statistics] = field(default_factory=list)
    rows: int = 0

    def __post_init__(self) -> None:
        self.usual = [set(_USUAL[column.affinity]) for column in self.table.columns]
        self._columns = [_Statistics() for _ in self.table.columns]

    @property
    def is_usable(self) -> bool:
        """True if the table has a number of columns that can be searched for."""
        return 0 < len(self.table.columns) <= _MAX_COLUMNS

    def learn(self, payload: bytes) -> None:
        """Take a live row into account; `payload` is what its page holds of it."""
        if self.rows >= _MAX_SAMPLE:
            return
        try:
            fields = list(record_fields(payload))
            if not 0 < len(fields) <= len(self._columns):
                return
            values = [
                decode_value(serial, payload[at : at + serial_size(serial)], self.encoding)
                for serial, at in fields
            ]
        except RecordError:
            return
        self.rows += 1
        self.widths.add(len(fields))
        for column, (serial, _), value in zip(self._columns, fields, values, strict=False):
            column.add(serial, value)

    def settle(self) -> None:
        """Draw the conclusions from the live rows."""
        self.widths.add(len(self.table.columns))
        for usual, seen, column in zip(self.usual, self._columns, self.table.columns, strict=True):
            if column.affinity in ("BLOB", "NUMERIC") and self.rows >= _ENOUGH_ROWS:
                usual.intersection_update({*seen.classes, _NULL})
            usual.update(seen.classes)
            if column.not_null and not seen.classes[_NULL]:
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
        """Yield headers whose first `lost` bytes of serial types are overwritten.

        All sizes before them took one byte each. The last byte may be half of a type of two bytes:
        then its other half says which one, because such a payload is shorter than 128 bytes.
        """
        choices = [self._guesses(place) for place in range(lost)]
        if width >= lost and at < end and data[at] < 0x80:
            half = [*choices[:-1], [128 + data[at]]]
            if self.may_hold(lost - 1, 128 + data[at], usual_only=True):
                yield from self._guessed(data, at, at + 1, end, width, half)
        if width > lost:
            yield from self._guessed(data, at, at, end, width, choices)

    def _has_few_types(self, place: int) -> bool:
        return self.rows >= _MANY_ROWS and len(self._columns[place].serials) * 10 <= self.rows

    def _guesses(self, place: int) -> Sequence[int]:
        """Return the serial types of one byte that a column may have, or the few that it had."""
        seen = self._columns[place].serials
        known = seen if self._has_few_types(place) else _ONE_BYTE_TYPES
        is_learned = self.rows >= _MANY_ROWS
        classes = self._columns[place].classes if is_learned else range(5)
        return [
            n
            for n in known
            if n < 128
            and class_of(n) in classes
            and (n not in (12, 13) or n in seen or not is_learned)
            and self.may_hold(place, n, usual_only=True)
        ]

    def _guessed(
        self, data: bytes, begin: int, at: int, end: int, width: int, choices: list[Sequence[int]]
    ) -> Iterator[Header]:
        rest = self._run_of_types(data, at, end, width, len(choices))
        if rest is None or math.prod(map(len, choices)) > _MAX_GUESSES:
            return
        values_at, serials = rest
        size = 1 + len(choices) + values_at - begin
        guessed = len(choices) - (at > begin)
        for first in product(*choices):
            values = sum(map(serial_size, (*first, *serials)))
            if values_at + values <= end and size + values < 128:
                yield Header(size, values_at, (*first, *serials), values, guessed)

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
            bits = self._bits(place, serial, value)
            if bits is None:
                return None
            if header.lost and self._columns[place].is_strange(value):
                return None
            values.append(value)
            evidence += bits + self._likelihood(place, serial, is_guess=place < header.lost)
        return Decoded(values, evidence)

    def _bits(self, place: int, serial: int, value: Value) -> float | None:
        """Return the evidence in one value, in bits; None if SQLite stores no such value."""
        if isinstance(value, str):
            return self._columns[place].text_bits(value) if _is_text(value) else None
        if isinstance(value, float):
            return _real_bits(self.table.columns[place], value)
        if isinstance(value, int) and 1 <= serial <= 6:
            return _integer_bits(serial, value)
        return 2.0 if isinstance(value, bytes) else 3.0

    def _likelihood(self, place: int, serial: int, *, is_guess: bool) -> float:
        """Return bits from -12 to 0: how seldom live rows have a value of this class or type."""
        if place == self.table.alias:
            return 0.0
        seen = self._columns[place]
        if is_guess and self.rows >= _MANY_ROWS and not self._has_few_types(place):
            # Texts of all lengths: that none of this length is seen says little.
            return math.log2((seen.serials[serial] + 1) / (self.rows + _MANY_TYPES)) - 1.0
        if is_guess:
            return max(-12.0, math.log2((seen.serials[serial] + 0.25) / (self.rows + 1))) - 1.0
        if self.rows < _ENOUGH_ROWS:
            return 0.0 if class_of(serial) in self.usual[place] else -4.0
        share = (seen.classes[class_of(serial)] + 0.5) / (self.rows + 1)
        return max(-6.0, math.log2(share))


def _is_text(value: str) -> bool:
    """Return True for a text without control characters, in the encoding of the database."""
    return not _CONTROL.search(value) and not any(0xD800 <= ord(char) <= 0xDFFF for char in value)


def _real_bits(column: Column, value: float) -> float | None:
    if not math.isfinite(value) or (value and not 1e-100 < abs(value) < 1e100):
        return None
    if column.affinity != "BLOB" and value == int(value) and abs(value) < 1 << 47:
        return None  # SQLite stores it as an integer
    return 8.0 if 1e-9 < abs(value) < 1e15 else 0.0


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
