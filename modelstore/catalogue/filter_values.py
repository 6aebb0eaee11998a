"""The values of filters that no model has, with those that a person may have meant."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.catalogue.query import FILTERS
from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text
from modelstore.model import ARRAY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modelstore.database.handle import Database

_NEAR = 3  # values that a note suggests
_COMPARED = 1000  # values of a column, the most common first
_ITEMS = (
    "(SELECT json_each.value AS value FROM models, json_each("
    "CASE WHEN json_valid(models.{0}) THEN models.{0} ELSE '[]' END))"
)


@dataclass(frozen=True, slots=True)
class AbsentValue:
    """A value that no model has. `near` holds similar ones, each with its number of models."""

    column: str
    value: str
    near: tuple[tuple[str, int], ...]


def absent_values(db: Database, filters: Mapping[str, Sequence[str]]) -> Iterator[AbsentValue]:
    """Yield the values of `filters` (a name of `FILTERS` to its values) that no model has."""
    for name, wanted in filters.items():
        column = FILTERS[name]
        for value in wanted:
            if not _is_there(db, column, value):
                yield AbsentValue(column, value, _near(value, known_values(db, column)))


def _rows(column: str) -> str:
    return (
        _ITEMS.format(column)
        if column in ARRAY_COLUMNS
        else f"(SELECT {column} AS value FROM models)"
    )


def _is_there(db: Database, column: str, value: str) -> bool:
    fold = "" if column == "host" or column in ARRAY_COLUMNS else "COLLATE NOCASE"
    sql = f"SELECT 1 FROM {_rows(column)} WHERE value = ? {fold} LIMIT 1"
    return any(db.query(sql, [to_sqlite_text(value)]))


def known_values(db: Database, column: str) -> dict[str, int]:
    """Return the most common values of a column, each with its number of models."""
    sql = (
        f"SELECT value, count(*) AS number FROM {_rows(column)} WHERE value IS NOT NULL "
        f"GROUP BY value ORDER BY number DESC, value LIMIT {_COMPARED}"
    )
    return {from_sqlite_text(str(row["value"])): row["number"] for row in db.query(sql)}


def _near(value: str, known: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(value.lower(), folded, n=_NEAR, cutoff=0.6)
    return tuple((folded[name], known[folded[name]]) for name in close)
