"""The models that an import added, changed, marked as missing or pruned, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from modelstore.catalogue.schema import single_value
from modelstore.database.sqlite_text import from_sqlite_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.database.handle import Database

Kind = Literal["added", "updated", "missing", "pruned"]
SIGNS: dict[Kind, str] = {"added": "+", "updated": "~", "missing": "~", "pruned": "-"}

FEW = 20
"""An import that changes more models than this only counts them."""


class ModelChange(NamedTuple):
    """One model that an import changed."""

    kind: Kind
    id: str
    name: str


def last_row(db: Database) -> int:
    """Return the number of the last row of ``models``; rows that are added later have more."""
    return int(single_value(db, "SELECT coalesce(max(rowid), 0) FROM models"))


def changes_since(
    db: Database, row: int, now: str, *, added: int, updated: int
) -> list[ModelChange] | None:
    """Return the models after the last row `row`, and the models changed at the time `now`.

    `added` and `updated` say how many there must be. None if there are others: another program
    wrote meanwhile, or in the same second.
    """
    order = "ORDER BY name COLLATE NOCASE, id LIMIT ?"
    columns = "SELECT id, name, status FROM models"
    new = list(db.query(f"{columns} WHERE rowid > ? {order}", [row, added + 1])) if added else []
    old = (
        list(
            db.query(
                f"{columns} WHERE rowid <= ? AND updated_at = ? {order}", [row, now, updated + 1]
            )
        )
        if updated
        else []
    )
    if (len(new), len(old)) != (added, updated):
        return None
    changed = [
        ModelChange("missing" if row["status"] == "missing" else "updated", *_named(row))
        for row in old
    ]
    return [*(ModelChange("added", *_named(row)) for row in new), *changed]


def changes_between(before: str | None, after: Database) -> Iterator[ModelChange]:
    """Yield every difference between two catalogues, by name: for a dry run.

    `before` is the path of the former one; None is an empty one. It may have an older schema.
    """
    order = "ORDER BY name COLLATE NOCASE, id"
    if before is None:
        for row in after.query(f"SELECT id, name FROM models {order}"):
            yield ModelChange("added", *_named(row))
        return
    after.attach("former", before)
    there = {row["name"] for row in after.query("SELECT name FROM pragma_table_info('models')")}
    kept = {
        row["name"] for row in after.query("SELECT name FROM pragma_table_info('models', 'former')")
    }
    columns = sorted(there & kept)
    new, old = (", ".join(f"{side}.{column}" for column in columns) for side in ("m", "f"))
    for row in after.query(
        "SELECT m.id, m.name, f.id IS NULL AS is_new, "
        "m.status = 'missing' AND f.status <> 'missing' AS is_gone "
        "FROM main.models AS m LEFT JOIN former.models AS f ON f.id = m.id "
        f"WHERE f.id IS NULL OR ({new}) IS NOT ({old}) ORDER BY m.name COLLATE NOCASE, m.id"
    ):
        kind: Kind = "added" if row["is_new"] else "missing" if row["is_gone"] else "updated"
        yield ModelChange(kind, *_named(row))
    for row in after.query(
        "SELECT id, name FROM former.models WHERE id NOT IN (SELECT id FROM main.models) " + order
    ):
        yield ModelChange("pruned", *_named(row))


def named_models(db: Database, ids: Iterable[str]) -> list[ModelChange]:
    """Return the models with these ids as pruned ones: their names, before they are deleted."""
    table = db.table("models")
    return [
        ModelChange("pruned", *_named(row))
        for model in ids
        for row in table.rows_where("id = ?", [model], select="id, name")
    ]


def _named(row: dict[str, str]) -> tuple[str, str]:
    return row["id"], from_sqlite_text(row["name"])
