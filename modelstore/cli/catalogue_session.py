"""What the commands that show or change models share: the models behind a path, and the close."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError, UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.sqlite import sqlite3
    from modelstore.render.report import Report, Screen


@contextmanager
def models_session(
    out: Output, choice: DatabaseChoice, *, timeout: float, fold: bool = True, write: bool = False
) -> Iterator[Session]:
    """Open a database that has models; what SQLite complains of meanwhile is explained.

    To read, another program's table of models will do.
    """
    from modelstore.cli.session import Session
    from modelstore.database.open import Purpose
    from modelstore.database.sqlite import sqlite3
    from modelstore.database.sqlite_errors import translate_sqlite_error

    purpose = Purpose.WRITE if write else Purpose.READ
    with Session(out, choice, purpose, timeout=timeout, fold=fold) as session:
        try:
            _find_models(session.opened.conn, choice.path, write=write)
            yield session
        except sqlite3.Error as error:
            explained = translate_sqlite_error(error, choice.path)
            if explained is None:
                raise
            raise explained from error


def _find_models(conn: sqlite3.Connection, path: str, *, write: bool) -> None:
    from modelstore.catalogue.schema import check_readable

    owner = check_readable(conn, path)
    name = visible(path, 200)
    if owner == "empty":
        raise RefusedError(
            f"{name} is an empty database: there is no catalogue in it yet",
            hint=f"begin with: modelstore import DIRECTORY --db {name}",
        )
    if owner == "foreign" and write:
        raise RefusedError(
            f"{name} belongs to another program: it is never altered",
            hint=f"make a catalogue of its models with: modelstore import {name} --db models.db",
        )
    if owner == "foreign":
        import platform

        from modelstore.catalogue.foreign import expose

        if expose(conn, host=platform.node() or "localhost") is None:
            raise RefusedError(
                f"{name} is an SQLite database without a table of models",
                hint="checkpoint, inspect-wal and verify work on any database; for models, "
                "name a catalogue with --db",
            )


def screen_of(out: Output) -> Screen | None:
    """Return the terminal that stdout is; None where it is none."""
    from modelstore.render.report import Screen

    return Screen(out.width, out.color) if out.stdout_is_terminal else None


def tell_fold(session: Session, *, on_stdout: bool) -> None:
    """Say what the close folded: on a terminal always, elsewhere where the log held anything.

    The line belongs to the answer where that is words (`on_stdout`); beside an answer for a
    program it goes to stderr.
    """
    from modelstore.cli.session import blocker_lines

    checkpoint = session.checkpoint
    if checkpoint is None:
        return
    if not session.out.stdout_is_terminal:
        session.report_fold()
        return
    if on_stdout:
        session.out.answer(checkpoint.wal_line() + "\n")
    else:
        session.out.message(checkpoint.wal_line())
    if checkpoint.left:
        for line in blocker_lines(checkpoint):
            session.out.note(line)


def tell_report(session: Session, report: Report, form: str | None) -> None:
    """Write a report after the close, with what that folded: its words, or its JSON keys."""
    from typing import cast

    from modelstore.render.report import ReportFormat, write_report

    chosen = cast("ReportFormat", form or "table")
    write_report(session.out.answer, report, chosen, screen=screen_of(session.out))
    tell_fold(session, on_stdout=chosen == "table")


def check_given(what: str, values: Sequence[str]) -> None:
    """Raise `UsageError` for an empty argument."""
    if "" in values:
        raise UsageError(f"{what} is empty", hint="an unset variable in a script?")
