"""JSON values as other programs wrote them, bounded and checked on the way to a column."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelstore.text import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PARAMETERS = 64 << 10  # characters of the JSON object
MAX_PARAMETER = 8 << 10  # of one value
WHOLE = ("tokenizer.chat_template", "chat_template", "template")
"""The beginnings of the keys that hold a chat template: kept whole, and beside these limits."""
MAX_TEMPLATE = 1 << 20  # bytes; the longest that are published have a tenth of this
_MAX_TEXT = 256  # characters of a short text such as an architecture or a licence
_INT64_MAX = (1 << 63) - 1
_YEAR_10000 = 253_402_300_800  # seconds since 1970
MAX_JSON_MARKS = 500_000  # commas and brackets: each may become an object of 200 bytes


def parse_json(body: bytes) -> object:
    """Return the value of a JSON text, within bounds of memory and depth.

    Raises `ValueError` with the reason in a few words.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_MARKS:
        raise ValueError("it holds too many values")
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None


def mapping(value: object) -> dict[str, object]:
    """Return a JSON object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def array(value: object) -> list[object]:
    """Return a JSON array, or an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def text(value: object, limit: int = 1000) -> str | None:
    """Return a text of 1 to `limit` characters. Longer ones are not names: None."""
    return value if isinstance(value, str) and 0 < len(value) <= limit else None


def texts(value: object, limit: int = 1000) -> list[str]:
    """Return the texts among the items of a JSON array."""
    return [item for item in map(text, array(value)[:limit]) if item is not None]


def utc(value: object) -> str | None:
    """Return a time as ISO-8601 UTC to the second: ``2026-11-22T19:35:00Z``."""
    moment = text(value, 64)
    if moment is None:
        return None
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def parameters_json(facts: Mapping[str, object]) -> str | None:
    """Return facts as the text of a JSON object of bounded size; None if no fact is left.

    Values that are too long or None are left out, but a chat template is whole. Infinity and NaN
    become null.
    """
    facts = {key: value for key, value in facts.items() if value is not None}
    text = to_json(facts)
    if len(text) > MAX_PARAMETER or text == "null":
        room = MAX_PARAMETERS - 2
        parts = []
        for key, value in facts.items():
            part = f"{to_json(key)}:{to_json(value)}"
            if key.startswith(WHOLE):
                parts.append(part)
            elif len(part) <= min(MAX_PARAMETER, room):
                parts.append(part)
                room -= len(part) + 1
        text = "{" + ",".join(parts) + "}"
    return text if text != "{}" else None


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def to_json(value: object) -> str:
    """Return compact JSON of any value that a parser made; null if it nests too deeply."""
    try:
        return _valid_json(value)
    except RecursionError:
        return "null"


def _valid_json(value: object) -> str:
    try:
        text = _encode(value)
    except ValueError:  # Infinity or NaN
        text = _encode(_finite(value))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(_finite(value), separators=(",", ":"))
    return text


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def iso_time(mtime_ns: int) -> str | None:
    """Return a file's time as ISO-8601 UTC; None outside the years 1970 to 9999."""
    seconds = mtime_ns // 1_000_000_000
    if not 0 < seconds < _YEAR_10000:
        return None
    return utc_text(seconds)


def count_or_none(value: object) -> int | None:
    """Return a positive integer that a column can hold; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _INT64_MAX:
        return value
    return None


def text_or_none(value: object) -> str | None:
    """Return a short text, stripped and valid UTF-8; None for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        return None
    return value.encode("utf-8", "replace").decode("utf-8").strip() or None
