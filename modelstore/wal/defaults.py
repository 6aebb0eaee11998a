"""Default of a column, in the form that a record holds.

A row that is older than its last columns lacks their values: SQLite reads the defaults instead.
https://www.sqlite.org/lang_altertable.html#altertabaddcol
"""

from __future__ import annotations

import re
import struct
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.wal.record import Value

_INTEGER = re.compile(r"-?[0-9]{1,40}")
_HEX = re.compile(r"-?0[xX][0-9a-fA-F]{1,15}")
_REAL = re.compile(r"-?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?:[eE][+-]?[0-9]{1,3})?")
_NUMERIC = re.compile(r"\s*[+-]?\.?[0-9]")
_I64 = 1 << 63
_AS_INTEGER = 1 << 47  # SQLite stores a REAL below it in six bytes or fewer, if it is whole
_MAX_TEXT = 1_000  # characters
_SIZES = (1, 2, 3, 4, 6, 8)
NO_VALUE = b"\x0a"  # a serial type that is reserved
_ENCODINGS = {2: "utf-16-le", 3: "utf-16-be"}

Default = tuple["Value", ...]
"""One value; none if it is not known."""

_WORDS = {"NULL": None, "TRUE": 1, "FALSE": 0}


class Literal(NamedTuple):
    """A token of a default: `word` is upper-case, and empty for a quoted token."""

    word: str
    text: str
    is_text: bool  # in single quotes


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


def constant_default(tokens: Sequence[Literal], kind: str) -> Default:
    """Return the default that these tokens give a column of affinity `kind`.

    SQLite gives an older row the value of a constant; it refuses any other default for a new column
    of a table that has rows. https://www.sqlite.org/lang_altertable.html#altertabaddcol
    """
    inner = _unwrapped(tokens)
    is_wrapped = len(inner) < len(tokens)
    sign = inner[0].word if inner and inner[0].word in ("+", "-") else ""
    inner = _unwrapped(inner[bool(sign) :])
    if len(inner) == 2 and inner[0].word == "X" and inner[1].is_text and not sign:
        return _blob(inner[1].text)
    number = ("-" if sign == "-" else "") + "".join(token.word and token.text for token in inner)
    if _REAL.fullmatch(number) or _INTEGER.fullmatch(number) or _HEX.fullmatch(number):
        return _number(number, kind)
    if len(inner) != 1:
        return ()
    literal = inner[0]
    if literal.word in _WORDS and not sign:
        value = _WORDS[literal.word]
        return (str(value),) if kind == "TEXT" and value is not None else (value,)
    is_name = not (literal.is_text or sign or is_wrapped or literal.word[:1].isdigit())
    if literal.word.startswith("CURRENT_") or not (is_name or (literal.is_text and not sign)):
        return ()
    return _text(literal.text, kind)


def _unwrapped(tokens: Sequence[Literal]) -> Sequence[Literal]:
    while len(tokens) > 2 and tokens[0].word == "(" and tokens[-1].word == ")":
        tokens = tokens[1:-1]
    return tokens


def _blob(digits: str) -> Default:
    try:
        return (bytes.fromhex(digits),) if len(digits) <= _MAX_TEXT else ()
    except ValueError:
        return ()


def _text(text: str, kind: str) -> Default:
    if len(text) > _MAX_TEXT:
        return ()
    # A column of numbers makes a number of a text that looks like one.
    if kind not in ("TEXT", "BLOB") and _NUMERIC.match(text):
        return ()
    return (text,)


def _number(literal: str, kind: str) -> Default:
    """Return the value of a number; a column of texts keeps its words if it is no small integer."""
    is_hex = _HEX.fullmatch(literal) is not None
    value: int | float
    if is_hex or _INTEGER.fullmatch(literal):
        value = int(literal, 16 if is_hex else 10)
    else:
        value = float(literal)
        if kind == "BLOB" and value == value // 1:
            return ()  # SQLite 3.40 makes an integer of it, 3.53 does not
    if kind == "TEXT":
        is_small = isinstance(value, int) and abs(value) < 1 << 31
        return (str(value),) if is_small else () if is_hex else (literal,)
    if isinstance(value, int) and not -_I64 <= value < _I64:
        value = float(value)
    # SQLite stores a whole number as an integer, in a REAL column up to a bound.
    most = _AS_INTEGER if kind == "REAL" else _I64
    if abs(value) <= most and value == int(value) and value != _I64:
        return (int(value),)
    return (float(value),)


class Padding:
    """Defaults of columns in the form of a record; older rows lack the last ones.

    `encoding` is a database's text encoding. A default that is unknown equals no value.
    """

    def __init__(self, defaults: Sequence[Default], encoding: int) -> None:
        parts = [
            encode_value(value[0], encoding) if value else (NO_VALUE, b"") for value in defaults
        ]
        self._types = b"".join(types for types, _ in parts)
        self._body = b"".join(body for _, body in parts)
        self._starts = [
            (0, 0),
            *accumulate(
                ((len(types), len(body)) for types, body in parts),
                lambda one, two: (one[0] + two[0], one[1] + two[1]),
            ),
        ]
        self._known_from = max((at for at, one in enumerate(defaults, 1) if not one), default=0)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._starts) - 1

    def after(self, count: int) -> tuple[bytes, bytes]:
        """Return serial types and values of the columns after the first `count` ones."""
        types, body = self._starts[count]
        return self._types[types:], self._body[body:]

    def is_known_after(self, count: int) -> bool:
        """Return True if the value of each column after the first `count` ones is known."""
        return count >= self._known_from


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
