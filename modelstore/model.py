"""A language model as the catalogue keeps it, with the files and places it was seen in.

Names are GGUF's own where GGUF has one (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
Unknown is None, never 0 or "".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Literal

Status = Literal["available", "missing", "incomplete", "truncated", "remote"]
"""available: every file is there whole; missing: a file that was there is gone; incomplete: a
shard or download is not all there; truncated: a file ends before its tensors do; remote: known
from a server or a registry, without a file on this machine."""

STATUSES: tuple[Status, ...] = ("available", "missing", "incomplete", "truncated", "remote")

FileRole = Literal["model", "shard", "projector", "draft", "adapter", "config", "index"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model. The field order is the column order of table ``models`` and of every listing.

    Sizes are bytes, counts are integers, times are ISO-8601 UTC (``2026-11-22T19:35:00Z``).
    ``locator`` is what the model *is*, wherever it is imported from: canonical and unique.
    """

    id: str
    name: str
    source: str
    locator: str
    path: str | None = None
    architecture: str | None = None
    type: str | None = None
    status: Status = "available"
    parameter_count: int | None = None
    size_label: str | None = None
    quantization: str | None = None
    file_type: int | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    head_count: int | None = None
    head_count_kv: int | None = None
    feed_forward_length: int | None = None
    vocab_size: int | None = None
    file_size: int | None = None
    sha256: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    host: str | None = None
    parameters: str | None = None  # a JSON object, as text
    source_id: str | None = None
    modified_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


MODEL_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Model))

INTEGER_COLUMNS: frozenset[str] = frozenset(
    (
        "parameter_count",
        "file_type",
        "context_length",
        "embedding_length",
        "block_count",
        "head_count",
        "head_count_kv",
        "feed_forward_length",
        "vocab_size",
        "file_size",
    )
)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, by its real path; what a later scan compares instead of reading it."""

    path: str
    role: FileRole
    size: int | None = None  # bytes
    mtime_ns: int | None = None
    sha256: str | None = None  # lower-case hex, of the content
    device: int | None = None  # st_dev and st_ino: two names of one file are one model
    inode: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model was seen: a path, a store's own name, or a server's address."""

    root: str  # what was imported: a directory, a store, an address; canonical
    locator: str  # the place within it, unique under the root
    source: str  # kind
    name: str  # what the model is called there
    state: str | None = None  # as the place says it: loaded, unloaded, …


def model_id(locator: str) -> str:
    """Return the stable id of a locator: the first 16 hex digits (64 bits) of its SHA-256."""
    return hashlib.sha256(locator.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_locator(host: str, path: str) -> str:
    """Return the locator of a file: its host and real path, so that many machines can merge."""
    return f"file://{host}{path if path.startswith('/') else '/' + path}"
