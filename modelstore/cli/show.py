"""``modelstore show``: the call."""

from __future__ import annotations

from typing import Annotated

import typer

from modelstore.cli.completion.values import complete_column, complete_model
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    FormatOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    chosen_format,
    seconds,
)
from modelstore.errors import ExitCode  # noqa: TC001  # Typer reads the annotations


def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An id, the beginning of one (4 digits or more), a name, or a path.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ],
    field: Annotated[
        str | None,
        typer.Option(
            "--field",
            metavar="NAME",
            help="Only the raw value of this column; files for the paths of all files.",
            autocompletion=complete_column,
            show_default=False,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    no_checkpoint: NoCheckpointOption = False,
) -> ExitCode:
    """Show everything about one model, with its files and the places that it was seen in."""
    from modelstore.cli.showing import run_show

    form = chosen_format(output_format, as_json)
    return run_show(
        model,
        field,
        db,
        form.value if form else None,
        timeout=seconds(timeout),
        fold=not no_checkpoint,
    )
