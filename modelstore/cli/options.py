"""The options that several commands share, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelstore import text
from modelstore.cli.app import COMMON
from modelstore.cli.completion.values import (
    complete_cache_type,
    complete_database,
    complete_model,
    complete_nothing,
)
from modelstore.errors import UsageError
from modelstore.render.formats import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelstore.catalogue.memory import CacheOptions

OUTPUT = "Output"
"""A heading of the help."""

DEFAULT_TIMEOUT = f"{text.DEFAULT_TIMEOUT:g}s"


def option(
    *names: str,
    about: str,
    metavar: str | None = None,
    complete: Callable[..., Any] | None = None,
    choices: Sequence[str] | None = None,
    least: int | None = None,
    group: str | None = None,
) -> Any:  # noqa: ANN401  # Typer's own type for it
    """Declare an option whose default needs no words in the help.

    `complete` offers values to the shell. `choices` are the only values accepted. `least` is the
    smallest number accepted. `group` is the heading of the help that the option stands below.
    """
    parser: Callable[[str], Any] | None = None
    if choices is not None:
        metavar = metavar or names[0].lstrip("-").upper()
        complete = _beginning(choices)
        parser = _one_of(choices)
    if least is not None:
        parser = _at_least(least)
    return typer.Option(
        *names,
        help=about,
        metavar=metavar,
        autocompletion=complete or (None if metavar is None else complete_nothing),
        parser=parser,
        show_default=False,
        rich_help_panel=group,
    )


def _beginning(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise typer.BadParameter(f"'{value}' is not one of {', '.join(choices)}")
        return str(value)

    return parse


def _at_least(least: int) -> Callable[[str | int], int]:
    def parse(value: str | int) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least or number >= 2**63:
            raise typer.BadParameter(f"'{value}' is not a whole number of {least} or more")
        return number

    return parse


def argument(metavar: str, about: str, complete: Callable[..., Any] | None = None) -> Any:  # noqa: ANN401
    """Declare an argument."""
    return typer.Argument(metavar=metavar, help=about, autocompletion=complete, show_default=False)


DbOption = Annotated[
    str | None,
    option(
        "--db",
        metavar="PATH",
        about="The database, else MODELSTORE_DB, else the default.",
        complete=complete_database,
        group=COMMON,
    ),
]
DatabaseArgument = Annotated[
    str | None,
    argument("[DATABASE]", "Any SQLite database. Default: the catalogue.", complete_database),
]
ModelsArgument = Annotated[
    list[str],
    argument("MODEL...", "Names, paths, or ids: 4 digits are enough.", complete_model),
]
FormatOption = Annotated[
    str | None,
    option(
        "--format",
        "-f",
        choices=tuple(Format),
        about="table, json, jsonl, csv or tsv; else words.",
        group=OUTPUT,
    ),
]
JsonOption = Annotated[bool, option("--json", about="Short for --format json.", group=OUTPUT)]
TimeoutOption = Annotated[
    str,
    option(
        "--timeout",
        metavar="DURATION",
        about=f"How long to wait for others: 250ms, 2m. Default: {DEFAULT_TIMEOUT}.",
        group=COMMON,
    ),
]
NoCheckpointOption = Annotated[
    bool,
    option(
        "--no-checkpoint",
        about="Leave database and WAL byte for byte as they are.",
        group=COMMON,
    ),
]
CtxOption = Annotated[
    str | None,
    option(
        "--ctx",
        group=OUTPUT,
        metavar="TOKENS",
        about="Show what memory a context of 32k, or another, takes.",
    ),
]
CacheTypeKOption = Annotated[
    str | None,
    option(
        "--cache-type-k",
        group=OUTPUT,
        metavar="T",
        about="The type of the keys in that cache: q8_0. Default: f16.",
        complete=complete_cache_type,
    ),
]
CacheTypeVOption = Annotated[
    str | None,
    option(
        "--cache-type-v",
        group=OUTPUT,
        metavar="T",
        about="The type of the values in that cache. Default: f16.",
        complete=complete_cache_type,
    ),
]
CACHE_TOGETHER = (
    "Show the memory for a context of 32k, say. Also --cache-type-k T, --cache-type-v T, "
    "--parallel N."
)
"""The row of the help that these four options share."""
ParallelOption = Annotated[
    int | None,
    option(
        "--parallel",
        group=OUTPUT,
        metavar="N",
        least=1,
        about="N slots that divide the context. Default: four that share it.",
    ),
]
YesOption = Annotated[bool, option("--yes", "-y", about="Do it without asking.", group=COMMON)]


def chosen_format(value: str | None, as_json: bool) -> str | None:
    """Return the format that ``--format`` and ``--json`` ask for; None if neither is given."""
    if as_json and value not in (None, Format.JSON):
        raise UsageError(f"--json and --format {value} contradict each other", hint="give one")
    return Format.JSON.value if as_json else value


def seconds(timeout: str) -> float:
    """Return a duration from the command line in seconds."""
    return text.parse_duration(timeout)


def split_commas(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return values that were given in several options, or in one with commas."""
    return tuple(part.strip() for value in values or () for part in value.split(","))


def check_given(name: str, values: Sequence[str]) -> None:
    """Raise `UsageError` if one of the values of the argument `name` is empty."""
    if "" in values:
        raise UsageError(f"{name} is empty", hint="an unset variable in a script?")


def cache_options(
    context: str | None, type_k: str | None, type_v: str | None, parallel: int | None
) -> CacheOptions | None:
    """Return the cache that the options ask for; None if none is given. Raises `UsageError`."""
    if context is None and type_k is None and type_v is None and parallel is None:
        return None
    from modelstore.catalogue.memory import (
        CACHE_TYPES,
        MAX_CONTEXT,
        MAX_PARALLEL,
        CacheOptions,
    )
    from modelstore.cli.terms import figure_of

    tokens = None if context is None else int(figure_of("context_length", context))
    if tokens is not None and not 0 < tokens <= MAX_CONTEXT:
        raise UsageError(
            f"--ctx {text.visible(str(context), 40)} is not a context length",
            hint="write 4096, 32k or 1M",
        )
    for name, value in (("k", type_k), ("v", type_v)):
        if value is not None and value not in CACHE_TYPES:
            raise UsageError(
                f"--cache-type-{name} '{text.visible(value, 40)}' is not a cache type",
                hint=f"one of {', '.join(CACHE_TYPES)}",
            )
    if parallel is not None and parallel > MAX_PARALLEL:
        raise UsageError(f"--parallel {parallel} is too many", hint=f"at most {MAX_PARALLEL}")
    return CacheOptions(
        context=tokens, parallel=parallel, type_k=type_k or "f16", type_v=type_v or "f16"
    )
