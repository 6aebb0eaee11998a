"""``modelstore import``: the call, its checks, and its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelstore.cli.completion.values import complete_kind, complete_source
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    FormatOption,
    JsonOption,
    TimeoutOption,
    YesOption,
    chosen_format,
    seconds,
)
from modelstore.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from modelstore.cli.import_run import Request


def command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Files, directories, stores, http addresses, or - for stdin.",
            autocompletion=complete_source,
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="KIND",
            help="What the sources are, instead of looking; alone: that kind's usual place.",
            autocompletion=complete_kind,
            show_default=False,
        ),
    ] = None,
    discover: Annotated[
        bool,
        typer.Option("--discover", help="Look everywhere that models live.", show_default=False),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would happen, and write nothing.", show_default=False
        ),
    ] = False,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag", metavar="TAG", help="Mark every model of this import.", show_default=False
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="The machine that the files are on, where it is not this one.",
            show_default=False,
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Forget the models of these sources whose files are gone.",
            show_default=False,
        ),
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty", help="A source without a model is no fault.", show_default=False
        ),
    ] = False,
    allow_pending: Annotated[
        bool,
        typer.Option(
            "--allow-pending",
            help="Exit 0 also while a reader keeps rows in the WAL (Litestream).",
            show_default=False,
        ),
    ] = False,
    api_key_file: Annotated[
        str | None,
        typer.Option(
            "--api-key-file",
            metavar="PATH",
            help="A server's key, in a file; else MODELSTORE_API_KEY. Never stored.",
            show_default=False,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    yes: YesOption = False,
) -> ExitCode:
    """Read models from files, directories, stores, servers or stdin.

    Models are added or updated, never removed, and the WAL is folded: exit 0 means that every
    row is in the main database file alone, on disk. What a source is, is told by its content.
    """
    from modelstore.cli.import_run import Request, run_import

    if not sources and kind is None and not discover:
        raise UsageError(
            "no SOURCE was given",
            hint="name files, directories or addresses, or use --discover or --from KIND",
        )
    if discover and (sources or kind):
        raise UsageError("--discover looks everywhere itself", hint="leave out SOURCE and --from")
    request: Request = Request(
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
    return run_import(request, db, chosen_format(output_format, as_json))
