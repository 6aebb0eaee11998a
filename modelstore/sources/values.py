"""Values out of JSON that somebody else wrote: bounded, and each of the type it should be.

Whatever is absent, of another type or out of range is None: unknown, as the catalogue has it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

MAX_JSON_MARKS = 500_000  # commas and brackets: each may become an object of 200 bytes


def parse_json(body: bytes) -> object:
    """Return the value of a JSON text, bounded in the memory and depth that it may take.

    Raises `ValueError`, whose text says what is wrong in a few words.
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
    """Return a text of 1 to `limit` characters. A longer one is no name of anything: None."""
    return value if isinstance(value, str) and 0 < len(value) <= limit else None


def texts(value: object, limit: int = 1000) -> list[str]:
    """Return those items of a JSON array that are texts."""
    return [item for item in map(text, array(value)[:limit]) if item is not None]


def utc(value: object) -> str | None:
    """Return a moment in ISO-8601, to the second and in UTC: ``2026-11-22T19:35:00Z``."""
    moment = text(value, 64)
    if moment is None:
        return None
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None
