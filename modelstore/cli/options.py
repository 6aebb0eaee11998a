"""The options that several commands share, declared once."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from modelstore import text
from modelstore.cli.completion.values import complete_database
from modelstore.errors import UsageError
from modelstore.text import parse_duration

if TYPE_CHECKING:
    from modelstore.cli.output import Output


class Format(StrEnum):
    """How an answer is written to stdout."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"


DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH",
        help="The database; else MODELSTORE_DB, else models.db in the user's data directory.",
        autocompletion=complete_database,
        show_default=False,
    ),
]

DatabaseArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATABASE]",
        help="Any SQLite database; the catalogue by default.",
        autocompletion=complete_database,
        show_default=False,
    ),
]

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="How to write the answer; a table on a terminal, else plain text.",
        show_default=False,
    ),
]

JsonOption = Annotated[
    bool, typer.Option("--json", help="The same as --format json.", show_default=False)
]

TimeoutOption = Annotated[
    str,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="Patience with locks and with the fold: 5s, 250ms, 2m.",
    ),
]

NoCheckpointOption = Annotated[
    bool,
    typer.Option(
        "--no-checkpoint",
        help="Fold nothing: leave the database and its WAL byte for byte as they are.",
        show_default=False,
    ),
]

YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do it without asking.", show_default=False)
]

DEFAULT_TIMEOUT = f"{text.DEFAULT_TIMEOUT:g}s"


def chosen_format(value: Format | None, as_json: bool) -> Format | None:
    """Return the format asked for, or None where the layout is left to us."""
    if as_json and value not in (None, Format.JSON):
        raise UsageError(f"--json and --format {value} contradict each other", hint="give one")
    return Format.JSON if as_json else value


def seconds(timeout: str) -> float:
    """Return the patience that --timeout asks for, in seconds."""
    return parse_duration(timeout)


def confirm(out: Output, question: str, *, yes: bool, refusal: str) -> bool:
    """Ask on a terminal; elsewhere, without --yes, it is a usage error that says `refusal`."""
    import sys

    from modelstore.cli.output import is_terminal
    from modelstore.text import visible

    if yes:
        return True
    if not (is_terminal(sys.stdin) and out.stderr_is_terminal):
        raise UsageError(refusal, hint="add --yes to do it without being asked")
    sys.stderr.write(visible(question, 2000) + " [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
