"""A model record from safetensors files and the config.json beside them."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.found import Found, Skipped
from modelstore.sources.files import capabilities, naming
from modelstore.sources.files.local_files import (
    WEIGHTS,
    Faults,
    LocalFile,
    Origin,
    build_found,
    missing_shards,
    read_bounded,
    unchanged,
)
from modelstore.sources.files.model_card import card_license
from modelstore.sources.files.model_config import (
    architecture,
    config_columns,
    model_kind,
    text_parts,
)
from modelstore.sources.files.packing import (
    QUANTIZER_FILES,
    beside_config,
    declared_quantization,
    evident_quantization,
    parameter_count,
)
from modelstore.sources.files.safetensors_header import (
    DTYPE_BITS,
    SafetensorsError,
    SafetensorsHeader,
    read_safetensors_header,
)
from modelstore.sources.values import (
    MAX_TEMPLATE,
    array,
    count_or_none,
    mapping,
    parse_json,
    text_or_none,
)
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.sources.base import Context, Unchanged

Json = dict[str, object]

_MAX_CONFIG = 1 << 20  # bytes
_MAX_INDEX = 1 << 25
_MAX_METADATA_VALUE = 256
_MAX_TOKENIZER = 1 << 22  # bytes
_MAX_TEMPLATES = 20
_INDEX_ENTRY = re.compile(rb'"\s*+:\s*+"([^"\\/]{1,255}\.safetensors)"')
_FACTS = (
    "architectures",
    "base_model_name_or_path",
    "head_dim",
    "layer_types",
    "lora_alpha",
    "n_routed_experts",
    "num_experts",
    "num_experts_per_tok",
    "num_local_experts",
    "peft_type",
    "quantization",
    "quantization_config",
    "r",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "target_modules",
    "tie_word_embeddings",
    "transformers_version",
)


def describe_safetensors(
    files: Sequence[LocalFile], origin: Origin, context: Context
) -> Found | Unchanged | Skipped:
    """Describe one model from its safetensors files: weights, ``config`` and ``index`` files.

    Roles are as in `describe_gguf`. config.json and adapter_config.json are ``config``;
    model.safetensors.index.json is ``index``.
    """
    known = unchanged(files, origin.place, context)
    if known is not None:
        return known
    faults = Faults()
    headers: list[SafetensorsHeader] = []
    weights = [file for file in files if file.role in WEIGHTS]
    names = [naming.parse_name(file.name) for file in weights]
    for file, name in zip(weights, names, strict=True):
        partial = name is not None and name.partial
        header = _header(file, faults, partial=partial)
        if isinstance(header, SafetensorsHeader):
            headers.append(header)
        elif len(weights) == 1 and not partial:
            return Skipped(file.path, header)
        else:
            faults.incomplete(f"{file.shown}: {header}")
    missing_shards(
        {name.shard for name in names if name and name.shards},
        max(name.shards if name else 0 for name in names),
        faults,
    )
    config: Json = {}
    beside: Json = {}
    for file in files:
        if file.name in QUANTIZER_FILES:
            beside = beside or beside_config(file.name, _config(file, faults))
        elif file.role == "config":
            config = _config(file, faults)
        elif file.role == "index":
            _check_index(file, weights, faults)
    if beside and declared_quantization(config) is None:
        config = {**config, "quantization_config": beside}
    origin = replace(origin, name=origin.name or _component_name(weights[0].path))
    title = origin.name or naming.model_name(weights[0].path)
    columns, facts = _describe(weights[0], title, headers, config)
    columns["size_label"] = naming.size_label(title)
    columns["source"] = origin.source or "safetensors"
    if len(headers) < len(weights) or faults.status == "incomplete":
        columns["parameter_count"] = facts["tensor_bytes"] = None
    return build_found(files, weights, columns, facts, faults, origin, context)


def _header(file: LocalFile, faults: Faults, *, partial: bool) -> SafetensorsHeader | str:
    """Return the header, or the reason that it cannot be read."""
    try:
        header = read_safetensors_header(file.real)
    except SafetensorsError as error:
        return error.reason
    except OSError as error:
        return error.strerror or "cannot be opened"
    if partial:
        faults.incomplete(f"{file.shown} is an unfinished download")
    elif header.truncated:
        faults.truncated(f"{file.shown} ends at {header.size} of {header.data_end} bytes")
    return header


def _config(file: LocalFile, faults: Faults) -> Json:
    try:
        config = json.loads(read_bounded(file.real, _MAX_CONFIG))
    except (OSError, ValueError, RecursionError):
        config = None
    if isinstance(config, dict):
        return config
    faults.note(f"{file.shown} cannot be read as JSON")
    return {}


def _check_index(file: LocalFile, weights: Sequence[LocalFile], faults: Faults) -> None:
    """Note the files in the index's ``weight_map`` that are missing."""
    try:
        text = read_bounded(file.real, _MAX_INDEX)
    except (OSError, ValueError):
        faults.note(f"{file.shown} cannot be read")
        return
    wanted = {os.fsdecode(match[1]) for match in _INDEX_ENTRY.finditer(text)}
    total = len(wanted)
    wanted -= {naming.without_partial(weight.name) for weight in weights}
    directory = os.path.dirname(file.path)
    missing = [
        name for name in sorted(wanted) if not os.path.lexists(os.path.join(directory, name))
    ]
    if missing and faults.status != "incomplete":
        faults.incomplete(
            f"{len(missing)} of {total} files are missing: {visible(missing[0], 200)}"
            + (", …" if len(missing) > 1 else "")
        )


def _component_name(path: str) -> str | None:
    """Return the name of a part of a diffusers pipeline: ``repo/unet``; None for other models."""
    pipeline, part = os.path.split(os.path.dirname(path))
    if part and os.path.lexists(os.path.join(pipeline, "model_index.json")):
        return f"{os.path.basename(pipeline)}/{part}"
    return None


def _describe(
    first: LocalFile, name: str, headers: list[SafetensorsHeader], config: Json
) -> tuple[dict[str, object], Json]:
    """Return the columns and the facts from the headers and the configuration."""
    elements: dict[tuple[str, str], int] = {}
    for header in headers:
        for which, number in header.elements.items():
            elements[which] = elements.get(which, 0) + number
    shapes = {name: shape for header in headers for name, shape in header.shapes.items()}
    quantization = declared_quantization(config) or evident_quantization(
        elements, headers[0].metadata if headers else {}
    )
    count = count_or_none(parameter_count(elements, shapes, quantization))
    directory = os.path.dirname(first.path)
    columns: dict[str, object] = {
        **config_columns(config),
        "architecture": architecture(config, headers[0] if headers else None),
        "type": model_kind(directory, name, config, headers),
        "parameter_count": count,
        "quantization": quantization.label if quantization else _dominant(elements),
        "license": text_or_none(config.get("license")) or _card_license(directory, config),
    }
    parts = text_parts(config)
    facts: Json = {key: next((part[key] for part in parts if key in part), None) for key in _FACTS}
    facts["tensor_count"] = sum(header.tensor_count for header in headers) or None
    facts["tensor_bytes"] = _tensor_bytes(elements)
    templates = _chat_templates(directory) if config else {}
    facts |= templates
    found = capabilities.of_config(config).union(*map(capabilities.of_template, templates.values()))
    columns["capabilities"] = capabilities.of_type(str(columns["type"]), found)
    if headers:
        facts["metadata"] = {
            key: value
            for key, value in headers[0].metadata.items()
            if len(value) <= _MAX_METADATA_VALUE
        } or None
    return columns, facts


def _card_license(directory: str, config: Json) -> str | None:
    """Return the licence in the card of a model's own directory: one with a configuration."""
    return card_license(os.path.join(directory, "README.md")) if config else None


def _tensor_bytes(elements: Mapping[tuple[str, str], int]) -> int | None:
    """Return the bytes of all tensors; None if a dtype is unknown."""
    if any(dtype not in DTYPE_BITS for dtype, _ in elements):
        return None
    return sum(count * DTYPE_BITS[dtype] for (dtype, _), count in elements.items()) // 8 or None


def _chat_templates(directory: str) -> dict[str, str]:
    """Return the chat templates beside a model: ``chat_template``, and others with their name.

    https://huggingface.co/docs/transformers/chat_templating_writing
    """
    path = os.path.join(directory, "chat_template.jinja")
    with suppress(OSError, ValueError):
        return _kept_templates({"": read_bounded(path, MAX_TEMPLATE).decode()})
    for name in ("tokenizer_config.json", "chat_template.json"):
        with suppress(OSError, ValueError):
            value = mapping(parse_json(read_bounded(os.path.join(directory, name), _MAX_TOKENIZER)))
            template = value.get("chat_template")
            if isinstance(template, str):
                return _kept_templates({"": template})
            named = map(mapping, array(template)[:_MAX_TEMPLATES])
            if kept := _kept_templates(
                {str(one.get("name")): one.get("template") for one in named}
            ):
                return kept
    return {}


def _kept_templates(templates: Mapping[str, object]) -> dict[str, str]:
    """Return what is Jinja: a link may lead to a text that is none of a catalogue's business."""
    return {
        "chat_template"
        + (f".{name[:_MAX_METADATA_VALUE]}" if name not in ("", "default") else ""): text
        for name, text in templates.items()
        if isinstance(text, str) and len(text) <= MAX_TEMPLATE and ("{{" in text or "{%" in text)
    }


def _dominant(elements: Mapping[tuple[str, str], int]) -> str | None:
    by_dtype: dict[str, int] = {}
    for (dtype, _), count in elements.items():
        by_dtype[dtype] = by_dtype.get(dtype, 0) + count
    return text_or_none(max(sorted(by_dtype), key=lambda dtype: by_dtype[dtype], default=None))
