"""The models that an import added, changed, marked as missing or pruned, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelstore.database.sqlite_text import from_sqlite_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.database.handle import Database

Kind = Literal["added", "updated", "missing", "pruned"]
SIGNS: dict[Kind, str] = {"added": "+", "updated": "~", "missing": "~", "pruned": "-"}

FEW = 20
"""An import that changes more models than this only counts them."""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One model that an import changed."""

    kind: Kind
    id: str
    name: str


def changes_since(db: Database, now: str, counted: int) -> list[ModelChange]:
    """Return the models that were written at the time `now`, at most one more than `counted`.

    Another program may have written in the same second: then there are more.
    """
    rows = db.query(
        "SELECT id, name, status, created_at = updated_at AS is_new FROM models "
        f"WHERE updated_at = ? ORDER BY name COLLATE NOCASE, id LIMIT {counted + 1}",
        [now],
    )
    return [ModelChange(_kind(row["status"], is_new=row["is_new"]), *_named(row)) for row in rows]


def changes_between(before: Database | None, after: Database) -> Iterator[ModelChange]:
    """Yield every difference of two catalogues, by name: for a dry run. None is an empty one."""
    sql = "SELECT id, name, status, updated_at FROM models ORDER BY name COLLATE NOCASE, id"
    old = {} if before is None else {row["id"]: row for row in before.query(sql)}
    for row in after.query(sql):
        former = old.pop(row["id"], None)
        if former is None:
            yield ModelChange("added", *_named(row))
        elif former["updated_at"] != row["updated_at"]:
            has_changed_status = former["status"] != row["status"]
            kind: Kind = (
                "missing" if has_changed_status and row["status"] == "missing" else "updated"
            )
            yield ModelChange(kind, *_named(row))
    for former in old.values():
        yield ModelChange("pruned", *_named(former))


def named_models(db: Database, ids: Iterable[str]) -> list[ModelChange]:
    """Return the models with these ids as pruned ones: their names, before they are deleted."""
    table = db.table("models")
    return [
        ModelChange("pruned", *_named(row))
        for model in ids
        for row in table.rows_where("id = ?", [model], select="id, name")
    ]


def _kind(status: str, *, is_new: bool) -> Kind:
    return "missing" if status == "missing" else "added" if is_new else "updated"


def _named(row: dict[str, str]) -> tuple[str, str]:
    return row["id"], from_sqlite_text(row["name"])
