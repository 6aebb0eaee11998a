"""``modelstore tag``: the user's own tags, added and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from modelstore.cli.completion.values import complete_tag
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    FormatOption,
    JsonOption,
    ModelsArgument,
    TimeoutOption,
    chosen_format,
    option,
    seconds,
    split_commas,
)
from modelstore.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.handle import Database


EXAMPLES = (
    "modelstore tag c02b7de --add favorite,work",
    "modelstore list --tag favorite",
)


def command(
    models: ModelsArgument,
    add: Annotated[
        list[str] | None,
        option(
            "--add",
            "-a",
            metavar="TAG",
            about="A tag to add; several with commas, or repeat it.",
            complete=complete_tag,
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        option("--remove", "-r", metavar="TAG", about="A tag to remove.", complete=complete_tag),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> ExitCode:
    """Add your own tags to models, or remove them. Tags survive every import.

    Any word can be a tag. `modelstore list --tag favorite` shows the models with that tag.
    """
    from modelstore.catalogue.tags import check_tag
    from modelstore.cli.changes import Change, run_change

    if not add and not remove:
        raise UsageError("no tag was given", hint="name one with --add TAG or --remove TAG")
    added, removed = split_commas(add), split_commas(remove)
    for tag in (*added, *removed):
        check_tag(tag)

    def apply(db: Database, ids: Sequence[str]) -> int:
        from modelstore.catalogue.tags import change_tags
        from modelstore.text import utc_now

        return change_tags(db, ids, add=added, remove=removed, now=utc_now())

    change = Change(command="tag", done="changed", apply=apply, keeps_models=True)
    form = chosen_format(output_format, as_json)
    return run_change(change, models, db, form, timeout=seconds(timeout))
