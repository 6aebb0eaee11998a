"""Safe outside text, readable numbers, and the parsers of durations and sizes.

Text from a file, a database, a process or a server is hostile until `visible` has escaped it.
Rich's own escaping is not enough: its ``Text`` passes raw ESC bytes on.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from modelstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_MARKS = 4  # a longer run draws over the lines above and below, or hides text
_MARKS = ("Mn", "Me")  # variation selectors have no combining class
_BLANKS = "\u115f\u1160\u3164\uffa0"  # Hangul fillers: letters by category, but invisible


@cache
def _maybe_unsafe() -> re.Pattern[str]:
    """Return the pattern of a filler, or of five characters in a row of blocks that hold marks.

    Compiled at first use: that takes a millisecond, and most runs show ASCII alone.
    """
    return re.compile(
        f"[{_BLANKS}]|"
        "[^\\x00-\u02ff\u0370-\u0482\u048a-\u052f\u3041-\u3096\u309b-\u30ff"
        "\u3400-\u9fff\uac00-\ud7a3\uff01-\uff9f]{5}"
    )


_SIMPLE_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def ascii_lower(name: str) -> str:
    """Return `name` in lower case as SQLite compares names: ASCII letters alone have a case.

    https://www.sqlite.org/c3ref/stricmp.html
    """
    return name.translate(_ASCII_LOWER)


def visible(text: str, limit: int | None = None) -> str:
    r"""Return `text` with escapes for all characters that a terminal would act on.

    Control characters, ANSI and OSC sequences, bidi overrides, zero-width and unassigned
    characters and lone surrogates become ``\n``, ``\x1b``, ``\u202e`` and the like; an invalid
    byte (``surrogateescape``) becomes ``\xNN``. Printable text stays as it is. A result of more
    than `limit` characters (at least 1) is cut and ends with an ellipsis.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit + 1]
    if not is_safe(text):
        text = spell_unsafe(text, _escape_one)
    if limit is not None and len(text) > limit:
        return text[: limit - 1] + "…"
    return text


def is_safe(text: str) -> bool:
    """Return True if `text` certainly holds no character that a terminal would act on.

    Fast; may return False for safe text in some scripts (Arabic, Devanagari).
    """
    return text.isprintable() and (text.isascii() or not _maybe_unsafe().search(text))


def spell_unsafe(text: str, spell: Callable[[str], str]) -> str:
    """Return `text`; `spell` replaces each character that a terminal would act on."""
    parts: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in _MARKS else 0
        if char.isprintable() and marks <= _MAX_MARKS and char not in _BLANKS:
            parts.append(char)
        else:
            parts.append(spell(char))
    return "".join(parts)


def _escape_one(char: str) -> str:
    if char in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a raw byte, as Python's file names carry it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def human_bytes(count: int) -> str:
    """Return a size in bytes in binary units: ``0 B``, ``165 KiB``, ``4.1 GiB``."""
    if abs(count) < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        size /= 1024
        if abs(size) < 999.5 or unit == "EiB":
            return f"{size:.0f} {unit}" if abs(size) >= 99.95 else f"{size:.1f} {unit}"
    raise AssertionError("unreachable")


def human_count(count: int) -> str:
    """Return a count of parameters in three digits: ``8.03B``, ``30.5B``, ``494M``."""
    if abs(count) < 1000:
        return str(count)
    size = float(count)
    for unit in ("k", "M", "B", "T", "P", "E"):
        size /= 1000
        if abs(size) < 999.5 or unit == "E":
            digits = 2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0
            return f"{size:.{digits}f}{unit}"
    raise AssertionError("unreachable")


def human_context(tokens: int) -> str:
    """Return a context length: ``256k`` for a multiple of 1024, otherwise the plain number."""
    if tokens >= 1024 and tokens % (1024 * 1024) == 0:
        return f"{tokens // (1024 * 1024)}M"
    if tokens >= 1024 and tokens % 1024 == 0:
        return f"{tokens // 1024}k"
    return str(tokens)


def human_seconds(seconds: float) -> str:
    """Return a duration as ``12 ms``, ``5.0 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def utc_text(seconds: float) -> str:
    """Return seconds since the epoch in ISO-8601, to the second and in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def utc_now() -> str:
    """Return the present moment as `utc_text` does: ``2026-11-22T19:35:00Z``."""
    return utc_text(time.time())


def split_commands(sentence: str) -> list[str]:
    """Return the pieces of a sentence; every second one stood between backticks."""
    pieces = sentence.split("`")
    return pieces if len(pieces) % 2 else [sentence]  # a backtick without its pair is a character


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return the count with its noun: ``1 row``, ``2 rows``, ``0 rows``."""
    return f"{count:,} {noun if count == 1 else (many or noun + 's')}"


def process_name(pid: int | None, command: str = "", *facts: str) -> str:
    """Return how every sentence names a process: ``pid 4121 (python app.py)``.

    A process without a known `pid` has its command alone; one without a command, its pid alone.
    `facts` follow the command in the parentheses. `command` is outside text and stays raw.
    """
    words = ", ".join((command, *facts)) if command or facts else ""
    number = f"pid {pid}" if pid else ""
    return f"{number} ({words})" if number and words else number or words or "unknown"


def listed(items: Sequence[str], limit: int) -> str:
    """Return ``a, b and 3 more``: at most `limit` of the items, and a count of the others."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more:,} more" if more > 0 else "")


def host_name() -> str:
    """Return the name of this machine, as imports record it."""
    if hasattr(os, "uname"):
        return os.uname().nodename or "localhost"
    import platform  # as good, and 1 ms slower: it compiles patterns

    return platform.node() or "localhost"


DEFAULT_TIMEOUT = 5.0
"""Seconds that a command waits for locks, servers and readers, unless ``--timeout`` says more."""

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h|)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Return the seconds of ``5s``, ``250ms``, ``2m``, ``1h`` or a bare number of seconds.

    Raises `UsageError`.
    """
    match = _DURATION.fullmatch(text.strip().lower()) if len(text) <= 40 else None
    if match is None:
        raise UsageError(
            f"'{visible(text, 40)}' is not a duration", hint="write 5s, 250ms, 2m, or seconds"
        )
    return float(match[1]) * _DURATION_UNITS[match[2]]


_SIZE = r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kmgtp])(i?)b?|b|)"
_SIZE_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_size(text: str) -> int:
    """Return the bytes of ``4GB`` (10^9), ``4GiB`` (2^30), ``512k`` (10^3) or a bare number.

    Raises `UsageError`.
    """
    match = re.fullmatch(_SIZE, text.strip().lower()) if len(text) <= 40 else None
    if match is None:
        raise UsageError(
            f"'{visible(text, 40)}' is not a size", hint="write 4GB, 4GiB, or a number of bytes"
        )
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _SIZE_POWERS.get(match[2] or "", 0))
