"""``modelstore forget``: the call."""

from __future__ import annotations

from modelstore.cli.completion.values import ModelsArgument  # noqa: TC001  # read by Typer
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
from modelstore.errors import ExitCode  # noqa: TC001  # Typer reads the annotations


def command(
    models: ModelsArgument,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    yes: YesOption = False,
) -> ExitCode:
    """Take models out of the catalogue. No model file is touched.

    The next import of the place that a model is in brings it back, without its tags.
    """
    from modelstore.cli.marking import Change, forget_models, run_change

    change = Change(models=tuple(models), timeout=seconds(timeout), yes=yes)
    form = chosen_format(output_format, as_json)
    return run_change(change, forget_models, db, form.value if form else None)
