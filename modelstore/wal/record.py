"""The record format: a header of serial types, then the values.

https://www.sqlite.org/fileformat2.html#record_format
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

Value = int | float | str | bytes | None

_INT_SIZES = (0, 1, 2, 3, 4, 6, 8)
_INTEGERS = frozenset((1, 2, 3, 4, 5, 6, 8, 9))  # serial types
_REAL = struct.Struct(">d")
_ENCODINGS = {2: "utf-16-le", 3: "utf-16-be"}


class RecordError(ValueError):
    """The bytes are not a valid record."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned varint at offset `at` and its end. Raises IndexError if it is cut off."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for place in range(at + 1, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def serial_size(serial: int) -> int:
    """Return the size in bytes of a value of this serial type. Raises `RecordError`."""
    if serial >= 12:
        return (serial - 12) >> 1
    if serial <= 6:
        return _INT_SIZES[serial]
    if serial == 7:
        return 8
    if serial <= 9:
        return 0
    raise RecordError(f"serial type {serial} is reserved")


def header_size(payload: bytes) -> int:
    """Return the size of the record's header in bytes; nine bytes of `payload` are enough."""
    try:
        return read_varint(payload, 0)[0]
    except IndexError:
        raise RecordError("the record has no header") from None


def record_fields(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield serial type and offset of each value; `payload` must hold the whole header."""
    try:
        end, at = read_varint(payload, 0)
        if end > len(payload):
            raise RecordError("the record's header is cut off")
        offset = end
        while at < end:
            serial, at = read_varint(payload, at)
            yield serial, offset
            offset += serial_size(serial)
    except IndexError:
        raise RecordError("the record's header is cut off") from None
    if at > end:
        raise RecordError("the record's header is cut off")


def normal_form(payload: bytes) -> tuple[bytes, bytes]:
    """Return the serial types and the values of a record in a form that equal rows share.

    SQLite usually stores the integers 0 and 1 as types without a value, but not always:
    `ALTER TABLE ... DROP COLUMN` stores them in a byte.
    """
    size = header_size(payload)
    if size > len(payload):
        raise RecordError("the record's header is cut off")
    types, body = payload[read_varint(payload, 0)[1] : size], payload[size:]
    return _without_small_integers(types, body) if b"\x01" in types else (types, body)


def _without_small_integers(types: bytes, body: bytes) -> tuple[bytes, bytes]:
    new_types, new_body = bytearray(), bytearray()
    at = offset = 0
    while at < len(types):
        serial, after = _type_at(types, at)
        end = offset + serial_size(serial)
        value = body[offset:end]
        if serial == 1 and value in (b"\0", b"\1"):
            new_types.append(8 + value[0])
        else:
            new_types += types[at:after]
            new_body += value
        at, offset = after, end
    return bytes(new_types), bytes(new_body)


def with_reals(types: bytes, body: bytes, places: Container[int]) -> tuple[bytes, bytes]:
    """Return the types and the values of a record with the integers at these indexes as REALs.

    SQLite reads them as REALs, however a record holds them.
    """
    new_types, new_body = bytearray(), bytearray()
    at = offset = place = 0
    while at < len(types):
        serial, after = _type_at(types, at)
        end = offset + serial_size(serial)
        value = body[offset:end]
        if place in places and serial in _INTEGERS:
            new_types.append(7)
            new_body += _REAL.pack(decode_value(serial, value))
        else:
            new_types += types[at:after]
            new_body += value
        at, offset, place = after, end, place + 1
    return bytes(new_types), bytes(new_body)


def without_last_nulls(types: bytes, keep: int = 0) -> bytes:
    """Return serial types without the NULLs at the end, but never fewer than `keep` types.

    A type may end in a zero byte without being NULL: ``81 00`` is a BLOB of 58 bytes.
    """
    if types[-1:] != b"\0":
        return types
    at = end = count = 0
    while at < len(types):
        serial, at = _type_at(types, at)
        count += 1
        if serial or count <= keep:
            end = at
    return types[:end]


def chosen_values(types: bytes, body: bytes, places: Container[int]) -> tuple[bytes, bytes]:
    """Return the values at these indexes of a record in normal form, in normal form."""
    new_types, new_body = bytearray(), bytearray()
    at = offset = place = 0
    while at < len(types):
        serial, after = _type_at(types, at)
        end = offset + serial_size(serial)
        if place in places:
            new_types += types[at:after]
            new_body += body[offset:end]
        at, offset, place = after, end, place + 1
    return bytes(new_types), bytes(new_body)


def with_value(
    types: bytes, body: bytes, place: int, value: tuple[bytes, bytes]
) -> tuple[bytes, bytes]:
    """Return a record in normal form with another value, in normal form too, at this index."""
    before_types, before_body = first_values(types, body, place)
    until_types, until_body = first_values(types, body, place + 1)
    return (
        before_types + value[0] + types[len(until_types) :],
        before_body + value[1] + body[len(until_body) :],
    )


def type_count(types: bytes) -> int:
    """Return the number of serial types."""
    at = count = 0
    while at < len(types):
        _, at = _type_at(types, at)
        count += 1
    return count


def first_values(types: bytes, body: bytes, count: int) -> tuple[bytes, bytes]:
    """Return the first `count` values of a record in normal form, in normal form."""
    at = offset = 0
    while count > 0 and at < len(types):
        serial, at = _type_at(types, at)
        offset += serial_size(serial)
        count -= 1
    return types[:at], body[:offset]


def _type_at(types: bytes, at: int) -> tuple[int, int]:
    try:
        return read_varint(types, at)
    except IndexError:
        raise RecordError("the record's header is cut off") from None


def decode_value(serial: int, raw: bytes, encoding: int = 1) -> Value:
    """Return the value of this serial type in `raw`; a text or BLOB may be cut off.

    `encoding` is the text encoding in the database's header: 1 UTF-8, 2 UTF-16le, 3 UTF-16be.
    Invalid bytes become lone surrogates in UTF-8 and U+FFFD in UTF-16.
    """
    if serial == 0:
        return None
    if serial <= 6:
        return int.from_bytes(raw, "big", signed=True)
    if serial == 7:
        if len(raw) < _REAL.size:
            raise RecordError("the record is cut off")
        return float(_REAL.unpack(raw)[0])
    if serial <= 9:
        return serial - 8
    if serial % 2 == 0:
        return raw
    if encoding in _ENCODINGS:
        return raw.decode(_ENCODINGS[encoding], "replace")
    return raw.decode("utf-8", "surrogateescape")


def decode_record(payload: bytes, encoding: int = 1, limit: int | None = None) -> list[Value]:
    """Return the first `limit` values of a whole record, or all. Raises `RecordError`."""
    found: list[Value] = []
    for serial, offset in record_fields(payload):
        if limit is not None and len(found) >= limit:
            break
        end = offset + serial_size(serial)
        if end > len(payload):
            raise RecordError("the record is cut off")
        found.append(decode_value(serial, payload[offset:end], encoding))
    return found
