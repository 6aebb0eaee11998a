"""One import from its request to its exit code."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.catalogue.schema import create_or_migrate
from modelstore.catalogue.staging import Staging
from modelstore.cli.import_report import import_report
from modelstore.cli.options import Format, confirm
from modelstore.cli.output import current
from modelstore.cli.progress import progress
from modelstore.cli.session import DatabaseChoice, Session, choose_database, tell_wal_line
from modelstore.database.open import Purpose
from modelstore.errors import ExitCode, LockedError, PartlyWrittenError, UsageError, worst
from modelstore.importing.importer import Importer
from modelstore.importing.result import ImportResult
from modelstore.importing.targets import choose_targets, make_context
from modelstore.text import plural, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.catalogue.roots import Plan
    from modelstore.cli.output import Output
    from modelstore.cli.progress import Progress
    from modelstore.importing.targets import Chosen
    from modelstore.model import Skipped
    from modelstore.sources.base import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the person asked for."""

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
    timeout: float
    yes: bool


def run_import(request: Request, db: str | None, form: Format | None) -> ExitCode:
    """Read, merge, fold, prove, and say so."""
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


def _import(
    out: Output,
    request: Request,
    choice: DatabaseChoice,
    targets: list[Chosen],
    context: Context,
    *,
    shown: DatabaseChoice,
) -> ImportResult:
    with ExitStack() as stack:
        staging = stack.enter_context(Staging())
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
        try:
            tallies = importer.run(targets)
        except PartlyWrittenError:
            raise
        except BaseException as error:
            if not request.dry_run and not isinstance(error, LockedError):
                _note_what_stays(session, importer)
            raise session.opened.meaning(error, wrote=bool(importer.committed)) or error from error
        proof = None
        if not request.dry_run:
            session.stays = f"all of this import ({_changed(importer.committed)}) is committed"
            proof = importer.prove()
    checkpoint = session.opened.close()
    return ImportResult(
        database=shown.path,
        origin=shown.origin,
        tallies=tallies,
        checkpoint=checkpoint,
        proof=proof,
        dry_run=request.dry_run,
        allow_empty=request.allow_empty,
        allow_pending=request.allow_pending,
        lock_seconds=importer.lock_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Listener:
    """Tells the person what happens during an import, and asks before a large prune."""

    out: Output
    request: Request
    show: Progress

    def note(self, text: str) -> None:
        self.out.note(text)

    def warn(self, text: str) -> None:
        self.out.warn(text)

    def skip(self, skipped: Skipped) -> None:
        self.out.message(f"skipped: {visible(skipped.what, 300)}: {visible(skipped.reason, 300)}")

    def progress(self, what: str, done: int) -> None:
        self.show(what, done)

    def may_prune(self, plan: Plan) -> bool:
        if not plan.is_most or self.request.dry_run:
            return True
        count = f"{len(plan.prunable):,} of {plural(plan.known, 'model')}"
        return confirm(
            self.out,
            f"Forget {count} known under {plan.root}?",
            yes=self.request.yes,
            refusal=f"--prune would forget {count} known under {visible(plan.root, 200)}",
        )


def _note_what_stays(session: Session, importer: Importer) -> None:
    """Have an interrupted person told what the catalogue holds of this import."""
    if importer.committed:
        session.stays = (
            f"a part of this import ({_changed(importer.committed)}) is committed, from which "
            "the next one goes on"
        )
    else:
        session.out.note("nothing of this import was committed")


def _changed(count: int) -> str:
    return f"{plural(count, 'model')} added or updated"


@contextmanager
def _private_copy(out: Output, choice: DatabaseChoice, timeout: float) -> Iterator[DatabaseChoice]:
    """Yield a private copy of the catalogue, for an import that is to change nothing."""
    directory = tempfile.mkdtemp(prefix="modelstore-")
    try:
        copy = DatabaseChoice(os.path.join(directory, "models.db"), choice.origin)
        if os.path.lexists(choice.path):
            with Session(out, choice, Purpose.READ, timeout=timeout, fold=False) as session:
                session.opened.conn.execute("VACUUM INTO ?", (copy.path,))
        yield copy
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answer(out: Output, result: ImportResult, form: Format | None) -> ExitCode:
    """Write the summary, and the faults of the sources; return the exit code."""
    from modelstore.render.report import Screen, write_report

    for tally in result.tallies:
        if tally.error:
            out.error(tally.error)
        elif result.is_fault(tally) and tally.absent is None:
            out.warn(f"{tally.source} holds no model (--allow-empty makes that no fault)")
    code = worst(*result.codes)
    if code in (ExitCode.BUG, ExitCode.USAGE, ExitCode.REFUSED, ExitCode.LOCKED):
        if result.total("found"):
            write_report(_to_stderr(out), import_report(result), "table")  # stdout stays empty
        return code
    chosen = form or Format.TABLE
    screen = Screen(out.width, out.color) if out.stdout_is_terminal else None
    write_report(out.answer, import_report(result), chosen.value, screen=screen)
    if not result.dry_run and not (chosen is Format.TABLE and out.stdout_is_terminal):
        tell_wal_line(out, result.checkpoint)
    return code


def _to_stderr(out: Output) -> Callable[[str], None]:
    def write(text: str) -> None:
        for line in text.splitlines():
            out.message(line)

    return write
