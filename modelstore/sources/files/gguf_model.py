"""A model record from GGUF files: one file, or all shards of one model.

The keys are those of github.com/ggml-org/ggml/blob/master/docs/gguf.md and of llama.cpp's
gguf-py/gguf/constants.py.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.found import Found, Skipped
from modelstore.sources.files import capabilities, naming
from modelstore.sources.files.gguf_header import Elided, GgufError, GgufHeader, Value, read_header
from modelstore.sources.files.local_files import (
    WEIGHTS,
    Faults,
    LocalFile,
    Origin,
    build_found,
    missing_shards,
    unchanged,
)
from modelstore.sources.files.quantization import quantization_name, tensor_bytes
from modelstore.sources.values import count_or_none, text_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.sources.base import Context, Unchanged
    from modelstore.sources.files.naming import FileName

_EMBEDDING_ARCHITECTURES = frozenset(
    (
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    )
)
_DRAFTS = re.compile(r"eagle.*|medusa.*|d(?:flash|spark)|(?:.*[-_])?(?:assistant|mtp|draft)")
"""Architectures of models that only guess ahead for another (llama.cpp's llama-arch.cpp)."""

_DIFFUSION = frozenset(
    (
        *("aura", "chroma", "cosmos", "flux", "hidream", "hyvid", "ltxv", "lumina2", "pixart"),
        *("qwen_image", "sd1", "sd3", "sdxl", "wan", "z_image"),
    )
)
"""Architectures of ComfyUI-GGUF (github.com/city96/ComfyUI-GGUF, tools/convert.py)."""

_OTHER_ARCHITECTURES = {
    **dict.fromkeys(_DIFFUSION, "diffusion"),
    "pig": "vae",  # of gguf-connector
    "wavtokenizer-dec": "vocoder",
    "whisper": "speech",
}
_POOLING_EMBEDDING = (1, 2, 3)  # LLAMA_POOLING_TYPE_MEAN, _CLS, _LAST; 0 is none
_POOLING_RANK = 4
_MAX_SMALL = 65_535  # split.no and split.count have 16 bits
_COLUMNS = {
    "context_length": "context_length",
    "embedding_length": "embedding_length",
    "block_count": "block_count",
    "head_count": "attention.head_count",
    "head_count_kv": "attention.head_count_kv",
    "feed_forward_length": "feed_forward_length",
    "vocab_size": "vocab_size",
}
_IN_COLUMNS = frozenset(
    (
        "general.alignment",
        "general.architecture",
        "general.file_type",
        "general.license",
        "general.size_label",
        "general.type",
    )
)


def describe_gguf(
    files: Sequence[LocalFile], origin: Origin, context: Context
) -> Found | Unchanged | Skipped:
    """Describe one model from its GGUF files: the weights and their companions.

    `files` holds the weights (role ``model``, or ``shard`` for each of several, in any order; at
    least one) and the projector, draft or adapter files of the model. Their SHA-256 comes from
    the store and is never computed. No file is opened if the catalogue knows all of them
    unchanged. A missing shard or a short file sets the status, and ``faults`` in ``parameters``
    explains it. Weights without readable metadata are `Skipped`.
    """
    known = unchanged(files, origin.place, context)
    if known is not None:
        return known
    shards = sorted(
        (_Shard(file, naming.parse_name(file.name)) for file in files if file.role in WEIGHTS),
        key=lambda shard: (shard.number or 0, shard.file.path),
    )
    faults = Faults()
    for shard in shards:
        reason = shard.read(faults)
        if reason is None:
            continue
        if shard is shards[0] and not shard.partial:
            return Skipped(shard.file.path, reason)
        faults.incomplete(f"{shard.file.shown}: {reason}")
    senses: set[str] = set()
    for file in files:
        if file.role not in WEIGHTS:
            companion = _Shard(file, None)
            reason = companion.read(faults)
            if reason is not None:
                faults.incomplete(f"{file.shown}: {reason}")
            elif companion.header and file.role == "projector":
                senses |= capabilities.of_projector(companion.header.metadata)
    shards.sort(key=_order)  # a store may keep shards under nameless hashes
    return _found(files, shards, faults, origin, context, senses)


def _order(shard: _Shard) -> tuple[int, str]:
    number = _split_number(shard) if shard.number is None else shard.number
    return number, shard.file.path


@dataclass(slots=True)
class _Shard:
    """One file of the weights, its parsed name, and its header once it is read."""

    file: LocalFile
    name: FileName | None
    header: GgufHeader | None = None

    @property
    def number(self) -> int | None:
        """The number in the file's name; None if that has none."""
        return self.name.shard if self.name and (self.name.shards or self.name.raw_part) else None

    @property
    def partial(self) -> bool:
        return self.name is not None and self.name.partial

    @property
    def raw_part(self) -> bool:
        return self.name is not None and self.name.raw_part

    def read(self, faults: Faults) -> str | None:
        """Read the header; return the reason if it cannot be read."""
        if self.raw_part and (self.number or 0) > 1:
            return None  # the first piece has the header
        try:
            header = read_header(self.file.real)
        except GgufError as error:
            return error.reason
        except OSError as error:
            return error.strerror or "cannot be opened"
        self.header = header
        if self.partial:
            faults.incomplete(f"{self.file.shown} is an unfinished download")
        elif header.truncated and not self.raw_part:
            faults.truncated(f"{self.file.shown} ends at {header.size} of {header.data_end} bytes")
        return None


def _missing_shards(shards: list[_Shard], faults: Faults) -> bool:
    """Note the missing shards, by the file names and by ``split.count``."""
    first = shards[0]
    if first.raw_part:
        faults.incomplete("the file is cut into pieces, which must be joined into one")
    split_count = _small(first.header.metadata.get("split.count")) if first.header else None
    total = max(first.name.shards if first.name else 0, split_count or 0)
    numbers = {_split_number(one) if one.number is None else one.number for one in shards}
    return missing_shards(numbers, total, faults)


def _split_number(shard: _Shard) -> int:
    number = _small(shard.header.metadata.get("split.no")) if shard.header else None
    return 0 if number is None else number + 1


def _small(value: Value | None) -> int | None:
    """Return an unsigned 16-bit number; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SMALL:
        return value
    return None


def _columns(metadata: Mapping[str, Value], prefixes: tuple[str, ...]) -> dict[str, int | None]:
    columns = {}
    for column, key in _COLUMNS.items():
        values = (metadata.get(f"{prefix}.{key}") for prefix in prefixes)
        columns[column] = next((_greatest(value) for value in values if value is not None), None)
    tokens = metadata.get("tokenizer.ggml.tokens")
    if columns["vocab_size"] is None and isinstance(tokens, (Elided, list)):
        columns["vocab_size"] = tokens.count if isinstance(tokens, Elided) else len(tokens) or None
    if columns["head_count_kv"] is None:  # as llama.cpp does
        columns["head_count_kv"] = columns["head_count"]
    return columns


def _greatest(value: Value) -> int | None:
    """Return the largest of a number that may differ from layer to layer."""
    if isinstance(value, list):
        return max((count_or_none(item) or 0 for item in value), default=0) or None
    return count_or_none(value)


def _type(
    metadata: Mapping[str, Value], architecture: str | None, headers: list[GgufHeader], stem: str
) -> str | None:
    """Return the type of a model, from its metadata or else from its name."""
    kind = metadata.get("general.type")
    has_tensors = any(header.tensor_count for header in headers)
    pooling = metadata.get(f"{architecture}.pooling_type")
    by_name = naming.sidecar(stem)
    labels = metadata.get(f"{architecture}.classifier.output_labels")
    rules = (
        ("imatrix", kind == "imatrix" or "imatrix.chunk_count" in metadata),
        ("projector", kind == "mmproj" or architecture == "clip"),
        ("adapter", kind == "adapter" or "adapter.type" in metadata),
        ("adapter", architecture == "controlvector"),
        ("vocab", headers and not has_tensors and "tokenizer.ggml.model" in metadata),
        ("draft", by_name == "draft" or _DRAFTS.fullmatch(architecture or "")),
        (_OTHER_ARCHITECTURES.get(architecture or ""), architecture in _OTHER_ARCHITECTURES),
        ("classifier", pooling == _POOLING_RANK and _classifies(labels)),
        ("reranker", pooling == _POOLING_RANK),
        ("embedding", pooling in _POOLING_EMBEDDING or architecture in _EMBEDDING_ARCHITECTURES),
        ("projector", by_name == "projector" and architecture is None),
        ("model", architecture or has_tensors),
    )
    return next((name for name, applies in rules if applies), None)


def _classifies(labels: Value | None) -> bool:
    """Return True for several labels; the answers of Qwen3-Reranker, yes and no, are a score."""
    return isinstance(labels, list) and len(labels) > 1 and set(labels) != {"yes", "no"}


def _found(
    files: Sequence[LocalFile],
    shards: list[_Shard],
    faults: Faults,
    origin: Origin,
    context: Context,
    senses: set[str],
) -> Found:
    """Build the record; `senses` are the capabilities that its projectors give."""
    missing = _missing_shards(shards, faults)
    headers = [shard.header for shard in shards if shard.header]
    metadata = headers[0].metadata if headers else {}
    architecture = text_or_none(metadata.get("general.architecture"))
    prefixes = ("clip.vision", "clip.audio") if architecture == "clip" else (str(architecture),)
    types: dict[int, int] = {}
    for header in headers:
        for number, elements in header.tensor_types.items():
            types[number] = types.get(number, 0) + elements
    unread = any(shard.header is None and not shard.raw_part for shard in shards)
    file_type = _small(metadata.get("general.file_type"))
    stem = shards[0].name.stem if shards[0].name else ""
    kind = _type(metadata, architecture, headers, stem)
    able = capabilities.of_metadata(metadata, architecture) | senses
    columns = {
        "source": origin.source or "gguf",
        "architecture": architecture,
        "type": kind,
        "capabilities": capabilities.of_type(kind, able) if headers else None,
        "parameter_count": None if missing or unread else count_or_none(sum(types.values())),
        "size_label": text_or_none(metadata.get("general.size_label"))
        or naming.size_label(stem)
        or naming.size_label(origin.name or ""),
        "file_type": file_type,
        "quantization": quantization_name(file_type, types, _label(stem, origin)),
        "license": text_or_none(metadata.get("general.license")),
        **_columns(metadata, prefixes),
    }
    facts = _facts(metadata, prefixes)
    if headers:
        facts["tensor_count"] = sum(header.tensor_count for header in headers)
        facts["tensor_bytes"] = None if missing or unread else tensor_bytes(types)
        facts["nextn_bytes"] = _nextn_bytes(shards, metadata, prefixes[0])
        facts["big_endian"] = headers[0].big_endian or None
    weights = [shard.file for shard in shards]
    return build_found(files, weights, columns, facts, faults, origin, context)


def _nextn_bytes(shards: list[_Shard], metadata: Mapping[str, Value], prefix: str) -> int | None:
    """Return the bytes of the last layers, which guess further tokens; None if there are none.

    llama.cpp loads them only if it is told to use them (``load_mtp``).
    """
    count = _small(metadata.get(f"{prefix}.nextn_predict_layers")) or 0
    layers = _small(metadata.get(f"{prefix}.block_count")) or 0
    if not 0 < count < layers:
        return None
    names = tuple(f"blk.{layer}.".encode() for layer in range(layers - count, layers))
    size = 0
    for shard in shards:
        with suppress(GgufError, OSError):  # it was read before, and may have changed since
            types = read_header(shard.file.real, names).tensor_types
            size += tensor_bytes(types) or 0
    return size or None


def _label(stem: str, origin: Origin) -> str | None:
    """Return the quantization that a file's name, or else a store's tag of it, ends with."""
    return naming.encoding(stem) or naming.encoding((origin.name or "").rpartition(":")[2])


def _facts(metadata: Mapping[str, Value], prefixes: tuple[str, ...]) -> dict[str, object]:
    """Return the metadata that no column holds, under GGUF's own keys."""
    in_columns = {f"{prefix}.{key}" for prefix in prefixes for key in _COLUMNS.values()}
    facts: dict[str, object] = {}
    for key, value in metadata.items():
        if isinstance(value, Elided) or key in _IN_COLUMNS or key.startswith("split."):
            continue
        if isinstance(value, list) and key.startswith("tokenizer."):
            continue
        if key in in_columns and not (isinstance(value, list) and len(set(value)) > 1):
            continue
        facts[key] = _short(value) if isinstance(value, float) else value
    return facts


def _short(number: float) -> float:
    """Return a 32-bit float as people write it: 1e-06, not 9.999999974752427e-07."""
    short = float(f"{number:.7g}")
    try:
        same = struct.pack("f", short) == struct.pack("f", number)
    except OverflowError:
        return number
    return short if same else number
