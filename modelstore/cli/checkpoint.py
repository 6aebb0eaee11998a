"""``modelstore checkpoint``: fold the WAL of any database, and say truthfully what moved."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DatabaseArgument,
    DbOption,
    FormatOption,
    JsonOption,
    TimeoutOption,
    chosen_format,
    seconds,
)
from modelstore.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.checkpoint_modes import OnWait
    from modelstore.database.discard import Discarded
    from modelstore.render.report import Part, Report, ReportFormat
    from modelstore.wal.locks import Blocker


class Mode(StrEnum):
    """SQLite's modes of a checkpoint."""

    PASSIVE = "passive"
    FULL = "full"
    RESTART = "restart"
    TRUNCATE = "truncate"


def command(
    database: DatabaseArgument = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="passive: what readers allow; full: all of it; restart: until nobody needs the "
            "log; truncate: and empty it.",
        ),
    ] = Mode.TRUNCATE,
    discard_damaged: Annotated[
        bool,
        typer.Option(
            "--discard-damaged",
            help="Give up the damaged part of a log, after saving the database and the log.",
            show_default=False,
        ),
    ] = False,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> ExitCode:
    """Fold the WAL into the database, and say what moved.

    Works on any SQLite database. Waiting for readers never holds up a writer. Exit 0 when the
    main file alone holds everything, 4 when it does not: those in the way are named.
    """
    from modelstore.cli.catalogue_session import screen_of
    from modelstore.cli.output import current
    from modelstore.cli.session import choose_database, tell_wal_line
    from modelstore.render.report import write_report

    out = current()
    form = cast("ReportFormat", str(chosen_format(output_format, as_json) or "table"))
    choice = choose_database(db, database)
    if discard_damaged:
        checkpoint, discarded = _discard(choice, seconds(timeout))
    else:
        checkpoint, discarded = _fold(out, choice, mode, seconds(timeout)), None
    write_report(out.answer, _report(choice, checkpoint, discarded), form, screen=screen_of(out))
    if form != "table" or not out.stdout_is_terminal:
        tell_wal_line(out, checkpoint)
    return checkpoint.exit_code("checkpoint")


def _fold(out: Output, choice: DatabaseChoice, mode: Mode, patience: float) -> Checkpoint:
    from modelstore.cli.session import Session
    from modelstore.database.checkpoint_modes import run_checkpoint
    from modelstore.database.open import Purpose

    with (
        Session(out, choice, Purpose.WRITE, timeout=patience) as session,
        _awaiting(out, patience) as on_wait,
    ):
        checkpoint = run_checkpoint(session.opened, mode.value, patience, on_wait)
        session.opened.may_fold = False  # what others commit from now on is not ours to count
    return checkpoint.after_closing(session.opened.path)


def _discard(choice: DatabaseChoice, patience: float) -> tuple[Checkpoint, Discarded]:
    from modelstore.catalogue.schema import is_catalogue
    from modelstore.database.discard import discard_damaged

    discarded = discard_damaged(choice.path, timeout=patience, check=is_catalogue)
    return discarded.checkpoint, discarded


@contextmanager
def _awaiting(out: Output, patience: float) -> Iterator[OnWait | None]:
    """Show on a terminal who is awaited; elsewhere say it once."""
    from modelstore.cli.progress import status_line
    from modelstore.text import human_seconds

    def line(blockers: tuple[Blocker, ...], waited: float) -> str:
        names = ", ".join(f"pid {b.pid or 'unknown'} ({b.command})" for b in blockers)
        return (
            f"{human_seconds(waited)} of {human_seconds(patience)}: "
            f"waiting for {names or 'another checkpoint'}"
        )

    with status_line(out) as show:
        yield lambda blockers, waited: show(line(blockers, waited))


def _report(choice: DatabaseChoice, checkpoint: Checkpoint, discarded: Discarded | None) -> Report:
    from modelstore.render.fold import fold_parts
    from modelstore.render.grid import Cell
    from modelstore.render.report import Report
    from modelstore.text import human_bytes, plural

    body: list[Part] = []
    payload: dict[str, object] = {"database": choice.path, "database_from": choice.origin}
    if discarded is not None:
        body += [
            Cell(f"{discarded.trouble}", "warn"),
            f"saved first: {discarded.saved_database}",
            f"and its log: {discarded.saved_log}",
            f"{plural(discarded.dropped_commits, 'commit')} given up, "
            f"{discarded.kept_commits:,} kept",
        ]
        payload["discarded"] = {
            "saved_database": discarded.saved_database,
            "saved_log": discarded.saved_log,
            "trouble": discarded.trouble,
            "dropped_commits": discarded.dropped_commits,
            "kept_commits": discarded.kept_commits,
        }
    if checkpoint.mode == "none" and discarded is None:
        body.append(f"{choice}: {checkpoint.reason or 'nothing to fold'}")
    else:
        body += fold_parts(checkpoint)
        body.append(
            f"{plural(checkpoint.moved, 'frame')} folded by this checkpoint, "
            f"{human_bytes(checkpoint.bytes_moved)} of pages in the log; database "
            f"{human_bytes(checkpoint.db_size_before)} → {human_bytes(checkpoint.db_size_after)}"
        )
        body.append(_verdict(choice, checkpoint))
    payload |= checkpoint.as_json()
    payload["exit_code"] = int(checkpoint.exit_code("checkpoint"))
    return Report(tuple(body), payload)


def _verdict(choice: DatabaseChoice, checkpoint: Checkpoint) -> Part:
    from modelstore.render.grid import Cell
    from modelstore.text import plural

    code = checkpoint.exit_code("checkpoint")
    if code is ExitCode.OK:
        return Cell(f"everything is in the main file alone: {choice}", "good")
    left = plural(checkpoint.left, "frame")
    if code is ExitCode.FAILED:
        return Cell(f"the log was deleted while in use; {left} not in the main file", "bad")
    return Cell(
        f"{left} still only in the WAL of {choice}: try again, and never delete the -wal now",
        "warn",
    )
