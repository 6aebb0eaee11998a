"""The values that a shell offers: files, kinds, columns, models. Quick, and never a failure."""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import TYPE_CHECKING

import typer  # noqa: TC002  # Typer reads the annotations

from modelstore.model import CAPABILITIES, COMPUTED_COLUMNS, MODEL_COLUMNS, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOKED_AT = 10_000  # names of one directory
_OFFERED = 200  # values at most
_DESCRIBED = 60  # characters beside a value
_PATIENCE = 1.0  # seconds for a query; nobody waits longer for a Tab
_HARMLESS = re.compile(r"[\w.:/@%+=,][\w.:/@%+=,-]*")  # a shell takes it as one plain word


def complete_database(incomplete: str) -> list[str]:
    """Offer the SQLite databases and directories that begin with the typed text."""
    return _files(incomplete, _is_database)


def complete_kind(incomplete: str) -> list[tuple[str, str]]:
    """Offer the kinds of source."""
    from modelstore.sources.kinds import KINDS

    return [(kind, info.summary) for kind, info in KINDS.items() if kind.startswith(incomplete)]


def complete_source(incomplete: str) -> list[str]:
    """Offer files and directories, and the address of a server on this machine."""
    if incomplete.startswith("http"):
        local = ("http://127.0.0.1:9931", "http://127.0.0.1:11434", "http://127.0.0.1:1234")
        return [address for address in local if address.startswith(incomplete)]
    return _files(incomplete, lambda _: True)


def _files(incomplete: str, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """Return the directories and the wanted files that begin with `incomplete`.

    A name that a shell could take for an option or a home directory gets ``./`` in front.
    """
    directory, prefix = os.path.split(incomplete)
    found: list[str] = []
    try:
        with os.scandir(directory or ".") as entries:
            for entry in islice(entries, _LOOKED_AT):
                name = entry.name
                if not name.startswith(prefix) or not name.isprintable():
                    continue
                if name.startswith(".") and not prefix:
                    continue
                path = os.path.join(directory, name)
                if not directory and name.startswith(("-", "~")):
                    path = os.path.join(".", name)
                if entry.is_dir():
                    found.append(path + os.sep)
                elif is_wanted(entry):
                    found.append(path)
                if len(found) >= _OFFERED:
                    break
    except (OSError, ValueError):
        return []
    return sorted(found)


def _is_database(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file():  # never open a FIFO or a device
        return False
    try:
        with open(entry.path, "rb", buffering=0) as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def complete_nothing(incomplete: str) -> list[str]:
    """Offer nothing: there is nothing to choose from."""
    del incomplete
    return []


def complete_column(incomplete: str) -> list[str]:
    """Offer the columns of a model."""
    known = (*MODEL_COLUMNS, *COMPUTED_COLUMNS)
    return [column for column in known if column.startswith(incomplete)]


def complete_cache_type(incomplete: str) -> list[str]:
    """Offer the types of a cache."""
    from modelstore.catalogue.memory import CACHE_TYPES

    return [name for name in CACHE_TYPES if name.startswith(incomplete)]


def complete_columns(incomplete: str) -> list[str]:
    """Offer the next column of a list with commas, or ``all``."""
    every = ["all"] if "all".startswith(incomplete) else []
    return every + complete_sort(incomplete)


def complete_sort(incomplete: str) -> list[str]:
    """Offer the next sort key of a list with commas."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + column for column in complete_column(last)]


def complete_status(incomplete: str) -> list[str]:
    """Offer the statuses of a model."""
    return [status for status in STATUSES if status.startswith(incomplete)]


def complete_capability(incomplete: str) -> list[str]:
    """Offer the capabilities of a model."""
    return [name for name in CAPABILITIES if name.startswith(incomplete)]


def complete_model(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the names of models with what they are, else their ids with their names."""
    facts = "architecture || ' ' || coalesce(quantization, '')"
    names = _described(ctx, "name", facts, incomplete)
    return names or _described(ctx, "id", "name", incomplete)


def _described(
    ctx: typer.Context, column: str, description: str, incomplete: str
) -> list[tuple[str, str]]:
    """Return values of a column with the value of an SQL expression, made safe to show."""
    from modelstore.text import visible

    rows = _query(ctx, column, f"min(coalesce({description}, ''))", incomplete)
    return [
        (value, visible(text.strip(), _DESCRIBED))
        for value, text in rows
        if _HARMLESS.fullmatch(value)
    ]


def complete_values(column: str) -> Callable[[typer.Context, str], list[str]]:
    """Return a completion of the values that `column` has in the catalogue."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return _values(ctx, column, incomplete)

    return complete


def complete_tag(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the tags of the models."""
    import json

    found: set[str] = set()
    for tags in _values(ctx, "tags", ""):
        try:
            found.update(tag for tag in json.loads(tags) if isinstance(tag, str))
        except ValueError:
            continue
    return sorted(tag for tag in found if tag.startswith(incomplete) and _HARMLESS.fullmatch(tag))


def _values(ctx: typer.Context, column: str, incomplete: str) -> list[str]:
    """Return the first values of a column that begin with `incomplete`.

    Only plain words: a Tab must not bring characters that a shell acts on onto a command line.
    """
    found = [value for value, _ in _query(ctx, column, "''", incomplete)]
    return [value for value in found if column == "tags" or _HARMLESS.fullmatch(value)]


def _query(
    ctx: typer.Context, column: str, description: str, incomplete: str
) -> list[tuple[str, str]]:
    """Return values of a column that begin with `incomplete`, and a text for each; fold nothing."""
    import time

    from modelstore.cli.catalogue_session import models_session
    from modelstore.cli.output import current
    from modelstore.cli.session import choose_database
    from modelstore.database.sqlite import sqlite3
    from modelstore.errors import ModelstoreError

    out = current()
    sql = (
        f"SELECT {column} AS value, {description} AS text FROM models "
        f"WHERE substr({column}, 1, ?) = ? GROUP BY {column} ORDER BY {column} LIMIT {_OFFERED}"
    )
    try:
        choice = choose_database(ctx.params.get("db"))
        with models_session(out, choice, timeout=0, fold=False) as session:
            end = time.monotonic() + _PATIENCE
            db = session.opened.db
            db.conn.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            rows = db.query(sql, (len(incomplete), incomplete))
            return [(str(row["value"]), str(row["text"])) for row in rows]
    except (ModelstoreError, OSError, sqlite3.Error):
        return []
