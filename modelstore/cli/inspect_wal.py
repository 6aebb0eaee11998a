"""``modelstore inspect-wal``: what the WAL of any database holds, and what would be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DatabaseArgument,
    DbOption,
    Format,
    FormatOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    chosen_format,
    seconds,
)
from modelstore.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.wal.inspection import Inspection

_EVERY = 1_000_000  # names that --all keeps in memory


def command(
    database: DatabaseArgument = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="List every frame.", show_default=False)
    ] = False,
    transactions: Annotated[
        bool, typer.Option("--transactions", help="List every commit.", show_default=False)
    ] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="Name every model at risk, not ten.", show_default=False),
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Read as much of the database as exact figures take.",
            show_default=False,
        ),
    ] = False,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch",
            metavar="DURATION",
            help="Show it again and again, every DURATION, until Ctrl-C; changes nothing.",
            show_default=False,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    no_checkpoint: NoCheckpointOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> ExitCode:
    """Show what the WAL holds, and what would be lost without it.

    Works on any SQLite database, or on a -wal alone. Everything is read from the raw files before
    SQLite opens them. Exit 0 when it can be read, whatever it holds; 5 for damage that SQLite
    would hide. Scripts that want to fail on pending frames use: verify --no-checkpoint.
    """
    from modelstore.cli.output import current
    from modelstore.cli.session import choose_database

    out = current()
    form = chosen_format(output_format, as_json)
    choice = choose_database(db, database)
    if watch is not None:
        if frames or transactions:
            raise UsageError("--watch shows the state alone", hint="leave out the other option")
        from modelstore.cli.watching import watch_log

        return watch_log(out, choice, seconds(watch), form)
    if frames and transactions:
        raise UsageError("--frames and --transactions are two lists", hint="give one")
    found = _look(choice, limit=_EVERY if every else 10, deep=deep)
    if frames or transactions:
        from modelstore.cli.log_listing import list_frames, list_transactions

        (list_frames if frames else list_transactions)(out, found, form)
    checkpoint, refusal, unreadable = _close(
        out, found, choice, seconds(timeout), fold=not no_checkpoint
    )
    if not (frames or transactions):
        _report(out, found, checkpoint, refusal, form)
    elif checkpoint is not None:
        from modelstore.cli.session import report_fold

        report_fold(out, checkpoint)
    is_damaged = found.is_damaged or found.main_problem or unreadable
    return ExitCode.FAILED if is_damaged else ExitCode.OK


def _look(choice: DatabaseChoice, *, limit: int, deep: bool) -> Inspection:
    """Read the raw files; what is no database and no log is refused with its real name."""
    import os

    from modelstore.cli.session import refuse_absent
    from modelstore.wal.inspection import inspect_log, split_path
    from modelstore.wal.main_file import MainState

    database, log = split_path(choice.path)
    if not os.path.lexists(log):
        from modelstore.database.probe import probe

        refuse_absent(choice)
        probe(database)  # says what it is, if it is no database
    found = inspect_log(choice.path, names=("models", "name"), limit=limit, deep=deep)
    if found.loss.main.state is MainState.FOREIGN and found.scan.header is None:
        from modelstore.database.probe import probe

        probe(database)
    return found


def _close(
    out: Output, found: Inspection, choice: DatabaseChoice, patience: float, *, fold: bool
) -> tuple[Checkpoint | None, str | None, bool]:
    """Open and fold, as every command does.

    Return what that did, or why it was not done, and whether that is damage which SQLite found.
    """
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.open import Purpose
    from modelstore.errors import DamageError, ModelstoreError

    if not fold:
        return None, "left as it is, as asked (--no-checkpoint)", False
    if not found.has_database:
        return None, "there is no database to fold it into", False
    if found.loss.live_problem is not None:  # perhaps another database's log: keep both apart
        return None, "nothing was folded: with this log the database is malformed", True
    beside = DatabaseChoice(found.database, choice.origin)
    try:
        with Session(out, beside, Purpose.READ, timeout=patience) as session:
            pass
    except ModelstoreError as error:
        return None, error.message, isinstance(error, DamageError)
    return session.checkpoint, None, False


def _report(
    out: Output,
    found: Inspection,
    checkpoint: Checkpoint | None,
    refusal: str | None,
    form: Format | None,
) -> None:
    from modelstore.cli.catalogue_session import screen_of
    from modelstore.cli.session import report_fold
    from modelstore.render.inspection import inspection_body
    from modelstore.render.inspection_json import inspection_payload
    from modelstore.render.log_picture import log_picture
    from modelstore.render.report import Report, write_report

    body = inspection_body(found)
    if out.stdout_is_terminal:
        body += log_picture(found, out.width)
    body.append(f"On exit: {_on_exit(checkpoint, refusal)}")
    payload = inspection_payload(found)
    payload["on_exit"] = checkpoint.as_json() if checkpoint else None
    payload["not_folded"] = refusal or (checkpoint.reason if checkpoint else None)
    report = Report(tuple(body), payload)
    chosen = form or Format.TABLE
    write_report(out.answer, report, chosen.value, screen=screen_of(out))
    if checkpoint is not None and not (chosen is Format.TABLE and out.stdout_is_terminal):
        report_fold(out, checkpoint)


def _on_exit(checkpoint: Checkpoint | None, refusal: str | None) -> str:
    if checkpoint is None:
        return refusal or "nothing was folded"
    reason = f"; {checkpoint.reason}" if checkpoint.reason else ""
    return (
        f"{checkpoint.checkpointed:,} checkpointed, {checkpoint.left:,} left; "
        f"busy: {'yes' if checkpoint.busy else 'no'}{reason}"
    )
