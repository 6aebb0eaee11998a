"""The session of a command on the models: it finds them behind any path."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.text import host_name, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.connection import OpenDatabase


@contextmanager
def models_session(
    out: Output, choice: DatabaseChoice, *, timeout: float, fold: bool = True, write: bool = False
) -> Iterator[Session]:
    """Open a catalogue; to read, also another program's database that has a table of models.

    Errors of SQLite in the body are raised as `ModelstoreError`. `timeout` is in seconds.
    """
    from modelstore.cli.session import Session
    from modelstore.database.open import Purpose
    from modelstore.database.sqlite import sqlite3
    from modelstore.database.sqlite_errors import translate_sqlite_error

    purpose = Purpose.WRITE if write else Purpose.READ
    with Session(out, choice, purpose, timeout=timeout, fold=fold) as session:
        try:
            _find_models(session.opened, choice.path, write=write)
            yield session
        except sqlite3.Error as error:
            explained = translate_sqlite_error(error, choice.path)
            if explained is None:
                raise
            raise explained from error


def _find_models(opened: OpenDatabase, path: str, *, write: bool) -> None:
    """Check that the database holds models, and make foreign and older ones readable as ours."""
    from modelstore.catalogue.schema import (
        check_readable,
        create_or_migrate,
        show_current_schema,
    )

    owner = check_readable(opened.db, path)
    name = visible(path, 200)
    if owner == "empty" and opened.reasons:
        raise RefusedError(
            f"{name} is empty without its log: {opened.reasons[0].text}",
            hint=opened.reasons[0].hint,
        )
    if owner == "empty":
        raise RefusedError(
            f"{name} is an empty database: there is no catalogue in it yet",
            hint=f"begin with: modelstore import DIRECTORY --db {name}",
        )
    if owner == "foreign" and write:
        raise RefusedError(
            f"{name} belongs to another program: modelstore never changes it",
            hint=f"make a catalogue of its models with: modelstore import {name} --db models.db",
        )
    if owner == "catalogue" and write:
        create_or_migrate(opened, path)
    elif owner == "catalogue":
        show_current_schema(opened.db)
    else:
        from modelstore.catalogue.foreign import expose

        if expose(opened.db, host=host_name()) is None:
            raise RefusedError(
                f"{name} is an SQLite database without a table of models",
                hint="checkpoint, inspect-wal and verify work on any database; for models, "
                "name a catalogue with --db",
            )
