"""An SQLite database as a source: opened without changing it or its log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.catalogue.schema import is_catalogue, ownership, single_value
from modelstore.database.handle import connect
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.errors import DamageError, LockedError, RefusedError, SourceError
from modelstore.found import Skipped
from modelstore.sources.base import Note
from modelstore.text import DEFAULT_TIMEOUT, plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase


@contextmanager
def opened_source(path: str, timeout: float = DEFAULT_TIMEOUT) -> Iterator[OpenDatabase]:
    """Open a database to read models from it and its log. The log is never folded.

    If SQLite cannot use the files in place, a private copy is read. Raises `SourceError` if the
    database must not or cannot be opened, and for an error while it is read.
    """
    try:
        opened = open_database(
            path, purpose=Purpose.READ, timeout=timeout, fold=False, check=is_catalogue
        )
    except (RefusedError, DamageError, LockedError) as error:
        raise SourceError(error.message, hint=error.hint) from None
    with opened:
        try:
            yield opened
        except sqlite3.Error as error:
            raise SourceError(
                f"reading the database '{opened.probe.name}' failed: {visible(str(error), 200)}",
                hint="see modelstore verify FILE",
            ) from None


def sqlite_kind(path: str) -> str:
    """Return ``catalogue`` or ``dashboard``, the kind of a database.

    The log is read too: a new database may have its first rows, and its mark, only there.
    Raises `SourceError` if it has no table of models or cannot be read.
    """
    with opened_source(path) as opened:
        if ownership(opened.db) == "catalogue":
            return "catalogue"
        if list(opened.db.query("PRAGMA table_info(models)")):
            return "dashboard"
        name = opened.probe.name
    raise SourceError(
        f"the database '{name}' has no table of models",
        hint="modelstore reads its own catalogues and the llama proxy dashboard's database",
    )


def log_notes(opened: OpenDatabase, total: int) -> Iterator[Note | Skipped]:
    """Yield notes on how the database was read. `total` is its number of models.

    A log that SQLite would read only in part is a skip.
    """
    log = f"{opened.probe.name}-wal"
    for warning in opened.warnings:
        if warning in opened.not_folded:
            yield Skipped(log, warning)
        else:
            yield Note(warning)
    if not opened.probe.wal_size:
        return
    kept = _count_without_log(opened)
    if kept is None:
        yield Note(f"{opened.probe.name} could only be read together with its log; both were left")
    elif kept != total:
        yield Note(
            f"of the {plural(total, 'model')} in {opened.probe.name}, {kept:,} are in its main "
            "file; its log was read too, and left as it is"
        )


def _count_without_log(opened: OpenDatabase) -> int | None:
    """Count the models in the main file alone; None if it cannot be read without its log."""
    try:
        main = connect(opened.path, "immutable")
    except sqlite3.Error:
        return None
    try:
        if not list(main.query("PRAGMA table_info(models)")):
            return 0
        return int(single_value(main, "SELECT count(*) FROM models"))
    except sqlite3.Error:
        return None
    finally:
        main.close()
