"""``modelstore list``: the call."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from modelstore.cli.completion.values import (
    complete_columns,
    complete_sort,
    complete_tag,
    complete_values,
)
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    seconds,
)
from modelstore.errors import ExitCode, UsageError


class ListFormat(StrEnum):
    """How the models are written to stdout."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    PRESET = "preset"


def command(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="Only models with TEXT in their name, path or architecture.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            "-c",
            metavar="A,B",
            help="The columns to show, in this order; all for every one.",
            autocompletion=complete_columns,
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        list[str] | None,
        typer.Option(
            "--sort",
            "-s",
            metavar="A,-B",
            help="The columns to sort by; -COLUMN or COLUMN:desc for descending.",
            autocompletion=complete_sort,
            show_default=False,
        ),
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            "--arch",
            metavar="NAME",
            help="Only this architecture; may be repeated, as may all these filters.",
            autocompletion=complete_values("architecture"),
            show_default=False,
        ),
    ] = None,
    quant: Annotated[
        list[str] | None,
        typer.Option(
            "--quant",
            metavar="NAME",
            help="Only this quantization.",
            autocompletion=complete_values("quantization"),
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="NAME",
            help="Only this type: model, embedding, projector, adapter, ...",
            autocompletion=complete_values("type"),
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="NAME",
            help="Only this status: available, missing, incomplete, truncated, remote.",
            autocompletion=complete_values("status"),
            show_default=False,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="TAG",
            help="Only models with this tag.",
            autocompletion=complete_tag,
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Only models on this machine.",
            autocompletion=complete_values("host"),
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="SQL",
            help="Only models for which this SQL expression over the columns holds.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=0,
            metavar="N",
            help="At most so many models.",
            show_default=False,
        ),
    ] = None,
    offset: Annotated[
        int,
        typer.Option(
            "--offset", min=0, metavar="N", help="Leave out so many first.", show_default=False
        ),
    ] = 0,
    count: Annotated[
        bool,
        typer.Option("--count", help="Only say how many models there are.", show_default=False),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only the ids, one a line.", show_default=False)
    ] = False,
    no_header: Annotated[
        bool,
        typer.Option("--no-header", help="CSV and TSV without a first line.", show_default=False),
    ] = False,
    formulas: Annotated[
        bool,
        typer.Option(
            "--formulas",
            help="CSV cells that begin with = + - @ as they are, with no ' before them.",
            show_default=False,
        ),
    ] = False,
    db: DbOption = None,
    output_format: Annotated[
        ListFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="A table on a terminal, else TSV. JSON carries every column; preset is an "
            "INI file for llama-server --models-preset.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    no_checkpoint: NoCheckpointOption = False,
) -> ExitCode:
    """Show the models.

    Where stdout is no terminal, the answer is TSV with a header and raw values: bytes, integers,
    nothing shortened. Rows stream; an order other than by id or locator keeps a key of each row
    in memory.
    """
    from modelstore.cli.listing import Listing, run_list

    if as_json and output_format not in (None, ListFormat.JSON):
        raise UsageError(f"--json and --format {output_format} contradict each other")
    if quiet and columns:
        raise UsageError("-q shows ids alone", hint="leave out -q, or --columns")
    if where is not None and not where.strip():
        raise UsageError("--where is empty", hint="an unset variable in a script?")
    filters = {
        "arch": arch,
        "quant": quant,
        "type": kind,
        "status": status,
        "tag": tag,
        "host": host,
    }
    listing = Listing(
        text=text,
        columns=_split(columns),
        sort=_split(sort),
        filters={name: values for name, values in filters.items() if values},
        where=where,
        limit=limit,
        offset=offset,
        form=(ListFormat.JSON if as_json else output_format or "") or None,
        header=not (no_header or quiet),
        count=count,
        quiet=quiet,
        formulas=formulas,
    )
    return run_list(listing, db, timeout=seconds(timeout), fold=not no_checkpoint)


def _split(values: list[str] | None) -> tuple[str, ...]:
    """Return names given in several options, or in one with commas."""
    return tuple(name.strip() for value in values or () for name in value.split(","))
