"""Models tagged or forgotten, from their names to the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.catalogue.tags import change_tags, check_tag, forget
from modelstore.cli.catalogue_session import check_given, models_session, tell_report
from modelstore.cli.options import confirm
from modelstore.cli.output import current
from modelstore.cli.session import choose_database
from modelstore.cli.showing import Shown, find_model
from modelstore.errors import ExitCode
from modelstore.render.columns import with_short_ids
from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import Report
from modelstore.text import DEFAULT_TIMEOUT, plural, utc_now, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelstore.cli.session import Session
    from modelstore.database.sqlite import sqlite3

_ASKED = 5  # models that a question names


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the person asked for."""

    models: tuple[str, ...]
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT  # seconds
    yes: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A change of models: its words, and how it is made within a transaction."""

    word: str  # tag, forget
    done: str  # tagged, forgotten
    apply: Callable[[sqlite3.Connection, Change, Sequence[str]], int]
    remark: str | None = None


def _tag(conn: sqlite3.Connection, change: Change, ids: Sequence[str]) -> int:
    now = utc_now()
    return change_tags(conn, ids, add=change.add, remove=change.remove, now=now)


def _forget(conn: sqlite3.Connection, _change: Change, ids: Sequence[str]) -> int:
    return forget(conn, ids)


tag_models = Verb("tag", "changed", _tag)
forget_models = Verb(
    "forget",
    "forgotten",
    _forget,
    "no model file was touched; the next import of the same place brings a model back",
)


def run_change(change: Change, verb: Verb, db: str | None, form: str | None) -> ExitCode:
    """Find every model, ask where there are several, change all of them at once."""
    out = current()
    check_given("MODEL", change.models)
    for tag in (*change.add, *change.remove):
        check_tag(tag)
    choice = choose_database(db)
    with models_session(out, choice, timeout=change.timeout, write=True) as session:
        conn = session.opened.conn
        named = [find_model(conn, text) for text in change.models]
        found = {shown.values["id"]: shown for shown in named}
        if len(found) > 1 and not confirm(
            out,
            f"{verb.word} {_named(list(found.values()))} in {choice.path}?",
            yes=change.yes,
            refusal=f"{plural(len(found), 'model')} would be {verb.done}, and nobody can be asked",
        ):
            out.note("nothing was changed")
            return ExitCode.OK
        with session.opened.write():
            changed = verb.apply(conn, change, list(found))
            session.stays = f"{plural(changed, 'model')} {verb.done}: that is committed"
        after = [find_model(conn, model) for model in found] if verb is tag_models else []
    tell_report(session, _report(session, verb, after or list(found.values()), changed), form)
    return session.exit_code("write")


def _named(found: Sequence[Shown]) -> str:
    names = ", ".join(visible(str(shown.values["name"]), 60) for shown in found[:_ASKED])
    more = ", …" if len(found) > _ASKED else ""
    return f"{plural(len(found), 'model')} ({names}{more})"


def _report(session: Session, verb: Verb, found: Sequence[Shown], changed: int) -> Report:
    rows = [(s.values["id"], s.values["name"], s.values["tags"]) for s in found]
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
    line = f"{plural(changed, 'model')} {verb.done}"
    if unchanged:
        line += f", {unchanged:,} unchanged"
    checkpoint = session.checkpoint
    return Report(
        body=(grid, f"{line}; {session.choice}", *([verb.remark] if verb.remark else [])),
        payload={
            "database": session.choice.path,
            "database_from": session.choice.origin,
            verb.done: changed,
            "unchanged": unchanged,
            "models": [{"id": model, "name": name, "tags": tags} for model, name, tags in rows],
            "checkpoint": checkpoint.as_json() if checkpoint else None,
            "exit_code": int(session.exit_code("write")),
        },
        columns=("id", "name", "tags"),
        rows=rows,
    )
