"""Changing models: find them all, ask before a loss, change them in one transaction, report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelstore.cli.session import Session
    from modelstore.cli.show import FoundModel
    from modelstore.database.handle import Database
    from modelstore.render.grid import Cell
    from modelstore.render.report import Report

_NAMED = 5  # models that a question names


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change that one command makes to models."""

    command: str  # its name
    done: str  # the participle for reports, and a key of the JSON object: changed, forgotten
    apply: Callable[[Database, Sequence[str]], int]  # ids -> how many models changed
    keeps_models: bool  # the models are still there afterwards; nobody is asked then
    remark: str | None = None


def run_change(
    change: Change,
    models: Sequence[str],
    db: str | None,
    form: str | None,
    *,
    timeout: float,
    yes: bool = False,
) -> ExitCode:
    """Change all of `models` (ids, names, paths) or none, and report. `timeout` is in seconds."""
    from modelstore.cli.catalogue_session import models_session
    from modelstore.cli.options import check_given
    from modelstore.cli.output import current
    from modelstore.cli.reporting import write_answer_and_fold
    from modelstore.cli.session import choose_database
    from modelstore.cli.show import find_model
    from modelstore.text import plural, visible

    out = current()
    check_given("MODEL", models)
    choice = choose_database(db)
    with models_session(out, choice, timeout=timeout, write=True) as session:
        models_db = session.opened.db
        found = {one.values["id"]: one for one in (find_model(models_db, text) for text in models)}
        named = _named(list(found.values()))
        if not change.keeps_models and not out.confirm(
            f"{change.command.capitalize()} {named} in {choice.path}?",
            yes=yes,
            refusal=f"{change.command} would take {named} out of {visible(choice.path, 200)}, "
            "and there is nobody to ask",
        ):
            out.note("nothing was changed")
            return ExitCode.OK
        with session.opened.write() as writing:
            changed = change.apply(writing, list(found))
            session.stays = f"{plural(changed, 'model')} {change.done}: that is committed"
        if change.keeps_models:
            found = {model: find_model(models_db, model) for model in found}
    write_answer_and_fold(session, _report(session, change, list(found.values()), changed), form)
    return session.exit_code("write")


def _named(found: Sequence[FoundModel]) -> str:
    from modelstore.text import plural, visible

    names = ", ".join(visible(str(one.values["name"]), 60) for one in found[:_NAMED])
    more = ", …" if len(found) > _NAMED else ""
    return f"{plural(len(found), 'model')} ({names}{more})"


def _report(session: Session, change: Change, found: Sequence[FoundModel], changed: int) -> Report:
    from modelstore.cli.reporting import payload
    from modelstore.render.columns import with_short_ids
    from modelstore.render.grid import Grid, Heading
    from modelstore.render.report import Report
    from modelstore.text import plural

    rows = [(one.values["id"], one.values["name"], one.values["tags"]) for one in found]
    cells: list[tuple[str | Cell, ...]] = [
        (str(model), str(name), ", ".join(map(str, tags)) or "-") for model, name, tags in rows
    ]
    grid = Grid(
        (
            Heading("ID", shrink="end", least=7),
            Heading("NAME", shrink="middle", least=16),
            Heading("TAGS", shrink="wrap", least=16),
        ),
        with_short_ids(("id", "name", "tags"), cells),
    )
    unchanged = len(found) - changed
    line = f"{plural(changed, 'model')} {change.done}"
    if unchanged:
        line += f", {unchanged:,} unchanged"
    checkpoint = session.checkpoint
    report = {
        change.done: changed,
        "unchanged": unchanged,
        "models": [{"id": model, "name": name, "tags": tags} for model, name, tags in rows],
        "checkpoint": checkpoint.as_json() if checkpoint else None,
    }
    return Report(
        body=(grid, f"{line}; {session.choice}", *([change.remark] if change.remark else [])),
        payload=payload(change.command, session.choice, report, session.exit_code("write")),
        columns=("id", "name", "tags"),
        rows=rows,
    )
