r"""Store text and numbers that SQLite cannot hold as they are, and give them back exactly.

A file name that is not UTF-8 reaches Python with lone surrogates (``surrogateescape``), and a JSON
string may hold them as well (``"\udcff"``). SQLite stores UTF-8, which has none: binding one
raises. We store each lone surrogate as the noncharacter U+10FFFF, which Unicode sets aside for a
program's own use (unicode.org/faq/private_use.html#noncharacters), and the surrogate's four hex
digits. All other text is stored as it is, at no cost.
"""

from __future__ import annotations

import re

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_CORRUPT

LEAD = "\U0010ffff"

_LONE = re.compile("[\ud800-\udfff]")
_KEPT = re.compile(LEAD + "(d[89a-f][0-9a-f]{2})")

MAX_INTEGER = 2**63 - 1  # the largest integer of SQLite; binding a larger one raises


def to_sqlite_text(text: str) -> str:
    """Return `text` in a form that SQLite can hold; `from_sqlite_text` gives it back exactly."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE.sub(lambda match: f"{LEAD}{ord(match[0]):04x}", text)
    return text


def from_sqlite_text(text: str) -> str:
    """Return the text that was given to `to_sqlite_text`.

    Raises `sqlite3.DatabaseError` (SQLITE_CORRUPT) for a value that is not text: SQLite checks the
    types of a STRICT table when it writes, and in `integrity_check`, but not when it reads.
    """
    if not isinstance(text, str):
        raise _damage(text, "text")
    if LEAD not in text:
        return text
    return _KEPT.sub(lambda match: chr(int(match[1], 16)), text)


def from_sqlite_json(text: str) -> str:
    r"""Return JSON text with each stored surrogate as JSON's own escape, ``\udcff``."""
    return _KEPT.sub(r"\\u\1", text) if LEAD in text else text


def whole_or_none(number: int | None) -> int | None:
    """Return a stored whole number; anything else raises as in `from_sqlite_text`."""
    if number is not None and not isinstance(number, int):
        raise _damage(number, "a whole number")
    return number


def _damage(value: object, wanted: str) -> sqlite3.DatabaseError:
    kind = {"NoneType": "NULL", "bytes": "a blob", "str": "text"}.get(type(value).__name__)
    error = sqlite3.DatabaseError(f"a row holds {kind or 'a number'} where {wanted} belongs")
    error.sqlite_errorcode = SQLITE_CORRUPT
    return error


def signed(number: int | None) -> int | None:
    """Return a device or inode number as an SQLite integer: the same 64 bits, signed.

    Inode numbers use all 64 bits on some file systems; ReFS has 128, of which the low 64 serve.
    """
    if number is None or -(2**63) <= number <= MAX_INTEGER:
        return number
    low = number & (2**64 - 1)
    return low - 2**64 if low > MAX_INTEGER else low
