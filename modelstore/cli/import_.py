"""``modelstore import``: read models into the catalogue, fold the WAL, and prove the result."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from modelstore.cli.completion.values import complete_kind, complete_source
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    FormatOption,
    JsonOption,
    TimeoutOption,
    YesOption,
    argument,
    chosen_format,
    option,
    seconds,
)
from modelstore.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.catalogue.roots import Prune
    from modelstore.cli.output import Output
    from modelstore.cli.progress import Progress
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.found import Skipped
    from modelstore.importing.importer import Importer
    from modelstore.importing.result import ImportResult
    from modelstore.importing.targets import Chosen
    from modelstore.render.grid import Cell
    from modelstore.render.report import Part, Report
    from modelstore.sources.base import Context


def command(
    sources: Annotated[
        list[str] | None,
        argument(
            "[SOURCE]...",
            "Files, directories, stores, http addresses, or - for stdin.",
            complete_source,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        option(
            "--from",
            metavar="KIND",
            about="The kind of the sources, instead of detecting it. "
            "Without SOURCE: read the default location of KIND.",
            complete=complete_kind,
        ),
    ] = None,
    discover: Annotated[
        bool, option("--discover", about="Read every place where models are usually kept.")
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", about="Show what would happen, and write nothing.")
    ] = False,
    tags: Annotated[
        list[str] | None,
        option("--tag", metavar="TAG", about="Tag every model of this import."),
    ] = None,
    host: Annotated[
        str | None,
        option(
            "--host", metavar="NAME", about="The machine that holds the files. Default: this one."
        ),
    ] = None,
    prune: Annotated[
        bool, option("--prune", about="Forget the models of these sources whose files are gone.")
    ] = False,
    allow_empty: Annotated[
        bool, option("--allow-empty", about="Exit 0 also if a source holds no model.")
    ] = False,
    allow_pending: Annotated[
        bool,
        option(
            "--allow-pending",
            about="Exit 0 also while a reader keeps rows in the WAL (Litestream).",
        ),
    ] = False,
    api_key_file: Annotated[
        str | None,
        option(
            "--api-key-file",
            metavar="PATH",
            about="A file with a server's key. Default: MODELSTORE_API_KEY. Never stored.",
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    yes: YesOption = False,
) -> ExitCode:
    """Read models from files, directories, stores, servers or stdin.

    Adds or updates models, never removes them, and folds the WAL: exit 0 means that every row is
    in the main database file alone, on disk. The kind of each source is detected.
    """
    if not sources and kind is None and not discover:
        raise UsageError(
            "no SOURCE was given",
            hint="name files, directories or addresses, or use --discover or --from KIND",
        )
    if discover and (sources or kind):
        raise UsageError("--discover reads every place", hint="leave out SOURCE and --from")
    request = _Request(
        sources=tuple(sources or ()),
        kind=kind,
        discover=discover,
        dry_run=dry_run,
        tags=tuple(tags or ()),
        host=host,
        prune=prune,
        allow_empty=allow_empty,
        allow_pending=allow_pending,
        api_key_file=api_key_file,
        timeout=seconds(timeout),
        yes=yes,
    )
    return _run(request, db, chosen_format(output_format, as_json))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The options of one import."""

    sources: tuple[str, ...]
    kind: str | None
    discover: bool
    dry_run: bool
    tags: tuple[str, ...]
    host: str | None
    prune: bool
    allow_empty: bool
    allow_pending: bool
    api_key_file: str | None
    timeout: float  # seconds
    yes: bool


def _run(request: _Request, db: str | None, form: str | None) -> ExitCode:
    import os

    from modelstore.cli.output import current
    from modelstore.cli.session import choose_database
    from modelstore.importing.targets import choose_targets, make_context

    out = current()
    choice = choose_database(db)
    context = make_context(request.host, request.timeout, request.api_key_file)
    targets = choose_targets(request.sources, request.kind, context, discover=request.discover)
    if any(os.path.realpath(choice.path) == chosen.root for chosen in targets):
        raise UsageError("a SOURCE is the catalogue itself", hint="name another --db")
    if request.dry_run:
        with _private_copy(out, choice, request.timeout) as copy:
            result = _import(out, request, copy, targets, context, shown=choice)
    else:
        result = _import(out, request, choice, targets, context, shown=choice)
    return _answer(out, result, form)


@contextmanager
def _private_copy(out: Output, choice: DatabaseChoice, timeout: float) -> Iterator[DatabaseChoice]:
    """Yield a private copy of the catalogue, for a dry run."""
    import os
    import shutil
    import tempfile

    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.database.open import Purpose

    directory = tempfile.mkdtemp(prefix="modelstore-")
    try:
        copy = DatabaseChoice(os.path.join(directory, "models.db"), choice.origin)
        if os.path.lexists(choice.path):
            with Session(out, choice, Purpose.READ, timeout=timeout, fold=False) as session:
                # plain SQL: db.vacuum() works in place only
                session.opened.db.execute("VACUUM INTO ?", [copy.path])
        yield copy
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _import(
    out: Output,
    request: _Request,
    choice: DatabaseChoice,
    targets: list[Chosen],
    context: Context,
    *,
    shown: DatabaseChoice,
) -> ImportResult:
    """Import into the database `choice`, fold it, and return the result for `shown`."""
    from modelstore.catalogue.schema import create_or_migrate
    from modelstore.catalogue.staging import Staging
    from modelstore.cli.progress import progress
    from modelstore.cli.session import Session
    from modelstore.database.open import Purpose
    from modelstore.importing.importer import Importer
    from modelstore.importing.result import ImportResult
    from modelstore.sources.kinds import RANKS

    with ExitStack() as stack:
        staging = stack.enter_context(Staging(RANKS))
        session = stack.enter_context(Session(out, choice, Purpose.CREATE, timeout=request.timeout))
        create_or_migrate(session.opened, choice.path)
        listener = _Listener(out, request, stack.enter_context(progress(out, "models")))
        importer = Importer(
            session.opened,
            staging,
            context,
            listener,
            tags=request.tags,
            prune=request.prune,
        )
        with _noting_what_stays(session, importer, is_dry=request.dry_run):
            tallies = importer.run(targets)
        proof = None if request.dry_run else importer.prove()
    return ImportResult(
        database=shown.path,
        origin=shown.origin,
        tallies=tallies,
        checkpoint=session.opened.close(),
        proof=proof,
        dry_run=request.dry_run,
        allow_empty=request.allow_empty,
        allow_pending=request.allow_pending,
        lock_seconds=importer.lock_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Listener:
    """Writes what an import tells to stderr, and asks before a large prune."""

    out: Output
    request: _Request
    show: Progress

    def note(self, text: str) -> None:
        self.out.note(text)

    def warn(self, text: str) -> None:
        self.out.warn(text)

    def skip(self, skipped: Skipped) -> None:
        from modelstore.text import visible

        self.out.message(f"skipped: {visible(skipped.what, 300)}: {visible(skipped.reason, 300)}")

    def progress(self, what: str, done: int) -> None:
        self.show(what, done)

    def may_prune(self, prune: Prune) -> bool:
        """Ask if a prune would delete more than half of the models of a source."""
        from modelstore.text import plural, visible

        if not prune.is_most or self.request.dry_run:
            return True
        count = f"{len(prune.models):,} of {plural(prune.known, 'model')}"
        return self.out.confirm(
            f"Forget {count} known under {prune.root}?",
            yes=self.request.yes,
            refusal=f"--prune would forget {count} known under {visible(prune.root, 200)}",
        )


@contextmanager
def _noting_what_stays(session: Session, importer: Importer, *, is_dry: bool) -> Iterator[None]:
    """Tell the session what is saved, for a person whose import fails or is interrupted."""
    from modelstore.errors import LockedError, PartlyWrittenError
    from modelstore.text import plural

    try:
        yield
    except (LockedError, PartlyWrittenError):  # they say it themselves
        raise
    except BaseException as error:
        count = plural(importer.committed, "model")
        if not is_dry and importer.committed:
            session.stays = f"{count} of this import committed (run it again to continue)"
        elif not is_dry:
            session.out.note("nothing of this import was committed")
        raise session.opened.meaning(error, wrote=bool(importer.committed)) or error from error
    if not is_dry:
        count = plural(importer.committed, "model")
        session.stays = f"all of this import is committed ({count} added or updated)"


def _answer(out: Output, result: ImportResult, form: str | None) -> ExitCode:
    """Write the summary, and the faults of the sources; return the exit code."""
    from modelstore.cli.reporting import write_answer
    from modelstore.errors import worst
    from modelstore.render.report import write_report

    for tally in result.tallies:
        if tally.error:
            out.error(tally.error)
        elif result.is_fault(tally) and tally.absent is None:
            out.warn(f"{tally.source} holds no model (--allow-empty accepts that)")
    code = worst(*result.codes)
    if code in (ExitCode.BUG, ExitCode.USAGE, ExitCode.REFUSED, ExitCode.LOCKED):
        if result.total("found"):
            write_report(_to_stderr(out), _report(result), "table")  # stdout stays empty
        return code
    write_answer(out, _report(result), form, None if result.dry_run else result.checkpoint)
    return code


def _to_stderr(out: Output) -> Callable[[str], None]:
    def write(text: str) -> None:
        for line in text.splitlines():
            out.message(line)

    return write


_ALWAYS_SHOWN = ("found", "added", "updated", "unchanged", "skipped")


def _report(result: ImportResult) -> Report:
    from modelstore.importing.result import COUNTS
    from modelstore.render.report import Report

    return Report(
        body=(*_source_parts(result), *_safety_parts(result)),
        payload=_payload(result),
        columns=("source", "kind", *COUNTS, "error"),
        rows=[
            (t.source, t.kind, *(getattr(t, n) for n in COUNTS), t.error and t.error.message)
            for t in result.tallies
        ],
    )


def _source_parts(result: ImportResult) -> Iterator[Part]:
    """Yield the table of the sources, then those that were absent or offline."""
    from modelstore.importing.result import COUNTS
    from modelstore.render.grid import Cell, Grid, Heading

    shown = [name for name in COUNTS if name in _ALWAYS_SHOWN or result.total(name)]
    present = [tally for tally in result.tallies if tally.absent is None]
    has_kinds = any(tally.optional for tally in present)
    headings = (
        Heading("SOURCE", shrink="middle"),
        *((Heading("KIND"),) if has_kinds else ()),
        *(Heading(name.upper(), right=True) for name in shown),
    )
    if present:
        yield Grid(
            headings,
            [
                (
                    tally.source,
                    *((tally.kind,) if has_kinds else ()),
                    *(f"{getattr(tally, name):,}" for name in shown),
                )
                for tally in present
            ],
        )
    absent = [(t.source, t.kind, t.absent) for t in result.tallies if t.absent is not None]
    if absent:
        nothing = Heading("NOTHING AT", shrink="middle"), Heading("KIND")
        yield Grid((*nothing, Heading("WHY", shrink="wrap")), absent)
    for tally in result.tallies:
        if tally.offline:
            yield Cell(f"{tally.source} is offline: {tally.offline}", "warn")


def _safety_parts(result: ImportResult) -> Iterator[Part]:
    """Yield the fold, the proof, and what to do about frames that are left."""
    import shlex

    from modelstore.render.fold import fold_parts
    from modelstore.render.grid import Cell

    if result.dry_run:
        yield Cell("dry run: nothing was written", "strong")
        return
    yield from fold_parts(result.checkpoint)
    yield _proof_line(result)
    if result.is_pending:
        command = f"modelstore checkpoint {shlex.quote(result.database)}"
        yield f"fold the rest when no reader holds it up: {command}"


def _proof_line(result: ImportResult) -> Cell:
    from modelstore.render.grid import Cell
    from modelstore.text import plural

    proof = result.proof
    if result.is_pending:
        return Cell("not all rows are in the main file: they are in database + WAL", "warn")
    if proof is None or not result.checkpoint.in_main_file:
        return Cell("not all rows are in the main file, and they may be lost", "bad")
    if not proof.holds:
        return Cell(
            f"only {plural(proof.counted or 0, 'row')} of {proof.expected:,} are in the main file",
            "bad",
        )
    if proof.counted is None:
        return Cell(
            "every frame of this import was checkpointed and synced; "
            "the main file was too busy to count its rows alone",
            "good",
        )
    return Cell(f"{plural(proof.counted, 'row')} counted in the main file alone", "good")


def _payload(result: ImportResult) -> dict[str, object]:
    from modelstore.cli.reporting import payload
    from modelstore.cli.session import DatabaseChoice
    from modelstore.importing.result import COUNTS

    proof = result.proof
    report = {
        "dry_run": result.dry_run,
        **{name: result.total(name) for name in COUNTS},
        "in_main_file": result.in_main_file,
        "proof": None
        if proof is None
        else {"kind": proof.kind, "expected": proof.expected, "counted": proof.counted},
        "write_lock_seconds": round(result.lock_seconds, 6),
        "sources": [
            {
                "source": tally.source,
                "kind": tally.kind,
                **{name: getattr(tally, name) for name in COUNTS},
                "absent": tally.absent,
                "offline": tally.offline,
                "error": tally.error.message if tally.error else None,
                "skips": [{"what": s.what, "reason": s.reason} for s in tally.skips],
            }
            for tally in result.tallies
        ],
        "checkpoint": None if result.dry_run else result.checkpoint.as_json(),
    }
    return payload("import", DatabaseChoice(result.database, result.origin), report, *result.codes)
