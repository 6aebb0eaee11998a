"""Reading records in tests: from bytes as a file or a stream, to dictionaries by column."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from modelstore.catalogue.staging import model_row
from modelstore.found import Found, Skipped
from modelstore.model import MODEL_COLUMNS
from modelstore.sources.base import Note, Rows, Target
from modelstore.sources.kinds import load
from tests.sources.stores.making import context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelstore.sources.base import Context, Item

Fields = dict[str, object]


def stream(content: bytes) -> Target:
    return Target("-", io.BufferedReader(io.BytesIO(content)))


def read_bytes(kind: str, content: bytes | str, ctx: Context | None = None) -> list[Item]:
    raw = content.encode() if isinstance(content, str) else content
    return list(load(kind).read(stream(raw), ctx or context()))


def models(items: Iterable[Item]) -> list[Fields]:
    """Every model of `items` by column, as the catalogue would hold it."""
    rows: list[tuple[object, ...]] = []
    for item in items:
        if isinstance(item, Rows):
            rows += item.rows
        elif isinstance(item, Found):
            rows.append(model_row(item.model))
    assert all(len(row) == len(MODEL_COLUMNS) for row in rows)
    return [dict(zip(MODEL_COLUMNS, row, strict=True)) for row in rows]


def only(items: Iterable[Item]) -> Fields:
    """The one model of `items`, of which nothing was skipped."""
    listed = list(items)
    assert faults(listed) == []
    (model,) = models(listed)
    return model


def faults(items: Iterable[Item]) -> list[tuple[str, str]]:
    return [(item.what, item.reason) for item in items if isinstance(item, Skipped)]


def notes(items: Iterable[Item]) -> str:
    return "\n".join(item.text for item in items if isinstance(item, Note))


def parameters(model: Fields) -> object:
    return json.loads(str(model["parameters"])) if model["parameters"] is not None else None
