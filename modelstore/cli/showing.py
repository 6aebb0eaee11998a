"""One model shown, from its name to the exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.expression import near
from modelstore.catalogue.lookup import Companions, companions, lookup_model
from modelstore.catalogue.query import Query, json_lines
from modelstore.cli.catalogue_session import check_given, models_session, tell_fold, tell_report
from modelstore.cli.output import current
from modelstore.cli.session import choose_database
from modelstore.errors import ExitCode, UsageError
from modelstore.model import MODEL_COLUMNS
from modelstore.render.columns import COLUMNS, HEADED, cell
from modelstore.render.grid import Cell, Grid, Heading, facts
from modelstore.render.report import Report
from modelstore.render.rows import dump_json
from modelstore.text import human_bytes, plural, visible

if TYPE_CHECKING:
    from modelstore.cli.output import Output
    from modelstore.cli.session import Session
    from modelstore.database.sqlite import sqlite3

_FIELDS = (*MODEL_COLUMNS, "files")
_EXACT = ("parameter_count", "context_length", "file_size")  # shown with their exact figure too
_TIMES = ("modified_at", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Shown:
    """A model as the catalogue has it: JSON values by column, its files and places."""

    values: dict[str, Any]
    companions: Companions


def run_show(
    model: str, field: str | None, db: str | None, form: str | None, *, timeout: float, fold: bool
) -> ExitCode:
    """Write the model, or one field of it; return the exit code."""
    out = current()
    check_given("MODEL", [model])
    name = _field(field) if field is not None else None
    with models_session(out, choose_database(db), timeout=timeout, fold=fold) as session:
        shown = find_model(session.opened.conn, model)
    if name is not None:
        out.answer(_field_text(out, shown, name, form))
        tell_fold(session, on_stdout=False)
    else:
        tell_report(session, _report(session, shown), form)
    return session.exit_code("read")


def find_model(conn: sqlite3.Connection, text: str) -> Shown:
    """Return the model that `text` means. Raises where it is none, or several."""
    model = lookup_model(conn, text)
    quoted = model.replace("'", "''")
    (line,) = json_lines(conn, Query(where=f"id = '{quoted}'"))
    return Shown(json.loads(line), companions(conn, model))


def _field(name: str) -> str:
    """Return the field of that name, or of that heading in a table."""
    known = name if name in _FIELDS else HEADED.get(name.upper())
    if known is None:
        raise UsageError(f"there is no field '{visible(name, 80)}'", hint=near(name, _FIELDS))
    return known


def _field_text(out: Output, shown: Shown, name: str, form: str | None) -> str:
    """Return one value for a script: exact in a pipe, safe on a terminal, or as JSON."""
    value = shown.values.get(name)
    if name == "files":
        value = [file.path for file in shown.companions.files]
    if form in ("json", "jsonl"):
        return dump_json(value) + "\n"
    if isinstance(value, dict):
        return dump_json(value) + "\n"
    lines = value if isinstance(value, list) else ["" if value is None else value]
    texts = [str(line) for line in lines]
    if out.stdout_is_terminal:
        texts = [visible(text) for text in texts]
    return "".join(text + "\n" for text in texts)


def _report(session: Session, shown: Shown) -> Report:
    values, checkpoint = shown.values, session.checkpoint
    files = [
        {
            "path": file.path,
            "role": file.role,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "sha256": file.sha256,
        }
        for file in shown.companions.files
    ]
    places = [
        {
            "root": place.root,
            "locator": place.locator,
            "source": place.source,
            "name": place.name,
            "state": place.state,
        }
        for place in shown.companions.places
    ]
    return Report(
        body=tuple(_body(session, shown)),
        payload={
            "database": session.choice.path,
            "database_from": session.choice.origin,
            "model": values,
            "files": files,
            "places": places,
            "checkpoint": checkpoint.as_json() if checkpoint else None,
        },
        columns=tuple(values),
        rows=[tuple(values.values())],
    )


def _body(session: Session, shown: Shown) -> list[str | Cell | Grid]:
    values = shown.values
    known = [name for name in MODEL_COLUMNS if values[name] not in (None, [])]
    unknown = [name for name in MODEL_COLUMNS if values[name] is None]
    parts: list[str | Cell | Grid] = [
        Cell(str(values["name"]), "strong"),
        facts((name, _fact(name, values[name])) for name in known if name != "name"),
    ]
    if unknown:
        parts.append(Cell(f"unknown: {', '.join(unknown)}", "dim"))
    if shown.companions.files:
        parts.append(_files(shown.companions))
    if shown.companions.places:
        parts.append(_places(shown.companions))
    files = len(shown.companions.files)
    counted = [plural(files, "file")] if files else []
    return [*parts, ", ".join([*counted, str(session.choice)])]


def _fact(name: str, value: object) -> str | Cell:
    if isinstance(value, (dict, list)):
        return ", ".join(map(str, value)) if name == "tags" else dump_json(value)
    if name in _EXACT and isinstance(value, int):
        return f"{value:,} ({COLUMNS[name].human(value)})"
    if name in _TIMES:
        human = COLUMNS[name].human(value)
        return str(value) if human in str(value) else f"{value} ({human})"
    return cell(name, value)


def _files(found: Companions) -> Grid:
    rows = [
        (file.role, "-" if file.size is None else human_bytes(file.size), file.path)
        for file in found.files
    ]
    return Grid(
        (Heading("FILE"), Heading("SIZE", right=True), Heading("PATH", shrink="wrap")), rows
    )


def _places(found: Companions) -> Grid:
    headings = (
        Heading("SEEN IN"),
        Heading("AS", shrink="middle", least=16),
        Heading("STATE"),
        Heading("AT", shrink="wrap", least=16),
    )
    rows = [
        (
            place.source,
            place.name,
            place.state or "-",
            place.locator
            if place.locator.startswith(place.root)
            else f"{place.root} {place.locator}",
        )
        for place in found.places
    ]
    return Grid(headings, rows)
