"""``modelstore tag``: the call."""

from __future__ import annotations

from typing import Annotated

import typer

from modelstore.cli.completion.values import ModelsArgument, complete_tag
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


def command(
    models: ModelsArgument,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            "-a",
            metavar="TAG",
            help="A tag to add; may be repeated, or several with commas.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove",
            "-r",
            metavar="TAG",
            help="A tag to remove.",
            autocompletion=complete_tag,
            show_default=False,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    yes: YesOption = False,
) -> ExitCode:
    """Add marks of your own to models, or remove them; they survive every import.

    Any word is a tag, favorite one like any other. `modelstore list --tag favorite` finds them.
    """
    from modelstore.cli.marking import Change, run_change, tag_models

    if not add and not remove:
        raise UsageError("nothing to do: no tag was given", hint="say --add TAG or --remove TAG")
    change = Change(
        models=tuple(models),
        add=_split(add),
        remove=_split(remove),
        timeout=seconds(timeout),
        yes=yes,
    )
    form = chosen_format(output_format, as_json)
    return run_change(change, tag_models, db, form.value if form else None)


def _split(values: list[str] | None) -> tuple[str, ...]:
    return tuple(tag.strip() for value in values or () for tag in value.split(","))
