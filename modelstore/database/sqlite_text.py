r"""The one place where text that SQLite cannot hold is written so that it can, and back again.

A file name that is no UTF-8 reaches Python with lone surrogates (``surrogateescape``), and so may
a JSON string (``"\udcff"``). SQLite stores UTF-8, which has none, and binding one raises. Each
lone surrogate is kept as the noncharacter U+10FFFF, which Unicode sets aside for a program's own
use (unicode.org/faq/private_use.html#noncharacters), and the surrogate's four hex digits.
Everything else is stored as it is, so that ordinary text costs nothing and reads as itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelstore.database.sqlite import sqlite3

LEAD = "\U0010ffff"

_LONE = re.compile("[\ud800-\udfff]")
_KEPT = re.compile(LEAD + "(d[89a-f][0-9a-f]{2})")

MAX_INTEGER = 2**63 - 1  # what an SQLite integer holds; more raises when bound


def to_sqlite_text(text: str) -> str:
    """Return `text` in a form that SQLite can hold; `original` gives it back exactly."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE.sub(lambda match: f"{LEAD}{ord(match[0]):04x}", text)
    return text


def from_sqlite_text(text: str) -> str:
    """Return what `storable` was given.

    Raises `sqlite3.DatabaseError` (SQLITE_CORRUPT) for what is no text: SQLite checks the types of
    a STRICT table when it writes, and in `integrity_check`, but not when it reads.
    """
    if not isinstance(text, str):
        raise _damage(text, "text")
    if LEAD not in text:
        return text
    return _KEPT.sub(lambda match: chr(int(match[1], 16)), text)


def from_sqlite_json(text: str) -> str:
    r"""Return JSON text with each kept surrogate as JSON's own escape, ``\udcff``."""
    return _KEPT.sub(r"\\u\1", text) if LEAD in text else text


def whole_or_none(number: int | None) -> int | None:
    """Return a number as it was kept; what is none raises as in `original`."""
    if number is not None and not isinstance(number, int):
        raise _damage(number, "a whole number")
    return number


def _damage(value: object, wanted: str) -> sqlite3.DatabaseError:
    from modelstore.database.sqlite import sqlite3

    kind = {"NoneType": "NULL", "bytes": "a blob", "str": "text"}.get(type(value).__name__)
    error = sqlite3.DatabaseError(f"a row holds {kind or 'a number'} where {wanted} belongs")
    error.sqlite_errorcode = 11  # SQLITE_CORRUPT, sqlite.org/rescode.html#corrupt
    return error


def signed(number: int | None) -> int | None:
    """Return a device or inode number as an SQLite integer: the same 64 bits, signed.

    Inode numbers use all 64 bits on some file systems; ReFS has 128, of which the low 64 serve.
    """
    if number is None or -(2**63) <= number <= MAX_INTEGER:
        return number
    low = number & (2**64 - 1)
    return low - 2**64 if low > MAX_INTEGER else low
