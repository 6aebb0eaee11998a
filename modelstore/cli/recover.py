"""``modelstore recover``: the rows of any database back, into a new file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelstore.cli.options import (
    DatabaseArgument,
    DbOption,
    FormatOption,
    JsonOption,
    chosen_format,
)
from modelstore.errors import ExitCode  # noqa: TC001  # Typer reads the annotation

if TYPE_CHECKING:
    from modelstore.cli.session import DatabaseChoice
    from modelstore.recovery.result import Recovery


EXAMPLES = (
    "modelstore recover app.db                          say what would be found",
    "modelstore recover app.db --into new.db            write it",
    "modelstore recover app.db --into new.db --wal old-wal",
)


def command(
    database: DatabaseArgument = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="NEW.db",
            help="The file to write; it must not exist. Without it, only say what would be found.",
            show_default=False,
        ),
    ] = None,
    wal: Annotated[
        list[str] | None,
        typer.Option("--wal", metavar="FILE", help="A log found elsewhere.", show_default=False),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="FILE", help="Another copy of the database.", show_default=False
        ),
    ] = None,
    deleted: Annotated[
        bool,
        typer.Option(
            "--deleted",
            help="Look for deleted rows in free pages and free space too; they get tables of their "
            "own.",
        ),
    ] = False,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FILE", help="Write the JSON report there.", show_default=False
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """Bring the rows of a database back, into a new file.

    Works on any SQLite database, on a -wal alone, and on files that were deleted while a process
    still has them open. Never changes what it reads. Exit 0 when everything that the evidence
    holds is in the new file, 4 when some of it could not be read now, 5 when rows are missing.
    """
    import os
    from contextlib import ExitStack

    from modelstore.cli.output import current
    from modelstore.cli.progress import progress
    from modelstore.cli.result_files import ResultFile
    from modelstore.cli.session import choose_database
    from modelstore.errors import RefusedError, UsageError
    from modelstore.recovery.recover import Request, recover

    out = current()
    form = chosen_format(output_format, as_json)
    choice = choose_database(db, database)
    given = (("--into", [into]), ("--wal", wal), ("--also", also), ("--report", [report]))
    for name, values in given:
        if "" in (values or ()):
            raise UsageError(f"{name} is empty", hint="an unset variable in a script?")
    request = Request(choice.path, into, tuple(wal or ()), tuple(also or ()), deleted)
    with ExitStack() as stack:
        file = stack.enter_context(ResultFile(report, "--report")) if report else None
        show = stack.enter_context(progress(out, "pages", "looking for evidence"))
        try:
            done = recover(request, show)
        except RefusedError as error:
            if choice.origin != "default" or os.path.lexists(choice.path):
                raise
            hint = "name the database: modelstore recover DATABASE"
            raise RefusedError(error.message, hint=hint) from error
        if file is not None:
            from modelstore.render.rows import dump_json

            file.write(dump_json(_payload(choice, done), indent=2) + "\n")
    _answer(choice, done, form)
    return done.exit_code


def _payload(choice: DatabaseChoice, done: Recovery) -> dict[str, object]:
    from modelstore.cli.reporting import payload
    from modelstore.render.recovery import recovery_payload

    return payload("recover", choice, recovery_payload(done), done.exit_code)


def _answer(choice: DatabaseChoice, done: Recovery, form: str | None) -> None:
    from modelstore.cli.output import current
    from modelstore.cli.reporting import write_answer
    from modelstore.render.recovery import recovery_body
    from modelstore.render.report import Report

    columns = ("name", "rows", "only_in_log", "fitted", "set_aside", "missing_pages")
    rows = [tuple(getattr(table, name) for name in columns) for table in done.tables]
    report = Report(tuple(recovery_body(done)), _payload(choice, done), columns, rows)
    write_answer(current(), report, form)
