"""Default of a column, in the form that a record holds.

A row that is older than its last columns lacks their values: SQLite reads the defaults instead.
https://www.sqlite.org/lang_altertable.html#altertabaddcol
"""

from __future__ import annotations

import re
import struct
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.wal.record import Value

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?(?:[0-9]{1,15}\.[0-9]{0,15}|\.[0-9]{1,15})")
_AS_INTEGER = 1 << 47  # SQLite stores a REAL below it in six bytes or fewer, if it is whole
_MAX_TEXT = 1_000  # characters
_SIZES = (1, 2, 3, 4, 6, 8)
_UNKNOWN = b"\x0a", b""  # a serial type that is reserved
_ENCODINGS = {2: "utf-16-le", 3: "utf-16-be"}

Default = tuple["Value", ...]
"""One value; none if the default is no plain number or text."""


def affinity(declared: str) -> str:
    """Return the affinity of an upper-case type.

    https://www.sqlite.org/datatype3.html#determination_of_column_affinity
    """
    if "INT" in declared:
        return "INTEGER"
    if any(part in declared for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in declared or not declared:
        return "BLOB"
    is_real = any(part in declared for part in ("REAL", "FLOA", "DOUB"))
    return "REAL" if is_real else "NUMERIC"


def text_default(text: str, kind: str) -> Default:
    """Return the default that a quoted text gives a column of affinity `kind`."""
    # A column of numbers would make a number of some texts.
    is_plain = kind in ("TEXT", "BLOB") and len(text) <= _MAX_TEXT
    return (text,) if is_plain else ()


def number_default(literal: str, kind: str) -> Default:
    """Return the default that a number gives a column of affinity `kind`."""
    if _INTEGER.fullmatch(literal):
        value = int(literal)
        if kind == "TEXT":
            return (str(value),)
        return (value,) if kind != "REAL" or abs(value) < _AS_INTEGER else ()
    if not _REAL.fullmatch(literal) or kind == "TEXT":
        return ()
    real = float(literal)
    if not real.is_integer():
        return (real,)
    # SQLite stores a whole number as an integer in a REAL column, too.
    return (int(real),) if abs(real) < _AS_INTEGER else ()


class Padding:
    """Defaults of columns in the form of a record; older rows lack the last ones.

    `encoding` is a database's text encoding. A default that is unknown equals no value.
    """

    def __init__(self, defaults: Sequence[Default], encoding: int) -> None:
        parts = [encode_value(value[0], encoding) if value else _UNKNOWN for value in defaults]
        self._types = b"".join(types for types, _ in parts)
        self._body = b"".join(body for _, body in parts)
        self._starts = [
            (0, 0),
            *accumulate(
                ((len(types), len(body)) for types, body in parts),
                lambda one, two: (one[0] + two[0], one[1] + two[1]),
            ),
        ]

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._starts) - 1

    def after(self, count: int) -> tuple[bytes, bytes]:
        """Return serial types and values of the columns after the first `count` ones."""
        types, body = self._starts[count]
        return self._types[types:], self._body[body:]


def encode_value(value: Value, encoding: int) -> tuple[bytes, bytes]:
    """Return the serial type and the bytes of a value, as in `record.normal_form`."""
    if value is None:
        return b"\0", b""
    if isinstance(value, int):
        return _encode_integer(value)
    if isinstance(value, float):
        return b"\x07", struct.pack(">d", value)
    body = (
        value.encode(_ENCODINGS.get(encoding, "utf-8"), "surrogateescape")
        if isinstance(value, str)
        else value
    )
    return _varint(2 * len(body) + (13 if isinstance(value, str) else 12)), body


def _encode_integer(value: int) -> tuple[bytes, bytes]:
    if value in (0, 1):
        return bytes([8 + value]), b""
    for serial, size in enumerate(_SIZES, 1):
        if -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1:
            return bytes([serial]), value.to_bytes(size, "big", signed=True)
    raise ValueError("an integer has 64 bits at most")


def _varint(number: int) -> bytes:
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))
