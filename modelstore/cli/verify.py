"""``modelstore verify``: whether the data of any database really persists, with evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DatabaseArgument,
    DbOption,
    FormatOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    chosen_format,
    seconds,
)
from modelstore.errors import ExitCode, UsageError  # Typer reads the signature

if TYPE_CHECKING:
    from modelstore.verify.expected import Expected


def _complete_check(incomplete: str) -> list[str]:
    from modelstore.verify.checks import check_names

    return [name for name in check_names() if name.startswith(incomplete)]


def command(
    database: DatabaseArgument = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="quick_check instead of integrity_check.", show_default=False),
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Compare every table, not only those that had pages in the log.",
            show_default=False,
        ),
    ] = False,
    hash_files: Annotated[
        bool,
        typer.Option(
            "--hash",
            help="Check the SHA-256 of every model file; keep the ones not known yet.",
            show_default=False,
        ),
    ] = False,
    drill: Annotated[
        bool,
        typer.Option(
            "--drill",
            help="Try it out on a scratch copy beside the database, or in a directory.",
            show_default=False,
        ),
    ] = False,
    expect_count: Annotated[
        list[str] | None,
        typer.Option(
            "--expect-count",
            metavar="[TABLE=]N",
            help="The table (models) must have N rows in the main file alone.",
            show_default=False,
        ),
    ] = None,
    min_count: Annotated[
        list[str] | None,
        typer.Option(
            "--min-count", metavar="[TABLE=]N", help="At least N rows.", show_default=False
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="FILE",
            help="Models that must be there: names, or JSON lines compared field by field.",
            show_default=False,
        ),
    ] = None,
    max_wal_size: Annotated[
        str | None,
        typer.Option(
            "--max-wal-size",
            metavar="SIZE",
            help="The -wal must not be larger than this when the run begins.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings fail too.", show_default=False)
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="CHECK",
            help="Only this check.",
            autocompletion=_complete_check,
            show_default=False,
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip",
            metavar="CHECK",
            help="Not this check.",
            autocompletion=_complete_check,
            show_default=False,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    junit: Annotated[
        str | None,
        typer.Option(
            "--junit", metavar="FILE", help="Write JUnit XML as well.", show_default=False
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FILE", help="Write an HTML page as well.", show_default=False
        ),
    ] = None,
    no_checkpoint: NoCheckpointOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> ExitCode:
    """Check that the data really persists; for CI.

    Works on any SQLite database: file, log, integrity, checkpoint, persistence, environment and
    model files, each with what was measured. Exit 5 when a check fails. Rows that are only in the
    WAL are a warning where they could be folded, and a failure with --no-checkpoint.
    """
    from modelstore.cli.verify_run import Request, run_verification

    checks = _checks(only, skip, drill=drill)
    expected = _expected(expect_count or [], min_count or [], expect, max_wal_size)
    return run_verification(
        Request(
            option=db,
            positional=database,
            checks=checks,
            quick=quick,
            deep=deep,
            hash_files=hash_files,
            strict=strict,
            expected=expected,
            form=str(chosen_format(output_format, as_json) or "table"),
            junit=junit,
            report=report,
            fold=not no_checkpoint,
            timeout=seconds(timeout),
        )
    )


def _checks(only: list[str] | None, skip: list[str] | None, *, drill: bool) -> frozenset[str]:
    """Return the checks to make; those on request only if they are named."""
    from modelstore.text import visible
    from modelstore.verify.checks import all_checks

    checks = {check.name: check for check in all_checks()}
    for name in (*(only or ()), *(skip or ())):
        if name not in checks:
            raise UsageError(
                f"there is no check '{visible(name, 80)}'", hint=f"one of {', '.join(checks)}"
            )
    chosen = set(only or (name for name, check in checks.items() if not check.on_request))
    chosen |= {"drill"} if drill else set()
    chosen -= set(skip or ())
    if not chosen:
        raise UsageError("no check is left to make", hint="give fewer of --skip and --only")
    return frozenset(chosen)


def _expected(
    counts: list[str], least: list[str], file: str | None, max_wal_size: str | None
) -> Expected | None:
    if not (counts or least or file is not None or max_wal_size is not None):
        return None
    from modelstore.text import parse_size
    from modelstore.verify.expected import Expected, parse_count, read_models

    return Expected(
        tuple(parse_count(text, "--expect-count", at_least=False) for text in counts)
        + tuple(parse_count(text, "--min-count", at_least=True) for text in least),
        read_models(file) if file is not None else (),
        parse_size(max_wal_size) if max_wal_size is not None else None,
    )
