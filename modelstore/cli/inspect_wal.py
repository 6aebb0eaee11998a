"""``modelstore inspect-wal``: what the WAL of any database holds, and what would be lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from modelstore.cli.completion.values import complete_source
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    OUTPUT,
    DatabaseArgument,
    DbOption,
    FormatOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    chosen_format,
    option,
    seconds,
)
from modelstore.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.holders import Holders
    from modelstore.progress import Progress
    from modelstore.wal.inspection import Contradiction, Inspection

_EVERY = 1_000_000  # names that --all keeps in memory
_NAMED = 10  # names without --all


EXAMPLES = (
    "modelstore inspect-wal app.db",
    "modelstore inspect-wal app.db --watch 1s    and keep looking",
    "modelstore inspect-wal app.db --report wal.html",
)


def command(
    database: DatabaseArgument = None,
    frames: Annotated[bool, option("--frames", about="List every frame.")] = False,
    transactions: Annotated[bool, option("--transactions", about="List every commit.")] = False,
    every: Annotated[
        bool, option("--all", about="Name every model at risk, not just ten.")
    ] = False,
    deep: Annotated[
        bool, option("--deep", about="Read more, for exact figures; check the main file.")
    ] = False,
    watch: Annotated[
        str | None,
        option(
            "--watch",
            metavar="DURATION",
            about="Look again every DURATION, until q or Ctrl-C; change nothing.",
        ),
    ] = None,
    report: Annotated[
        str | None,
        option(
            "--report",
            metavar="FILE",
            about="Also write an HTML page: the map of the log, its readers, what would be lost.",
            complete=complete_source,
            group=OUTPUT,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    no_checkpoint: NoCheckpointOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> ExitCode:
    """Show what the WAL holds, and what would be lost without it.

    Works on any SQLite database, or on a -wal alone. Reads the raw files before SQLite opens
    them. Exit 0 if they can be read, whatever they hold; 5 for damage that SQLite would hide. A
    script that should fail on pending frames uses: verify --no-checkpoint.
    """
    from contextlib import ExitStack

    from modelstore.cli.output import current
    from modelstore.cli.progress import progress
    from modelstore.cli.reporting import note_fold
    from modelstore.cli.result_files import ResultFile
    from modelstore.cli.session import choose_database

    out = current()
    form = chosen_format(output_format, as_json)
    choice = choose_database(db, database)
    if watch is not None:
        if frames or transactions or report is not None:
            raise UsageError("--watch shows only the state", hint="leave out the other option")
        from modelstore.cli.watching import watch_log

        return watch_log(out, choice, seconds(watch), form)
    if frames and transactions:
        raise UsageError("--frames and --transactions are two lists", hint="give one")
    with ExitStack() as stack:
        page = None if report is None else stack.enter_context(ResultFile(report, "--report"))
        with progress(out, "", "reading the log") as show:
            found, known = _look(choice, limit=_EVERY if every else _NAMED, deep=deep, show=show)
        rows = _frames(found) if frames else _transactions(found) if transactions else None
        if rows is not None:
            _write_list(out, choice, rows, form)
        patience, fold = seconds(timeout), not no_checkpoint
        closed = _close(out, found, choice, patience, fold=fold, known=known)
        if page is not None:
            page.write(_page(found, choice, closed))
    if rows is None:
        _report(out, choice, found, closed, form)
    else:
        if form == "json":
            code = int(_code(found, closed))
            out.stream(f', "exit_code": {code}, "exit_codes": [{code}]}}\n')
        if closed.checkpoint is not None:
            note_fold(out, closed.checkpoint)
    return _code(found, closed)


def _look(
    choice: DatabaseChoice, *, limit: int, deep: bool, show: Progress
) -> tuple[Inspection, Holders]:
    """Read the raw files, and look at the processes that have them open.

    Raises `RefusedError` for a file that is no database and no log.
    """
    import os

    from modelstore.cli.session import refuse_absent
    from modelstore.database.probe import probe
    from modelstore.wal.inspection import inspect_log, split_path
    from modelstore.wal.main_file import MainState

    database, log = split_path(choice.path)
    known = None
    if not os.path.lexists(log):
        refuse_absent(choice)
        known = probe(database).holders  # and says what the file is
    found = inspect_log(
        choice.path, names=("models", "name"), limit=limit, deep=deep, progress=show
    )
    if found.loss.main.state is MainState.FOREIGN and found.scan.header is None:
        probe(database, known=known)
    contradictions, known = _contradictions(found, known)
    found = replace(found, contradictions=contradictions)
    if known.unseen is not None:
        found = replace(found, locks=found.locks.doubted(known.unseen))
    if deep and found.has_database and not found.has_hot_journal:
        from modelstore.verify.alone import check_alone

        show("checking the main file alone", 0, None)
        found = found.with_main_check(check_alone(found.database))
    return found, known


def _contradictions(
    found: Inspection, known: Holders | None
) -> tuple[tuple[Contradiction, ...], Holders]:
    """Return the evidence against the log that a raw look shows, and the look at the holders."""
    from modelstore.database.holders import look_at_holders
    from modelstore.database.probe import probe
    from modelstore.errors import DamageError, ModelstoreError
    from modelstore.wal.files import real_path
    from modelstore.wal.inspection import Contradiction

    known = known or look_at_holders(real_path(found.database))
    try:
        seen = probe(found.database, known=known)
    except DamageError as error:  # the database is gone, and a process still has its log
        gone = Contradiction("other-database", error.message, error.hint or "", is_elsewhere=True)
        return (gone,), known
    except ModelstoreError:
        return (), known  # another fault, which the report or the fold names
    reasons = seen.reasons
    found_too = (Contradiction(str(r.code), r.text, r.hint, r.is_elsewhere) for r in reasons)
    return tuple(found_too), seen.holders or known


@dataclass(frozen=True, slots=True)
class _Closed:
    """The fold at the end, or why there was none."""

    checkpoint: Checkpoint | None
    refusal: str | None = None
    is_damaged: bool = False  # SQLite itself found damage


def _close(
    out: Output,
    found: Inspection,
    choice: DatabaseChoice,
    patience: float,
    *,
    fold: bool,
    known: Holders,
) -> _Closed:
    """Open the database and fold its log, as every command does. `patience` is in seconds."""
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.open import Purpose
    from modelstore.errors import DamageError, ModelstoreError

    if not fold:
        return _Closed(None, "nothing was folded: --no-checkpoint")
    if not found.has_database:
        return _Closed(None, "nothing was folded: there is no database beside this log")
    if (
        found.loss.live_problem is not None and not found.loss.raced
    ):  # maybe another database's log: keep both apart
        refusal = "nothing was folded: with this log the database is malformed"
        return _Closed(None, refusal, is_damaged=True)
    beside = DatabaseChoice(found.database, choice.origin)
    try:
        with Session(out, beside, Purpose.READ, timeout=patience, known=known) as session:
            pass
    except ModelstoreError as error:
        return _Closed(None, error.message, is_damaged=isinstance(error, DamageError))
    return _Closed(session.checkpoint)


def _code(found: Inspection, closed: _Closed) -> ExitCode:
    told_otherwise = {"damaged-log", "hot-journal"}
    contradicts = any(c.code not in told_otherwise for c in found.contradictions)
    is_damaged = found.is_damaged or found.main_problem or contradicts or closed.is_damaged
    return ExitCode.FAILED if is_damaged else ExitCode.OK


def _report(
    out: Output, choice: DatabaseChoice, found: Inspection, closed: _Closed, form: str | None
) -> None:
    from modelstore.cli.reporting import note_fold, payload, write_answer
    from modelstore.render.inspection import inspection_body
    from modelstore.render.inspection_json import inspection_payload
    from modelstore.render.log_picture import log_picture
    from modelstore.render.report import Report

    checkpoint = closed.checkpoint
    body = inspection_body(found)
    if out.stdout_is_terminal:
        body += log_picture(found, out.width)
    body.append(f"On exit: {_on_exit(closed)}")
    report = {
        **inspection_payload(found),
        "on_exit": checkpoint.as_json() if checkpoint else None,
        "not_folded": closed.refusal or (checkpoint.reason if checkpoint else None),
    }
    shared = payload("inspect-wal", choice, report, _code(found, closed))
    write_answer(out, Report(tuple(body), shared), form)
    if checkpoint is not None and not (form in (None, "table") and out.stdout_is_terminal):
        note_fold(out, checkpoint)


def _page(found: Inspection, choice: DatabaseChoice, closed: _Closed) -> str:
    """Return the HTML page of ``--report``."""
    import time

    from modelstore.render.log_page import log_page

    return log_page(found, origin=choice.origin, seconds=time.time(), on_exit=_on_exit(closed))


def _on_exit(closed: _Closed) -> str:
    checkpoint = closed.checkpoint
    if checkpoint is None:
        return closed.refusal or "nothing was folded"
    reason = f"; {checkpoint.reason}" if checkpoint.reason else ""
    return (
        f"{checkpoint.checkpointed:,} checkpointed, {checkpoint.left:,} left; "
        f"busy: {'yes' if checkpoint.busy else 'no'}{reason}"
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """One row for each frame or each commit of a log."""

    name: str  # of the list: the option, and the key in JSON
    columns: tuple[str, ...]
    rows: Iterator[Sequence[object]]
    count: int


def _frames(found: Inspection) -> _Rows:
    """Return every frame: its page, the page's owner, the commit that it ends, its state."""
    columns = ("frame", "page", "object", "type", "role", "commit_pages", "state")
    return _Rows(
        "frames",
        (*columns, "in_main_file", "offset"),
        _frame_rows(found),
        len(found.scan.marks),
    )


def _frame_rows(found: Inspection) -> Iterator[Sequence[object]]:
    loss = found.loss
    held = loss.held
    for frame in found.scan.frames():
        owner = loss.owner(frame.page_number) if frame.number <= found.scan.max_frame else None
        thing = owner.object if owner else None
        yield (
            frame.number,
            frame.page_number,
            thing.name if thing else None,
            thing.type if thing else None,
            owner.role.text if owner else None,
            frame.page_count or None,
            frame.state.value,
            bool(held[frame.number - 1]) if frame.number <= len(held) else None,
            frame.offset,
        )


def _transactions(found: Inspection) -> _Rows:
    """Return every commit: its frames, and the database's size in pages after it."""
    return _Rows(
        "transactions",
        ("commit", "first_frame", "last_frame", "frames", "page_count", "state"),
        (
            (t.number, t.first, t.last, t.frames, t.page_count, t.state.value)
            for t in found.scan.transactions()
        ),
        found.scan.commit_count + found.scan.later_commits,
    )


def _write_list(out: Output, choice: DatabaseChoice, found: _Rows, form: str | None) -> None:
    """Stream a list to stdout. Its JSON object stays open: the exit code is not known yet."""
    from modelstore.render.report import in_cell
    from modelstore.render.rows import dump_json, write_rows

    if form == "json":
        from modelstore.cli.reporting import payload

        head = payload("inspect-wal", choice, {})
        del head["exit_code"], head["exit_codes"]
        out.stream(f'{dump_json(head)[:-1]}, "{found.name}": [')
        for number, row in enumerate(found.rows):
            comma = "," if number else ""
            out.stream(f"{comma}\n{dump_json(dict(zip(found.columns, row, strict=True)))}")
        out.stream("\n]")
    elif form in ("jsonl", "csv", "tsv") or not out.stdout_is_terminal:
        kind = "tsv" if form in (None, "table") else form
        rows = (tuple(map(in_cell, row)) for row in found.rows)
        write_rows(out.stream, kind, found.columns, rows)
    else:
        _draw_list(out, found)


def _draw_list(out: Output, found: _Rows) -> None:
    from itertools import islice

    from modelstore.cli.reporting import screen_of
    from modelstore.render.grid import Grid, Heading
    from modelstore.render.report import MOST_DRAWN, write_body

    headings = tuple(
        Heading(name.upper().replace("_", " "), shrink="middle" if name == "object" else "never")
        for name in found.columns
    )
    shown = [tuple(map(_word, row)) for row in islice(found.rows, MOST_DRAWN)]
    write_body(out.stream, [Grid(headings, shown)], screen_of(out))
    if found.count > MOST_DRAWN:
        out.stream(f"{found.count - MOST_DRAWN:,} more: use -f tsv\n")


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
