"""``modelstore show``: everything about models, or one field of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from modelstore.cli.completion.values import complete_column
from modelstore.cli.options import (
    CACHE_TOGETHER,
    DEFAULT_TIMEOUT,
    CacheTypeKOption,
    CacheTypeVOption,
    CtxOption,
    DbOption,
    FormatOption,
    JsonOption,
    ModelsArgument,
    NoCheckpointOption,
    ParallelOption,
    TimeoutOption,
    cache_options,
    check_given,
    chosen_format,
    option,
    seconds,
)
from modelstore.errors import ExitCode, UsageError
from modelstore.model import ARRAY_COLUMNS, COMPUTED_COLUMNS, MODEL_COLUMNS

if TYPE_CHECKING:
    from modelstore.catalogue.lookup import Companions
    from modelstore.catalogue.memory import CacheOptions, Memory
    from modelstore.cli.output import Output
    from modelstore.cli.session import Session
    from modelstore.database.handle import Database
    from modelstore.render.grid import Cell, Grid
    from modelstore.render.report import Part, Report

_FIELDS = (*MODEL_COLUMNS, *COMPUTED_COLUMNS, "files")
_EXACT = ("parameter_count", "context_length", "file_size")  # shown with the exact number too
_TIMES = ("modified_at", "created_at", "updated_at", "accessed_at")


EXAMPLES = (
    "modelstore show qwen3-30b",
    "modelstore show qwen3-30b --field path",
    "modelstore list -q llama | xargs modelstore show",
)

TOGETHER = {("--ctx", "--cache-type-k", "--cache-type-v", "--parallel"): CACHE_TOGETHER}


def command(
    models: ModelsArgument,
    field: Annotated[
        str | None,
        option(
            "--field",
            metavar="NAME",
            about="Show only the raw value of this column, or of this parameter; files for the "
            "paths of all files.",
            complete=complete_column,
        ),
    ] = None,
    template: Annotated[
        bool, option("--template", about="Show only the chat template, whole.")
    ] = False,
    ctx: CtxOption = None,
    cache_type_k: CacheTypeKOption = None,
    cache_type_v: CacheTypeVOption = None,
    parallel: ParallelOption = None,
    db: DbOption = None,
    output_format: FormatOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    no_checkpoint: NoCheckpointOption = False,
) -> ExitCode:
    """Show everything about models, with their files and the places where they were seen.

    Long values are shortened: `--field NAME` shows one whole, `--json` shows all. JSON for several
    models is one object with a list of them.
    """
    from modelstore.cli.catalogue_session import models_session
    from modelstore.cli.output import current
    from modelstore.cli.reporting import write_answer_and_fold, write_fold
    from modelstore.cli.session import choose_database

    out = current()
    form = chosen_format(output_format, as_json)
    check_given("MODEL", models)
    if template and field is not None:
        raise UsageError("--template and --field show one thing each", hint="leave out one")
    cache = cache_options(ctx, cache_type_k, cache_type_v, parallel)
    if cache is not None and (template or field not in (None, "memory")):
        raise UsageError(
            "--ctx, --cache-type and --parallel are for the memory of a model",
            hint="write --field memory",
        )
    choice = choose_database(db)
    with models_session(out, choice, timeout=seconds(timeout), fold=not no_checkpoint) as session:
        found = [find_model(session.opened.db, model, cache) for model in models]
    found = list({one.values["id"]: one for one in found}.values())
    if cache is not None and cache.context is not None:
        _note_long_context(out, found, cache.context)
    if template:
        out.answer("".join(_template_text(out, one, form) for one in found))
        write_fold(session, on_stdout=False)
    elif field is not None:
        texts = [_field_text(out, one, _field(field, one), form) for one in found]
        out.answer("".join(texts))
        write_fold(session, on_stdout=False)
    else:
        write_answer_and_fold(session, _report(session, found), form)
    return session.exit_code("read")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model of the catalogue: its JSON values by column, its files, places and memory."""

    values: dict[str, Any]
    companions: Companions
    memory: Memory | None


def find_model(db: Database, text: str, cache: CacheOptions | None = None) -> FoundModel:
    """Return the model with this id, beginning of an id, name or path.

    Raises `ModelNotFoundError` for none, `AmbiguousModelError` for several.
    """
    import json

    from modelstore.catalogue.lookup import companions, lookup_model
    from modelstore.catalogue.memory import CacheOptions, context_memory
    from modelstore.catalogue.query import Query, json_lines

    model = lookup_model(db, text)
    columns = (*MODEL_COLUMNS, *COMPUTED_COLUMNS)
    (line,) = json_lines(db, Query(id=model, columns=columns, cache=cache))
    values = json.loads(line)
    memory = context_memory(values, cache or CacheOptions())
    return FoundModel(values, companions(db, model), memory)


def _note_long_context(out: Output, found: list[FoundModel], tokens: int) -> None:
    """Note the models that are trained for a shorter context than is asked for."""
    from modelstore.text import visible

    for one in found:
        trained = one.values["context_length"]
        if isinstance(trained, int) and trained < tokens:
            name = visible(str(one.values["name"]), 80)
            out.note(f"{name} is trained for {trained:,} tokens, fewer than {tokens:,}")


def _field(name: str, found: FoundModel) -> str:
    """Return the field of that name or alias, or the parameter of that name."""
    from modelstore.cli.terms import column_named, near_columns
    from modelstore.text import visible

    parameters = found.values["parameters"]
    known = name if name == "files" else column_named(name)
    if known is None and isinstance(parameters, dict) and name in parameters:
        known = name
    if known is None:
        raise UsageError(
            f"there is no field '{visible(name, 80)}'", hint=near_columns(name, _FIELDS)
        )
    return known


def _field_text(out: Output, found: FoundModel, name: str, form: str | None) -> str:
    """Return one value for a script: exact in a pipe, escaped on a terminal, or as JSON."""
    from modelstore.render.rows import dump_json
    from modelstore.text import visible

    parameters = found.values["parameters"]
    if name == "files":
        value: Any = [file.path for file in found.companions.files]
    elif name in found.values:
        value = found.values[name]
    else:
        value = parameters.get(name) if isinstance(parameters, dict) else None
    if form in ("json", "jsonl") or isinstance(value, dict):
        return dump_json(value) + "\n"
    lines = value if isinstance(value, list) else ["" if value is None else value]
    texts = [str(line) for line in lines]
    if out.stdout_is_terminal:
        texts = ["\n".join(map(visible, text.split("\n"))) for text in texts]
    return "".join(text + "\n" for text in texts)


_TEMPLATES = ("template", "tokenizer.chat_template", "chat_template")
"""The parameters that hold a chat template; Ollama uses its own in place of the file's."""


def _template_text(out: Output, found: FoundModel, form: str | None) -> str:
    """Return the chat template. Raises `UsageError` for a model without one."""
    from modelstore.text import visible

    parameters = found.values["parameters"]
    known = parameters if isinstance(parameters, dict) else {}
    name = next((name for name in _TEMPLATES if name in known), None)
    if name is None:
        raise UsageError(
            f"{visible(str(found.values['name']), 80)} has no chat template that is known",
            hint="it may be an embedding, or was imported before templates were kept: import again",
        )
    return _field_text(out, found, name, form)


def _report(session: Session, found: list[FoundModel]) -> Report:
    from modelstore.cli.reporting import payload
    from modelstore.render.report import Report

    checkpoint = session.checkpoint
    objects = [
        {
            "model": one.values,
            "memory": _memory_json(one.memory),
            "files": _json(one.companions.files, "path", "role", "size", "mtime_ns", "sha256"),
            "places": _json(one.companions.places, "root", "locator", "source", "name", "state"),
        }
        for one in found
    ]
    report: dict[str, object] = {
        **(objects[0] if len(objects) == 1 else {"models": objects}),
        "checkpoint": checkpoint.as_json() if checkpoint else None,
    }
    body: list[Part] = []
    for one in found:
        body += [*_body(one), ""]
    files = sum(len(one.companions.files) for one in found)
    body.append(_counted(session, len(found), files))
    return Report(
        body=tuple(body),
        payload=payload("show", session.choice, report, session.exit_code("read")),
        columns=MODEL_COLUMNS,
        rows=[tuple(one.values[name] for name in MODEL_COLUMNS) for one in found],
    )


def _counted(session: Session, models: int, files: int) -> str:
    from modelstore.text import plural

    counted = [plural(models, "model")] if models > 1 else []
    counted += [plural(files, "file")] if files else []
    return ", ".join([*counted, str(session.choice)])


def _json(things: tuple[Any, ...], *names: str) -> list[dict[str, object]]:
    return [{name: getattr(thing, name) for name in names} for thing in things]


def _memory_json(memory: Memory | None) -> dict[str, int] | None:
    if memory is None:
        return None
    return {
        "weights": memory.weights,
        "kv_cache": memory.kv_cache,
        "recurrent_state": memory.recurrent_state,
        "context_length": memory.context_length,
        "total": memory.total,
    }


def _memory_fact(memory: Memory) -> str:
    """Return what llama-server takes, in sum and in parts."""
    from modelstore.text import human_bytes

    parts = {
        "weights": memory.weights,
        "KV cache": memory.kv_cache,
        "recurrent state": memory.recurrent_state,
    }
    told = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts.items() if size)
    return f"{human_bytes(memory.total)} at {memory.context_length:,} tokens: {told}"


def _body(found: FoundModel) -> list[Part]:
    from modelstore.render.grid import Cell, facts

    values = found.values
    shown = [name for name in values if name not in ("name", "parameters")]
    known = [name for name in shown if values[name] not in (None, [])]
    unknown = [name for name in shown if values[name] is None]
    told = {name: _fact(name, values[name]) for name in known}
    if found.memory is not None:
        told["memory"] = _memory_fact(found.memory)
    parts: list[Part] = [Cell(str(values["name"]), "strong"), facts(told.items())]
    if unknown:
        parts += [Cell(f"unknown: {', '.join(unknown)}", "dim"), ""]
    if found.companions.files:
        parts.append(_files(found.companions))
    if found.companions.places:
        parts.append(_places(found.companions))
    if values["parameters"]:
        parts += _parameters(values)
    return parts


_LONG = 60  # characters of a parameter that is shown whole


def _parameters(values: dict[str, Any]) -> list[Part]:
    """Return one line for each parameter; a long value is shortened."""
    from modelstore.render.grid import Cell, facts
    from modelstore.render.rows import dump_json

    parameters = values["parameters"]
    if not isinstance(parameters, dict):
        return [Cell(f"parameters: {_short(dump_json(parameters))}")]
    texts = {
        name: value if isinstance(value, str) else dump_json(value)
        for name, value in parameters.items()
        if not name.startswith(_TEMPLATES)
    }
    templates = [name for name in _TEMPLATES if name in parameters]
    long = next((name for name, text in texts.items() if len(text) > _LONG), None)
    parts: list[Part] = [
        "",
        Cell("parameters", "strong"),
        facts((name, _short(text)) for name, text in texts.items()),
    ]
    if templates:
        size = len(str(parameters[templates[0]]))
        command = f"modelstore show {values['id'][:7]} --template"
        parts.append(Cell(f"chat template of {size:,} characters: {command}", "dim"))
    if long is not None:
        command = f"modelstore show {values['id'][:7]} --field {long}"
        parts.append(Cell(f"a long value whole: {command}", "dim"))
    return parts


def _short(text: str) -> str:
    if len(text) <= _LONG:
        return text
    return f"{text[: _LONG - 20]}… ({len(text):,} characters)"


def _fact(name: str, value: object) -> str | Cell:
    from modelstore.render.columns import COLUMNS, cell
    from modelstore.render.rows import dump_json

    if isinstance(value, (dict, list)):
        return ", ".join(map(str, value)) if name in ARRAY_COLUMNS else dump_json(value)
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
