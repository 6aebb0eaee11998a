"""``modelstore show``: everything about one model, or one field of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from modelstore.cli.completion.values import complete_column, complete_model
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    FormatOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    argument,
    check_given,
    chosen_format,
    option,
    seconds,
)
from modelstore.errors import ExitCode, UsageError
from modelstore.model import MODEL_COLUMNS

if TYPE_CHECKING:
    from modelstore.catalogue.lookup import Companions
    from modelstore.cli.output import Output
    from modelstore.cli.session import Session
    from modelstore.database.handle import Database
    from modelstore.render.grid import Cell, Grid
    from modelstore.render.report import Part, Report

_FIELDS = (*MODEL_COLUMNS, "files")
_EXACT = ("parameter_count", "context_length", "file_size")  # shown with the exact number too
_TIMES = ("modified_at", "created_at", "updated_at")


def command(
    model: Annotated[
        str,
        argument(
            "MODEL",
            "An id, the beginning of one (4 digits or more), a name, or a path.",
            complete_model,
        ),
    ],
    field: Annotated[
        str | None,
        option(
            "--field",
            metavar="NAME",
            about="Show only the raw value of this column; files for the paths of all files.",
            complete=complete_column,
        ),
    ] = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    no_checkpoint: NoCheckpointOption = False,
) -> ExitCode:
    """Show everything about one model, with its files and the places where it was seen."""
    from modelstore.cli.catalogue_session import models_session
    from modelstore.cli.output import current
    from modelstore.cli.reporting import write_answer_and_fold, write_fold
    from modelstore.cli.session import choose_database

    out = current()
    form = chosen_format(output_format, as_json)
    check_given("MODEL", [model])
    name = _field(field) if field is not None else None
    choice = choose_database(db)
    with models_session(out, choice, timeout=seconds(timeout), fold=not no_checkpoint) as session:
        found = find_model(session.opened.db, model)
    if name is not None:
        out.answer(_field_text(out, found, name, form))
        write_fold(session, on_stdout=False)
    else:
        write_answer_and_fold(session, _report(session, found), form)
    return session.exit_code("read")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model of the catalogue: its JSON values by column, its files and its places."""

    values: dict[str, Any]
    companions: Companions


def find_model(db: Database, text: str) -> FoundModel:
    """Return the model with this id, beginning of an id, name or path.

    Raises `ModelNotFoundError` for none, `AmbiguousModelError` for several.
    """
    import json

    from modelstore.catalogue.lookup import companions, lookup_model
    from modelstore.catalogue.query import Query, json_lines

    model = lookup_model(db, text)
    (line,) = json_lines(db, Query(id=model))
    return FoundModel(json.loads(line), companions(db, model))


def _field(name: str) -> str:
    """Return the field of that name, or of that heading in a table."""
    from modelstore.catalogue.expression import near
    from modelstore.render.columns import HEADED
    from modelstore.text import visible

    known = name if name in _FIELDS else HEADED.get(name.upper())
    if known is None:
        raise UsageError(f"there is no field '{visible(name, 80)}'", hint=near(name, _FIELDS))
    return known


def _field_text(out: Output, found: FoundModel, name: str, form: str | None) -> str:
    """Return one value for a script: exact in a pipe, escaped on a terminal, or as JSON."""
    from modelstore.render.rows import dump_json
    from modelstore.text import visible

    value = found.values.get(name)
    if name == "files":
        value = [file.path for file in found.companions.files]
    if form in ("json", "jsonl") or isinstance(value, dict):
        return dump_json(value) + "\n"
    lines = value if isinstance(value, list) else ["" if value is None else value]
    texts = [str(line) for line in lines]
    if out.stdout_is_terminal:
        texts = [visible(text) for text in texts]
    return "".join(text + "\n" for text in texts)


def _report(session: Session, found: FoundModel) -> Report:
    from modelstore.cli.reporting import payload
    from modelstore.render.report import Report

    checkpoint = session.checkpoint
    report = {
        "model": found.values,
        "files": _json(found.companions.files, "path", "role", "size", "mtime_ns", "sha256"),
        "places": _json(found.companions.places, "root", "locator", "source", "name", "state"),
        "checkpoint": checkpoint.as_json() if checkpoint else None,
    }
    return Report(
        body=tuple(_body(session, found)),
        payload=payload("show", session.choice, report, session.exit_code("read")),
        columns=tuple(found.values),
        rows=[tuple(found.values.values())],
    )


def _json(things: tuple[Any, ...], *names: str) -> list[dict[str, object]]:
    return [{name: getattr(thing, name) for name in names} for thing in things]


def _body(session: Session, found: FoundModel) -> list[Part]:
    from modelstore.render.grid import Cell, facts
    from modelstore.text import plural

    values = found.values
    known = [name for name in MODEL_COLUMNS if values[name] not in (None, [])]
    unknown = [name for name in MODEL_COLUMNS if values[name] is None]
    parts: list[Part] = [
        Cell(str(values["name"]), "strong"),
        facts((name, _fact(name, values[name])) for name in known if name != "name"),
    ]
    if unknown:
        parts.append(Cell(f"unknown: {', '.join(unknown)}", "dim"))
    if found.companions.files:
        parts.append(_files(found.companions))
    if found.companions.places:
        parts.append(_places(found.companions))
    files = len(found.companions.files)
    counted = [plural(files, "file")] if files else []
    return [*parts, ", ".join([*counted, str(session.choice)])]


def _fact(name: str, value: object) -> str | Cell:
    from modelstore.render.columns import COLUMNS, cell
    from modelstore.render.rows import dump_json

    if isinstance(value, (dict, list)):
        return ", ".join(map(str, value)) if name == "tags" else dump_json(value)
    if name in _EXACT and isinstance(value, int):
        return f"{value:,} ({COLUMNS[name].human(value)})"
    if name in _TIMES:
        human = COLUMNS[name].human(value)
        return str(value) if human in str(value) else f"{value} ({human})"
    return cell(name, value)


def _files(found: Companions) -> Grid:
    from modelstore.render.grid import Grid, Heading
    from modelstore.text import human_bytes

    rows = [
        (file.role, "-" if file.size is None else human_bytes(file.size), file.path)
        for file in found.files
    ]
    return Grid(
        (Heading("FILE"), Heading("SIZE", right=True), Heading("PATH", shrink="wrap")), rows
    )


def _places(found: Companions) -> Grid:
    from modelstore.render.grid import Grid, Heading

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
