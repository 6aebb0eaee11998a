"""Models written as a presets file of llama-server, so that a catalogue can drive one.

The grammar is that of llama.cpp's own reader (github.com/ggml-org/llama.cpp/blob/master/common/
preset.cpp): a value ends at the first ``;`` or ``#``, whatever stands before it, and nothing can
be quoted. What cannot be said in it is left out and named, rather than said wrongly. Options that
choose resources (context size, layers on the GPU) are the server's own business and not written.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.catalogue.lookup import companions
from modelstore.catalogue.query import Query, select
from modelstore.text import is_safe, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelstore.database.handle import Database
    from modelstore.render.rows import Write

_UNSPEAKABLE = re.compile(r"[;#]|^\s|\s$|^$")
_RESERVED = ("*", "default")  # the reader's names for what all models share
_NAME_LIMIT = 200  # characters
_NOT_SERVED = frozenset(
    ("projector", "draft", "adapter", "vocab", "imatrix", "diffusion", "vae", "vocoder", "speech")
)
_FLAGS = {"embedding": "embedding", "reranker": "reranking"}  # by type: the option it needs
_REPOSITORY = re.compile(r"hf:([\w.-]+/[\w.-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetModel:
    """The model of one section of the file."""

    id: str
    name: str
    locator: str
    path: str | None = None
    is_gguf: bool = True  # what is at `path`
    type: str | None = None
    status: str = "available"
    tags: tuple[str, ...] = ()
    projector: str | None = None  # path
    draft: str | None = None  # path


_COLUMNS = ("id", "name", "locator", "path", "type", "status", "file_type", "tags")
_NAMED = 20  # models left out that get a note each


def export_models(db: Database, query: Query, write: Write, note: Callable[[str], None]) -> None:
    """Write the models of `query`; note each model that llama-server cannot serve."""
    left_out = 0

    def count(model: PresetModel, reason: str) -> None:
        nonlocal left_out
        left_out += 1
        if left_out <= _NAMED:
            note(f"left out: {model.name}: {reason}")

    with closing(select(db, replace(query, columns=_COLUMNS))) as rows:
        write_preset(write, (_preset_model(db, row) for row in rows), count)
    if left_out > _NAMED:
        note(f"left out: {left_out - _NAMED:,} more")


def _preset_model(db: Database, row: tuple[object, ...]) -> PresetModel:
    values = dict(zip(_COLUMNS, row, strict=True))
    path = values["path"]
    files = companions(db, str(values["id"])).files
    first = {file.role: file.path for file in reversed(files)}
    return PresetModel(
        id=str(values["id"]),
        name=str(values["name"]),
        locator=str(values["locator"]),
        path=path if isinstance(path, str) else None,
        is_gguf=values["file_type"] is not None or str(path).lower().endswith(".gguf"),
        type=str(values["type"]) if values["type"] else None,
        status=str(values["status"]),
        tags=tuple(json.loads(str(values["tags"]))),
        projector=first.get("projector"),
        draft=first.get("draft"),
    )


def write_preset(
    write: Write, models: Iterable[PresetModel], left_out: Callable[[PresetModel, str], None]
) -> None:
    """Write one section a model; `left_out` is called for each model that has none, with why."""
    write("version = 1\n")
    taken = set(_RESERVED)
    for model in models:
        pairs = _model_pairs(model)
        if isinstance(pairs, str):
            left_out(model, pairs)
            continue
        pairs += [
            (key, value)
            for key, value in (
                ("mmproj", model.projector),
                ("model-draft", model.draft),
                ("tags", ",".join(tag for tag in model.tags if "," not in tag)),
            )
            if value and _is_speakable(value)
        ]
        name = _section_name(model, taken)
        taken.add(name)
        write(f"\n[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in pairs))


def _model_pairs(model: PresetModel) -> list[tuple[str, str]] | str:
    """Return the lines that say which model it is, or why llama-server cannot serve it."""
    if model.type in _NOT_SERVED:
        return f"a file of type {model.type} is not served by itself"
    flag = _FLAGS.get(model.type or "")
    pairs = [(flag, "true")] if flag else []
    repository = _REPOSITORY.match(model.locator)
    if model.path is None and repository:
        return [("hf-repo", repository[1]), *pairs]
    if model.path is None:
        return "it has no file on this machine"
    if not model.is_gguf:
        return "llama-server reads GGUF files only"
    if model.status in ("missing", "incomplete", "truncated"):
        return f"its file is {model.status}"
    if not _is_speakable(model.path):
        return "its path cannot be written in a presets file"
    return [("model", model.path), *pairs]


def _is_speakable(value: str) -> bool:
    return is_safe(value) and not _UNSPEAKABLE.search(value)


def _section_name(model: PresetModel, taken: set[str]) -> str:
    """Return the model's name as a section can have it, with its id where the name is taken."""
    name = visible(model.name, _NAME_LIMIT).replace("]", ")").strip()
    return f"{name} {model.id}".strip() if not name or name in taken else name
