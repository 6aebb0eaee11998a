"""The user's own marks on models, and taking models out of the catalogue.

The functions write within the caller's transaction (``with opened.write() as conn``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.catalogue.staging import tags_json, union_of_tags
from modelstore.errors import UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modelstore.database.sqlite import sqlite3

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


def change_tags(
    conn: sqlite3.Connection,
    models: Iterable[str],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    now: str,
) -> int:
    """Add and remove tags of the models of these ids; return how many models changed.

    A tag that is both added and removed is added.
    """
    added = tags_json(check_tag(tag) for tag in add)
    removed = tags_json(check_tag(tag) for tag in remove if tag not in add)
    kept = (
        "(SELECT json_group_array(value) FROM (SELECT value FROM json_each(tags) "
        "EXCEPT SELECT value FROM json_each(:removed) ORDER BY value))"
    )
    new = union_of_tags(kept, ":added")
    sql = f"UPDATE models SET tags = {new}, updated_at = :now WHERE id = :id AND {new} <> tags"
    changed = 0
    for model in models:
        values = {"added": added, "removed": removed, "now": now, "id": model}
        changed += conn.execute(sql, values).rowcount
    return changed


def forget(conn: sqlite3.Connection, models: Iterable[str]) -> int:
    """Delete the models of these ids with their files' and places' records; return how many.

    No model file is touched. The next import of the same place brings the model back.
    """
    return sum(delete_model(conn, model) for model in models)


def delete_model(conn: sqlite3.Connection, model: str) -> int:
    """Delete one model's rows whether or not foreign keys are enforced; return 1, or 0 if none."""
    conn.execute("DELETE FROM model_files WHERE model_id = ?", (model,))
    conn.execute("DELETE FROM model_places WHERE model_id = ?", (model,))
    return conn.execute("DELETE FROM models WHERE id = ?", (model,)).rowcount
