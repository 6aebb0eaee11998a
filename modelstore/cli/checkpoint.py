"""``modelstore checkpoint``: fold the WAL of any database, and say truthfully what moved."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DatabaseArgument,
    DbOption,
    FormatOption,
    JsonOption,
    TimeoutOption,
    YesOption,
    chosen_format,
    option,
    seconds,
)
from modelstore.errors import ExitCode

if TYPE_CHECKING:
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.discard import Discarded
    from modelstore.database.evidence import Reason
    from modelstore.render.report import Part, Report


EXAMPLES = (
    "modelstore checkpoint app.db",
    "modelstore checkpoint app.db --timeout 1m   wait longer for readers",
)


class Mode(StrEnum):
    """SQLite's checkpoint modes: https://www.sqlite.org/c3ref/wal_checkpoint_v2.html."""

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
            metavar="MODE",
            help="passive: all that readers allow; full: everything; restart: and wait until no "
            "reader needs the log; truncate: and empty it.",
        ),
    ] = Mode.TRUNCATE,
    discard_damaged: Annotated[
        bool,
        option(
            "--discard-damaged",
            about="Give up the damaged part of a log, after saving the database and the log.",
        ),
    ] = False,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    yes: YesOption = False,
) -> ExitCode:
    """Fold the WAL into the database, and say what moved.

    Works on any SQLite database. Waiting for readers never holds up a writer. Exit 0 if the main
    file alone holds everything, 4 if it does not: the processes that block it are named. Exit 5 if
    a fold would do harm: nothing is folded then. If the log looks older than the database, --yes
    folds it, after saving both.
    """
    from modelstore.cli.output import current
    from modelstore.cli.reporting import write_answer
    from modelstore.cli.session import choose_database

    out = current()
    form = chosen_format(output_format, as_json)
    choice = choose_database(db, database)
    discarded = None
    if discard_damaged:
        from modelstore.catalogue.schema import is_catalogue
        from modelstore.text import visible

        lost = f"the damaged part of the log of {visible(choice.path, 200)}"
        if not out.confirm(
            f"Give up {lost}, after saving a copy of both files?",
            yes=yes,
            refusal=f"--discard-damaged would give up {lost}",
        ):
            out.note("nothing was changed")
            return ExitCode.OK
        from modelstore.database.discard import discard_damaged as discard

        discarded = discard(choice.path, timeout=seconds(timeout), check=is_catalogue)
        checkpoint = discarded.checkpoint
    else:
        from modelstore.database.evidence import FoldForbiddenError

        try:
            checkpoint = _fold(out, choice, mode, seconds(timeout))
        except FoldForbiddenError as error:
            if not yes or {reason.code for reason in error.reasons} != {"older-log"}:
                write_answer(out, _forbidden(choice, error.reasons), form)
                return ExitCode.FAILED
            discarded = _fold_older(choice, seconds(timeout))
            checkpoint = discarded.checkpoint
    write_answer(out, _report(choice, checkpoint, discarded), form, checkpoint)
    return checkpoint.exit_code("checkpoint")


def _fold_older(choice: DatabaseChoice, timeout: float) -> Discarded:
    from modelstore.catalogue.schema import is_catalogue
    from modelstore.database.discard import fold_older

    return fold_older(choice.path, timeout=timeout, check=is_catalogue)


def _forbidden(choice: DatabaseChoice, reasons: tuple[Reason, ...]) -> Report:
    """Return the report of a fold that would do harm, and of what it would do to the rows."""
    from modelstore.cli.reporting import payload
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.render.evidence import evidence_parts
    from modelstore.render.report import Report

    codes = tuple(str(reason.code) for reason in reasons)
    text = f"nothing was folded: {reasons[0].text}"
    checkpoint = Checkpoint(
        mode="none", in_main_file=False, forbidden=codes, reason=text, blockers_complete=False
    )
    body: list[Part] = [f"{choice}: nothing was folded", *evidence_parts(reasons)]
    report = {**checkpoint.as_json(), "evidence": [reason.as_json() for reason in reasons]}
    if "older-log" in codes:
        words, counts = _effect(choice)
        body.append(words)
        report["fold_would"] = counts
    return Report(tuple(body), payload("checkpoint", choice, report, ExitCode.FAILED))


def _effect(choice: DatabaseChoice) -> tuple[str, dict[str, int] | None]:
    """Return the rows that a fold would change, in words and for programs."""
    from modelstore.errors import ModelstoreError
    from modelstore.text import plural
    from modelstore.wal.inspection import inspect_log

    try:
        loss = inspect_log(choice.path).loss
    except ModelstoreError:
        return "what a fold would do to the rows cannot be read", None
    counts = {"added": loss.lost, "changed": loss.reverted, "deleted": loss.returning}
    words = ", ".join(f"{word} {count:,}" for word, count in counts.items())
    at_least = "" if loss.is_exact else "at least "
    return f"a fold would touch {at_least}{plural(sum(counts.values()), 'row')}: {words}", counts


def _fold(out: Output, choice: DatabaseChoice, mode: Mode, patience: float) -> Checkpoint:
    from modelstore.cli.progress import progress, waiting_line
    from modelstore.cli.session import Session
    from modelstore.database.checkpoint_modes import run_checkpoint
    from modelstore.database.open import Purpose

    on_wait = waiting_line(out, patience)
    with (
        progress(out, "", "reading the log"),
        Session(out, choice, Purpose.FOLD, timeout=patience) as session,
    ):
        checkpoint = run_checkpoint(session.opened, mode.value, patience, on_wait)
        session.opened.may_fold = False  # later commits of other processes are not ours to count
    return checkpoint.after_closing(session.opened.path)


def _report(choice: DatabaseChoice, checkpoint: Checkpoint, discarded: Discarded | None) -> Report:
    from modelstore.cli.reporting import payload
    from modelstore.render.fold import fold_parts
    from modelstore.render.grid import Cell
    from modelstore.render.report import Report
    from modelstore.text import human_bytes, plural

    body: list[Part] = [] if discarded is None else _discarded_parts(discarded)
    if checkpoint.mode == "none" and discarded is None:
        body.append(f"{choice}: {checkpoint.reason or 'nothing to fold'}")
    else:
        body += fold_parts(checkpoint)
        body.append(
            f"{plural(checkpoint.moved, 'frame')} ({human_bytes(checkpoint.bytes_moved)}) "
            "folded by this checkpoint; database "
            f"{human_bytes(checkpoint.db_size_before)} → {human_bytes(checkpoint.db_size_after)}"
        )
        body.append(_verdict(choice, checkpoint))
    if checkpoint.unseen is not None:
        body.append(Cell(checkpoint.unseen, "dim"))
    report = {"discarded": _discarded_json(discarded)} if discarded else {}
    code = checkpoint.exit_code("checkpoint")
    return Report(tuple(body), payload("checkpoint", choice, report | checkpoint.as_json(), code))


def _discarded_parts(discarded: Discarded) -> list[Part]:
    from modelstore.render.grid import Cell
    from modelstore.text import plural

    return [
        Cell(discarded.trouble, "warn"),
        f"saved first: {discarded.saved_database}",
        f"and its log: {discarded.saved_log}",
        f"{plural(discarded.dropped_commits, 'commit')} given up, {discarded.kept_commits:,} kept",
    ]


def _discarded_json(discarded: Discarded) -> dict[str, object]:
    names = ("saved_database", "saved_log", "trouble", "dropped_commits", "kept_commits")
    return {name: getattr(discarded, name) for name in names}


def _verdict(choice: DatabaseChoice, checkpoint: Checkpoint) -> Part:
    from modelstore.render.grid import Cell
    from modelstore.text import plural

    code = checkpoint.exit_code("checkpoint")
    if code is ExitCode.OK:
        unchecked = "; the rest of the main file was not checked: `modelstore verify` does"
        rest = "" if checkpoint.main_checked else unchecked
        return Cell(f"everything is in the main file alone: {choice}{rest}", "good")
    left = plural(checkpoint.left, "frame")
    verb = "is" if checkpoint.left == 1 else "are"
    if code is ExitCode.FAILED and not checkpoint.log_deleted:
        return Cell(f"not safe: {checkpoint.reason}", "bad")
    if code is ExitCode.FAILED:
        return Cell(f"the log was deleted while in use; {left} {verb} not in the main file", "bad")
    return Cell(
        f"{left} {verb} still only in the WAL of {choice}: try again, and do not delete the -wal",
        "warn",
    )
