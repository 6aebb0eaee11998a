"""A listing as a presets file of llama-server."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.catalogue.lookup import companions
from modelstore.catalogue.query import Query, select
from modelstore.render.preset import PresetModel, write_preset

if TYPE_CHECKING:
    from modelstore.cli.output import Output
    from modelstore.database.sqlite import sqlite3

_COLUMNS = ("id", "name", "locator", "path", "type", "status", "file_type", "tags")
_NAMED = 20  # models left out that are named one by one


def write_models_preset(out: Output, conn: sqlite3.Connection, query: Query) -> None:
    """Write the models of `query`; those that llama-server cannot serve are named on stderr."""
    left_out = 0

    def note(model: PresetModel, reason: str) -> None:
        nonlocal left_out
        left_out += 1
        if left_out <= _NAMED:
            out.note(f"left out: {model.name}: {reason}")

    with closing(select(conn, replace(query, columns=_COLUMNS))) as rows:
        write_preset(out.stream, (_model(conn, row) for row in rows), note)
    if left_out > _NAMED:
        out.note(f"left out: {left_out - _NAMED:,} more")


def _model(conn: sqlite3.Connection, row: tuple[object, ...]) -> PresetModel:
    values = dict(zip(_COLUMNS, row, strict=True))
    path = values["path"]
    files = companions(conn, str(values["id"])).files
    first = {file.role: file.path for file in reversed(files)}
    return PresetModel(
        id=str(values["id"]),
        name=str(values["name"]),
        locator=str(values["locator"]),
        path=path if isinstance(path, str) else None,
        is_gguf=values["file_type"] is not None or str(path).lower().endswith(".gguf"),
        type=str(values["type"]) if values["type"] else None,
        status=str(values["status"]),
        tags=tuple(json.loads(str(values["tags"]))),
        projector=first.get("projector"),
        draft=first.get("draft"),
    )
