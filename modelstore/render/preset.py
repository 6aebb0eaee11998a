"""Models written as a presets file of llama-server, so that a catalogue can drive one.

The grammar is that of llama.cpp's own reader (github.com/ggml-org/llama.cpp/blob/master/common/
preset.cpp): a value ends at the first ``;`` or ``#``, whatever stands before it, and nothing can
be quoted. What cannot be said in it is left out and named, rather than said wrongly. Options that
choose resources (context size, layers on the GPU) are the server's own business and not written.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.catalogue.lookup import companions
from modelstore.catalogue.query import Query, select
from modelstore.locator import parse_hub_locator
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
_TAG_END = re.compile(r"[-.]([A-Za-z0-9_]+)$")
_OLLAMA_MXFP4 = 4  # its file type, in its own numbering
_IK_LLAMA = range(135, 1024)  # file types that only ik_llama.cpp has


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
    file_type: int | None = None
    quantization: str | None = None
    tags: tuple[str, ...] = ()
    projector: str | None = None  # path
    draft: str | None = None  # path


_COLUMNS = (
    *("id", "name", "locator", "path", "type", "status", "file_type", "quantization", "tags"),
    "parameters",
)
_GGUF_KEY = '"tokenizer.ggml.model"'  # every GGUF file that llama.cpp loads has it
_NAMED = 20  # models left out that get a note each


def export_models(db: Database, query: Query, write: Write, note: Callable[[str], None]) -> None:
    """Write the models of `query`.

    Note each model that llama-server cannot serve, or lists under another name.
    """
    left_out = renamed = 0

    def count(model: PresetModel, reason: str) -> None:
        nonlocal left_out
        left_out += 1
        if left_out <= _NAMED:
            note(f"left out: {model.name}: {reason}")

    def rename(model: PresetModel, name: str) -> None:
        nonlocal renamed
        renamed += 1
        if renamed <= _NAMED:
            note(f"{model.name} is served as {name}")

    with closing(select(db, query._replace(columns=_COLUMNS))) as rows:
        write_preset(write, (_preset_model(db, row) for row in rows), count, rename)
    if left_out > _NAMED:
        note(f"left out: {left_out - _NAMED:,} more")
    if renamed > _NAMED:
        note(f"{renamed - _NAMED:,} more are served under another name")


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
        is_gguf=values["file_type"] is not None
        or str(path).lower().endswith(".gguf")
        or _GGUF_KEY in str(values["parameters"]),
        type=str(values["type"]) if values["type"] else None,
        status=str(values["status"]),
        file_type=file_type if isinstance(file_type := values["file_type"], int) else None,
        quantization=str(values["quantization"]) if values["quantization"] else None,
        tags=tuple(json.loads(str(values["tags"]))),
        projector=first.get("projector"),
        draft=first.get("draft"),
    )


def write_preset(
    write: Write,
    models: Iterable[PresetModel],
    left_out: Callable[[PresetModel, str], None],
    renamed: Callable[[PresetModel, str], None] = lambda _model, _name: None,
) -> None:
    """Write one section a model.

    `left_out` is called for each model that has none, with the reason; `renamed` for each model
    that the server lists under another name than the catalogue's.
    """
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
                ("spec-type", _draft_type(model.draft)),
                ("tags", ",".join(tag for tag in model.tags if "," not in tag)),
            )
            if value and _is_speakable(value)
        ]
        name = _section_name(model, taken)
        taken.add(name)
        if name != model.name:
            renamed(model, name)
        write(f"\n[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in pairs))


def _model_pairs(model: PresetModel) -> list[tuple[str, str]] | str:
    """Return the lines that say which model it is, or why llama-server cannot serve it."""
    if reason := _reason_to_leave_out(model):
        return reason
    flag = _FLAGS.get(model.type or "")
    pairs = [(flag, "true")] if flag else []
    if model.path is not None:
        return [("model", model.path), *pairs]
    reference = parse_hub_locator(model.locator)
    if reference is None:
        return "it has no file on this machine"
    return [*_repository_pairs(reference.repository, reference.part), *pairs]


def _reason_to_leave_out(model: PresetModel) -> str | None:
    path = model.path
    is_ollamas = model.file_type == _OLLAMA_MXFP4 and model.quantization == "MXFP4"
    rules = (
        (model.type in _NOT_SERVED, f"a file of type {model.type} is not served by itself"),
        (model.status in ("missing", "incomplete", "truncated"), f"its file is {model.status}"),
        (path is not None and not model.is_gguf, "llama-server reads GGUF files only"),
        (is_ollamas, "only Ollama reads its MXFP4 tensors"),
        (model.file_type in _IK_LLAMA, "only ik_llama.cpp reads its quantization"),
        (
            path is not None and not _is_speakable(path),
            "its path cannot be written in a presets file",
        ),
    )
    return next((reason for applies, reason in rules if applies), None)


def _repository_pairs(repository: str, part: str | None) -> list[tuple[str, str]]:
    """Return the lines of a repository; `part` is a file in it, or the tag of a quantization."""
    if part and part.lower().endswith(".gguf"):
        return [("hf-repo", repository), ("hf-file", part)]
    return [("hf-repo", f"{repository}:{part}" if part else repository)]


def _draft_type(path: str | None) -> str | None:
    """Return the type of draft that llama.cpp does not tell by the file itself."""
    is_eagle = path is not None and os.path.basename(path).lower().startswith("eagle3-")
    return "draft-eagle3" if is_eagle else None


def _is_speakable(value: str) -> bool:
    return is_safe(value) and not _UNSPEAKABLE.search(value)


def _section_name(model: PresetModel, taken: set[str]) -> str:
    """Return the model's name as the server lists it, with its id if the name is taken."""
    name = visible(model.name, _NAME_LIMIT).replace("]", ")").strip()
    if _canonical(name) != name:
        name = name.replace(":", "-")
    return f"{name} {model.id}".strip() if not name or name in taken else name


def _canonical(name: str) -> str:
    """Return the name under which llama-server lists a section: it cuts and capitalizes the tag.

    github.com/ggml-org/llama.cpp/blob/master/common/preset.cpp, ``canonical_tag``
    """
    head, colon, tag = name.rpartition(":")
    end = _TAG_END.search(tag)
    return head + colon + (end[1] if end else tag).upper() if colon else name
