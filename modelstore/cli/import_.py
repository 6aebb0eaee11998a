"""``modelstore import``: read models into the catalogue, fold the WAL, and prove the result."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

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
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from modelstore.catalogue.roots import Prune
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice, Session
    from modelstore.found import Skipped
    from modelstore.importing.changes import ModelChange
    from modelstore.importing.importer import Importer
    from modelstore.importing.replicated import Replicated
    from modelstore.importing.result import ImportResult
    from modelstore.importing.targets import Chosen
    from modelstore.progress import Progress
    from modelstore.replica.name import ReplicaName
    from modelstore.sources.base import Context


EXAMPLES = (
    "modelstore import --discover               every usual place on this machine",
    "modelstore import ~/models /mnt/nas        directories, files, stores",
    "modelstore import http://127.0.0.1:11434   a running server",
)


def command(
    sources: Annotated[
        list[str] | None,
        argument(
            "[SOURCE]...",
            "Files, directories, stores, addresses; - is stdin.",
            complete_source,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        option(
            "--from",
            metavar="KIND",
            about="What the sources are, instead of detecting it; "
            "without a SOURCE: the usual place of that kind.",
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
        bool, option("--prune", about="Forget models whose files are gone from the sources.")
    ] = False,
    allow_empty: Annotated[
        bool, option("--allow-empty", about="Exit 0 also if a source holds no model.")
    ] = False,
    allow_pending: Annotated[
        bool,
        option(
            "--allow-pending",
            about="Exit 0 also while a reader keeps rows in the WAL.",
        ),
    ] = False,
    replica: Annotated[
        str | None,
        option(
            "--replica",
            metavar="URL",
            about="Exit 0 only if this Litestream replica has all rows.",
        ),
    ] = None,
    api_key_file: Annotated[
        str | None,
        option(
            "--api-key-file",
            metavar="PATH",
            about="The key of a server, else MODELSTORE_API_KEY.",
        ),
    ] = None,
    quiet: Annotated[
        bool, option("--quiet", "-q", about="Write nothing but faults and warnings.")
    ] = False,
    verbose: Annotated[
        bool, option("--verbose", "-v", about="Name every model that changed, however many.")
    ] = False,
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
    from modelstore.cli.output import current

    if not sources and kind is None and not discover:
        raise UsageError(
            "no SOURCE was given",
            hint="name files, directories or addresses, or use --discover or --from KIND",
        )
    if quiet and (verbose or as_json or output_format):
        raise UsageError("-q writes no answer", hint="leave out -q, or the other option")
    if discover and (sources or kind):
        raise UsageError("--discover reads every place", hint="leave out SOURCE and --from")
    if prune and not (yes or dry_run or current().can_ask):
        raise UsageError(
            "--prune forgets models, and there is nobody to ask",
            hint="add --yes to do it without a question, or look first with --dry-run",
        )
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
        replica=_replica(replica, dry_run=dry_run),
        api_key_file=api_key_file,
        timeout=seconds(timeout),
        yes=yes,
        quiet=quiet,
        verbose=verbose,
    )
    return _run(request, db, chosen_format(output_format, as_json))


class _Request(NamedTuple):
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
    replica: ReplicaName | None
    api_key_file: str | None
    timeout: float  # seconds
    yes: bool
    quiet: bool
    verbose: bool


def _replica(text: str | None, *, dry_run: bool) -> ReplicaName | None:
    """Return the replica to wait for. Raises `RefusedError` where nothing can restore it."""
    if text is None:
        return None
    if dry_run:
        raise UsageError("a dry run replicates nothing", hint="leave out --replica, or --dry-run")
    from modelstore.replica.engine import find_engine
    from modelstore.replica.name import ReplicaName

    name = ReplicaName.parse(text)
    find_engine()
    return name


def _run(request: _Request, db: str | None, form: str | None) -> ExitCode:
    from modelstore.cli.output import current
    from modelstore.cli.progress import progress
    from modelstore.cli.session import choose_database

    out = current()
    out.wants_progress = not request.quiet
    choice = choose_database(db)
    if "-" in request.sources:
        _note_stdin(out)
    with progress(out, "models", "looking at the sources"):
        result = _read(out, request, choice)
    return _answer(out, result, form, quiet=request.quiet)


def _note_stdin(out: Output) -> None:
    """Say on a terminal that the program waits for a person, not for the machine."""
    import sys

    from modelstore.cli.output import is_terminal

    if out.stderr_is_terminal and is_terminal(sys.stdin):
        out.note("reading models from this terminal, a JSON object a line; Ctrl-D ends them")


def _read(out: Output, request: _Request, choice: DatabaseChoice) -> ImportResult:
    """Detect the sources and import them; with ``--dry-run``, into a private copy."""
    import os

    from modelstore.importing.targets import choose_targets, make_context

    context = make_context(request.host, request.timeout, request.api_key_file)
    targets = choose_targets(request.sources, request.kind, context, discover=request.discover)
    if any(os.path.realpath(choice.path) == chosen.root for chosen in targets):
        raise UsageError("a SOURCE is the catalogue itself", hint="name another --db")
    if request.dry_run:
        from modelstore.cli.progress import relay

        show = relay(out)
        show("copying the catalogue", 0)
        with _private_copy(out, choice, request.timeout) as copy:
            result = _import(out, request, copy, targets, context, shown=choice)
            show("comparing with the catalogue", 0)
            return result._replace(changes=_differences(copy.path, result.changes or ()))
    result = _import(out, request, choice, targets, context, shown=choice)
    return result._replace(replica=_replicated(out, request, choice))


def _replicated(out: Output, request: _Request, choice: DatabaseChoice) -> Replicated | None:
    """Wait for the replica that was named, after the catalogue is closed."""
    import os
    from functools import partial

    from modelstore.cli.progress import progress

    if request.replica is None:
        return None
    from modelstore.importing.replicated import replicate

    return replicate(
        os.path.realpath(choice.path),
        request.replica,
        timeout=request.timeout,
        named=choice.path,
        watching=partial(progress, out),
    )


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
            shutil.copyfile(copy.path, copy.path + _BEFORE)
        yield copy
    finally:
        shutil.rmtree(directory, ignore_errors=True)


_BEFORE = ".before"  # the ending of the copy that a dry run leaves as it was


def _differences(path: str, pruned: Iterable[ModelChange]) -> tuple[ModelChange, ...]:
    """Return the changes of a dry run to its copy of the catalogue at `path`.

    Of the rows that are gone, those that were not `pruned` were joined with others.
    """
    import os
    from contextlib import closing

    from modelstore.database.handle import connect
    from modelstore.importing.changes import changes_between

    before = path + _BEFORE
    with closing(connect(path, "ro")) as after:
        changes = changes_between(before if os.path.exists(before) else None, after)
        forgotten = {model.id for model in pruned}
        return tuple(one for one in changes if one.kind != "pruned" or one.id in forgotten)


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
    from modelstore.importing.changes import FEW
    from modelstore.importing.importer import Importer
    from modelstore.importing.result import ImportResult
    from modelstore.sources.kinds import RANKS

    with ExitStack() as stack:
        staging = stack.enter_context(Staging(RANKS))
        show = stack.enter_context(progress(out, "models", "opening the catalogue"))
        session = stack.enter_context(Session(out, choice, Purpose.CREATE, timeout=request.timeout))
        create_or_migrate(session.opened, choice.path)
        listener = _Listener(out, request, show)
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
        changes = (
            tuple(importer.pruned)
            if request.dry_run
            else importer.changes(tallies, most=None if request.verbose else FEW)
        )
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
        changes=changes,
    )


def _shown(source: str) -> str:
    return "stdin" if source == "-" else source


class _Listener(NamedTuple):
    """Writes what an import tells to stderr, and asks before a large prune."""

    out: Output
    request: _Request
    show: Progress

    def note(self, text: str) -> None:
        if not self.request.quiet:
            self.out.note(text)

    def warn(self, text: str) -> None:
        self.out.warn(text)

    def skip(self, skipped: Skipped) -> None:
        from modelstore.text import visible

        self.out.message(f"skipped: {visible(skipped.what, 300)}: {visible(skipped.reason, 300)}")

    def progress(self, what: str, done: int, total: int | None = None, unit: str = "") -> None:
        self.show(_shown(what), done, total, unit)

    def may_prune(self, prune: Prune, named: Sequence[ModelChange]) -> bool:
        """Name what a prune would forget, and ask."""
        from modelstore.text import listed, plural, visible

        if self.request.dry_run:
            return True
        names = listed([visible(model.name, 60) for model in named], _NAMED)
        count = f"{len(prune.models):,} of {plural(prune.known, 'model')}"
        return self.out.confirm(
            f"Forget {count} known under {prune.root}: {names}?",
            yes=self.request.yes,
            refusal=f"--prune would forget {count} known under {visible(prune.root, 200)}",
        )


_NAMED = 5  # models that a question names


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


def _answer(out: Output, result: ImportResult, form: str | None, *, quiet: bool) -> ExitCode:
    """Write the summary, and the faults of the sources; return the exit code."""
    from modelstore.cli.import_report import import_report
    from modelstore.cli.reporting import write_answer
    from modelstore.errors import worst
    from modelstore.render.report import write_report

    for tally in result.tallies:
        if tally.error:
            out.error(tally.error)
        elif result.is_fault(tally) and tally.absent is None:
            out.warn(f"{_shown(tally.source)} holds no model (--allow-empty accepts that)")
    code = worst(*result.codes)
    if code in (ExitCode.BUG, ExitCode.USAGE, ExitCode.REFUSED, ExitCode.LOCKED):
        if result.total("found"):
            write_report(_to_stderr(out), import_report(result), "table")  # stdout stays empty
        return code
    if not quiet:
        write_answer(
            out, import_report(result), form, None if result.dry_run else result.checkpoint
        )
    return code


def _to_stderr(out: Output) -> Callable[[str], None]:
    def write(text: str) -> None:
        for line in text.splitlines():
            out.message(line)

    return write
