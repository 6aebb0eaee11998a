"""Whether two programs gave the same content; a ratio of different answers means nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests.bench.measure import FailedError

_JSON_COLUMNS = ("tags", "parameters")


def same_objects(ours: str, theirs: str) -> None:
    """Check two JSON arrays of rows. Raises `FailedError` where they differ."""
    same_rows(json.loads(ours), json.loads(theirs))


def same_rows(ours: Iterable[dict[str, Any]], theirs: Iterable[dict[str, Any]]) -> int:
    """Check rows in their order; return how many there are.

    What SQLite keeps as JSON text may be given as the text or as the value.
    """
    count = 0
    for one, other in zip_longest(ours, theirs):
        if one is None or other is None or _plain(one) != _plain(other):
            raise FailedError(f"row {count + 1} differs: {one} {other}")
        count += 1
    return count


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file with one JSON object a line, in an array or not."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            text = (
                line.strip().strip(",[]")
                if line[:1] in "[]," or line.rstrip()[-1:] in ",]"
                else line
            )
            if text.strip():
                yield json.loads(text)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.loads(value) if name in _JSON_COLUMNS and isinstance(value, str) else value
        for name, value in row.items()
    }
