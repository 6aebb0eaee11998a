"""The llama proxy dashboard's database, in both of its generations.

github.com/bamer/nextjs-llama-async-proxy. How its columns become ours is in
`modelstore.catalogue.foreign`; its token column is never read. A model whose file is here is
described from the file, so that both give one row, and the dashboard's marks are kept.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.foreign import expose
from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.errors import SourceError
from modelstore.model import MODEL_COLUMNS, Found, Model, Place
from modelstore.sources.base import Rows, fill_unknown
from modelstore.sources.files.directory import read_file
from modelstore.sources.records.foreign_file import log_notes, opened_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "dashboard"

_BATCH = 2000  # rows
_PLACE_IN_HOME = ("nextjs-llama-async-proxy", "data", "llama-dashboard.db")


def usual_places(context: Context) -> list[str]:
    """Return where the dashboard keeps its database: in its own directory, wherever that is."""
    return [
        os.path.abspath(os.path.join(*_PLACE_IN_HOME[1:])),
        os.path.join(context.home, *_PLACE_IN_HOME),
    ]


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a dashboard's database, those that are only in its log included.

    Raises `SourceError` where it has no table of models or cannot be read.
    """
    root = target.real_path
    with opened_source(root, context.timeout) as opened:
        opened.conn.execute("BEGIN")  # one state of it from beginning to end
        if expose(opened.conn, host=context.host, source=KIND) is None:
            raise SourceError(
                f"'{opened.probe.name}' has no table of models that can be understood",
                hint="leave --from away to find out what it is",
            )
        (total,) = opened.conn.execute("SELECT count(*) FROM main.models").fetchone()
        yield from log_notes(opened, total)
        rows: list[tuple[object, ...]] = []
        for row in opened.conn.execute(f"SELECT {', '.join(MODEL_COLUMNS)} FROM models"):
            found = _from_file(dict(zip(MODEL_COLUMNS, row, strict=True)), root, context)
            if found is not None:
                yield found
            else:
                rows.append(row)
            if len(rows) >= _BATCH:
                yield Rows(rows)
                rows = []
        if rows:
            yield Rows(rows)


def _from_file(told: dict[str, Any], root: str, context: Context) -> Found | None:
    """Describe a model from its file, where that is here and is one."""
    path = from_sqlite_text(told["path"]) if told["path"] else None
    if path is None or told["status"] != "available" or not os.path.isfile(path):
        return None
    try:
        item = next(iter(read_file(path, context, "gguf")))
    except SourceError:
        return None
    if not isinstance(item, Found):
        return None
    tags = tuple(sorted({*item.model.tags, *json.loads(told["tags"])}))
    found = fill_unknown(item, {"license": told["license"]})
    place = Place(root, f"{root}#{told['source_id']}", KIND, told["name"])
    model: Model = replace(
        found.model, tags=tags, created_at=told["created_at"] or found.model.created_at
    )
    return Found(model, found.files, place)
