"""``modelstore forget``: models taken out of the catalogue."""

from __future__ import annotations

from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    FormatOption,
    JsonOption,
    ModelsArgument,
    TimeoutOption,
    YesOption,
    chosen_format,
    seconds,
)
from modelstore.errors import ExitCode  # noqa: TC001  # Typer reads the annotations

EXAMPLES = ("modelstore forget c02b7de",)


def command(
    models: ModelsArgument,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    yes: YesOption = False,
) -> ExitCode:
    """Take models out of the catalogue. No model file is touched.

    Asks first; a script adds `--yes`.

    The next import of the place that holds a model brings it back, without its tags.
    """
    from modelstore.catalogue.tags import delete_models
    from modelstore.cli.changes import Change, run_change

    change = Change(
        command="forget",
        done="forgotten",
        apply=delete_models,
        keeps_models=False,
        remark="no model file was touched; the next import of the same place brings a model back",
    )
    form = chosen_format(output_format, as_json)
    return run_change(change, models, db, form, timeout=seconds(timeout), yes=yes)
