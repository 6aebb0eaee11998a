"""Tags, the user's own marks on models; and deleting models from the catalogue.

A model's tags are a JSON array of texts, sorted, each once. A text that another program put there
and that is no array counts as one tag, so that nothing is lost.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text
from modelstore.errors import UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modelstore.database.handle import Database

MAX_TAG = 64  # characters


def check_tag(tag: str) -> str:
    """Return `tag`. Raises `UsageError` for one that could not be shown, listed or typed."""
    if not tag or len(tag) > MAX_TAG or not tag.isprintable() or "," in tag or tag != tag.strip():
        raise UsageError(
            f"'{visible(tag, 80)}' is no tag",
            hint=f"a tag has 1 to {MAX_TAG} printable characters, no comma, "
            "and no space at its ends",
        )
    return tag


def tags_json(tags: Iterable[str]) -> str:
    """Return tags as the catalogue stores them."""
    distinct = sorted(set(tags))
    return _encode(distinct) if distinct else "[]"


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def tags_from_json(stored: str) -> tuple[str, ...]:
    """Return the tags of one model from the text that the catalogue stores."""
    try:
        tags = json.loads(stored)
    except (ValueError, RecursionError):
        return (stored,)
    return tuple(map(str, tags)) if isinstance(tags, list) else (stored,)


def union_of_tags(first: str, second: str) -> str:
    """Return the SQL of the union of two stored texts of tags, given as SQL terms."""
    return (
        "(SELECT json_group_array(value) FROM ("
        f"SELECT value FROM json_each({_array(first)}) UNION "
        f"SELECT value FROM json_each({_array(second)}) ORDER BY value))"
    )


def _array(term: str) -> str:
    return (
        f"CASE WHEN json_valid({term}) AND json_type({term}) = 'array' THEN {term} "
        f"ELSE json_array({term}) END"
    )


def change_tags(
    db: Database,
    models: Iterable[str],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    now: str,
) -> int:
    """Add and remove tags of the models with these ids; return how many models changed.

    A tag that is both added and removed is added. Call it within ``opened.write()``.
    """
    added = set(map(check_tag, add))
    removed = set(map(check_tag, remove)) - added
    table = db.table("models")
    changed = 0
    for model in models:
        for row in list(table.rows_where("id = ?", [model], select="tags")):
            before = {from_sqlite_text(tag) for tag in tags_from_json(row["tags"])}
            after = (before - removed) | added
            if after != before:
                stored = tags_json(map(to_sqlite_text, after))
                table.update(model, {"tags": stored, "updated_at": now})
                changed += 1
    return changed


def delete_models(db: Database, models: Iterable[str]) -> int:
    """Delete the models with these ids, and the records of their files and places.

    Return how many there were. No model file is touched: the next import of the same place brings
    the model back. Call it within ``opened.write()``.
    """
    ids = [json.dumps(list(models))]
    chosen = "{} IN (SELECT value FROM json_each(?))"
    # A foreign key would delete these too, but another program may not have enforced it.
    for companion in ("model_files", "model_places"):
        db.table(companion).delete_where(chosen.format("model_id"), ids)
    table = db.table("models")
    count = table.count_where(chosen.format("id"), ids)
    table.delete_where(chosen.format("id"), ids)
    return count
