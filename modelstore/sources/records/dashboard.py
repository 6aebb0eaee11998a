"""The llama proxy dashboard's database, in both of its generations.

github.com/bamer/nextjs-llama-async-proxy. `modelstore.catalogue.foreign`
maps its columns; its token column is never read. A model whose file is here is read from the
file, so that both become one row, and keeps the dashboard's marks.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.foreign import expose
from modelstore.catalogue.schema import single_value
from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.errors import SourceError
from modelstore.found import Found, Place
from modelstore.model import MODEL_COLUMNS
from modelstore.sources.base import BATCH, Rows, fill_unknown
from modelstore.sources.files.directory import read_file
from modelstore.sources.records.foreign_file import log_notes, opened_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "dashboard"

_PLACE_IN_HOME = ("nextjs-llama-async-proxy", "data", "llama-dashboard.db")


def usual_places(context: Context) -> list[str]:
    """Return the database in the dashboard's own directory: the current one, or one in the home."""
    return [
        os.path.abspath(os.path.join(*_PLACE_IN_HOME[1:])),
        os.path.join(context.home, *_PLACE_IN_HOME),
    ]


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a dashboard's database, including those that are only in its log.

    Raises `SourceError` if it has no table of models or cannot be read.
    """
    root = target.real_path
    with opened_source(root, context.timeout) as opened:
        opened.db.begin()  # one state of it from beginning to end
        if expose(opened.db, host=context.host, source=KIND) is None:
            raise SourceError(
                f"'{opened.probe.name}' has no table of models that modelstore understands",
                hint="leave out --from to detect its kind",
            )
        total = int(single_value(opened.db, "SELECT count(*) FROM main.models"))
        yield from log_notes(opened, total)
        rows: list[tuple[object, ...]] = []
        # plain SQL: tuples stream twice as fast as the dicts of db.query()
        for row in opened.db.execute(f"SELECT {', '.join(MODEL_COLUMNS)} FROM models"):
            found = _from_file(dict(zip(MODEL_COLUMNS, row, strict=True)), root, context)
            if found is not None:
                yield found
            else:
                rows.append(row)
            if len(rows) >= BATCH:
                yield Rows(rows)
                rows = []
        if rows:
            yield Rows(rows)


def _from_file(row: dict[str, Any], root: str, context: Context) -> Found | None:
    """Describe a model from its file; None if the file is not here or not a model."""
    path = from_sqlite_text(row["path"]) if row["path"] else None
    if path is None or row["status"] != "available" or not os.path.isfile(path):
        return None
    try:
        item = next(iter(read_file(path, context, "gguf")))
    except SourceError:
        return None
    if not isinstance(item, Found):
        return None
    tags = tuple(sorted({*item.model.tags, *json.loads(row["tags"])}))
    found = fill_unknown(item, {"license": row["license"]})
    place = Place(root, f"{root}#{row['source_id']}", KIND, row["name"])
    model = found.model._replace(tags=tags, created_at=row["created_at"] or found.model.created_at)
    return Found(model, found.files, place)
