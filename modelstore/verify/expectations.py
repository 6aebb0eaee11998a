"""Whether the main file alone holds the rows and the models that the caller expects."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy
from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.finding import Finding, findings_of
from modelstore.text import plural
from modelstore.verify.content import quoted
from modelstore.verify.expected import DEFAULT_TABLE, KEYS, Expected, RowCount, key_of
from modelstore.verify.subject import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_finding = findings_of("expectations")

_VALUE = 80  # characters of a value that a sentence shows
_KEPT = 1000  # problems that the data name
_HAS_TABLE = (
    "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE"
)


def check_expectations(
    expected: Expected,
    alone: sqlite3.Connection,
    view: sqlite3.Connection | None,
    seen: str = "in the main file alone",
) -> Iterator[Finding]:
    """Yield whether what is expected is there; `seen` says where `alone` looks.

    `view` sees the log as well, where that may make a difference: a failure then says what is in
    the log.
    """
    for wanted in expected.counts:
        yield _count(wanted, alone, view, seen)
    if expected.models:
        yield _models(expected.models, alone, seen)


def _count(
    wanted: RowCount, alone: sqlite3.Connection, view: sqlite3.Connection | None, seen: str
) -> Finding:
    found = _rows(alone, wanted.table)
    is_met = isinstance(found, int) and (
        found >= wanted.number if wanted.at_least else found == wanted.number
    )
    words = "at least " if wanted.at_least else ""
    if isinstance(found, int):
        measured = f"{wanted.table}: {plural(found, 'row')} {seen}"
        measured += ", as expected" if is_met else f", not {words}{wanted.number:,}"
    else:
        measured = f"{wanted.table}: {found}; {words}{plural(wanted.number, 'row')} expected"
    with_log = _rows(view, wanted.table) if view is not None and not is_met else None
    if isinstance(with_log, int) and with_log != found:
        measured += f" ({with_log:,} together with its -wal)"
    return _finding(
        "count",
        "pass" if is_met else "fail",
        measured,
        wanted.table,
        None if is_met else "import again, or restore the database from a backup",
        {
            "table": wanted.table,
            "expected": wanted.number,
            "at_least": wanted.at_least,
            "found": found if isinstance(found, int) else None,
            "with_log": with_log if isinstance(with_log, int) else None,
        },
    )


def _rows(conn: sqlite3.Connection, table: str) -> int | str:
    """Return how many rows a table has, or why that cannot be told."""
    try:
        if conn.execute(_HAS_TABLE, (table,)).fetchone() is None:
            return "there is no such table"
        return int(conn.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])
    except (sqlite3.Error, UnicodeEncodeError) as error:
        if isinstance(error, sqlite3.Error) and is_busy(error):
            raise
        return f"it cannot be read ({error})"


def _models(
    models: tuple[Mapping[str, object], ...], alone: sqlite3.Connection, seen: str
) -> Finding:
    best = _Best(models)
    try:
        rows = alone.execute(f"SELECT * FROM {DEFAULT_TABLE}")
        columns = [str(column[0]) for column in rows.description]
        for values in rows:
            best.take(dict(zip(columns, values, strict=True)))
    except sqlite3.Error as error:
        if is_busy(error):
            raise
        return _finding(
            "models",
            "fail",
            f"the models cannot be read: {error}",
            DEFAULT_TABLE,
            "import again, or restore the database from a backup",
        )
    missing = best.missing()
    different = best.different()
    met = len(models) - len(missing) - len(different)
    measured = f"{met:,} of {plural(len(models), 'expected model')} {seen}"
    if missing:
        measured += f"; missing: {_listed(missing)}"
    if different:
        measured += f"; different: {_listed(different)}"
    is_met = not (missing or different)
    return _finding(
        "models",
        "pass" if is_met else "fail",
        measured,
        DEFAULT_TABLE,
        None if is_met else "import again, or restore the database from a backup",
        {
            "expected": len(models),
            "met": met,
            "missing": missing[:_KEPT],
            "different": different[:_KEPT],
        },
    )


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


class _Best:
    """For each expected model the row that fits it best, found in one pass over the rows."""

    def __init__(self, models: tuple[Mapping[str, object], ...]) -> None:
        self._models = models
        self._differences: dict[int, list[str]] = {}
        self._by_key: dict[tuple[str, str], list[int]] = {}
        for place, model in enumerate(models):
            self._by_key.setdefault(key_of(model), []).append(place)

    def take(self, row: dict[str, object]) -> None:
        """Hold one row against the models that it may be."""
        for key in KEYS:
            value = row.get(key)
            if not isinstance(value, str):
                continue
            for place in self._by_key.get((key, from_sqlite_text(value)), ()):
                known = self._differences.get(place)
                if known != []:
                    found = list(_differences(self._models[place], row))
                    if known is None or len(found) < len(known):
                        self._differences[place] = found

    def missing(self) -> list[str]:
        """Return the models of which there is no row."""
        return [
            key_of(model)[1]
            for place, model in enumerate(self._models)
            if place not in self._differences
        ]

    def different(self) -> list[str]:
        """Return the models whose row has other values, with these."""
        return [
            f"{key_of(self._models[place])[1]}: {'; '.join(found)}"
            for place, found in sorted(self._differences.items())
            if found
        ]


def _differences(model: Mapping[str, object], row: Mapping[str, object]) -> Iterator[str]:
    for field, wanted in model.items():
        if field not in row:
            yield f"there is no {field}"
            continue
        value = row[field]
        found: object = from_sqlite_text(value) if isinstance(value, str) else value
        if isinstance(wanted, (list, dict)) and isinstance(value, str):
            with suppress(ValueError, RecursionError):
                found = json.loads(value)
        if found != wanted:
            yield f"{field} is {_short(found)}, not {_short(wanted)}"


def _short(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= _VALUE else text[: _VALUE - 1] + "…"
