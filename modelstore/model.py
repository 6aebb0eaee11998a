"""A language model as its columns.

A column of the catalogue is one field of `Model`. Names are GGUF's own where GGUF has one
(github.com/ggml-org/ggml/blob/master/docs/gguf.md). Unknown is None, never 0 or "".
"""

from typing import Literal, NamedTuple, get_args

Status = Literal["available", "missing", "incomplete", "truncated", "remote"]
"""available: every file is there whole; missing: a file that was there is gone; incomplete: a
shard is missing or a download has not ended; truncated: a file ends before its tensors do;
remote: known from a server or a registry, without a file on this machine."""

STATUSES: tuple[Status, ...] = get_args(Status)

TYPES = (
    *("model", "embedding", "reranker", "classifier", "projector", "draft", "adapter", "vocab"),
    *("imatrix", "diffusion", "vae", "vocoder", "speech"),
)
"""The types that our own sources tell; another program's records may bring more."""

CAPABILITIES = ("audio", "embedding", "insert", "thinking", "tools", "vision")
"""What a model can do beyond completing text; ``insert`` is text between a start and an end."""


class Model(NamedTuple):
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
    capabilities: tuple[str, ...] | None = None  # of CAPABILITIES, sorted
    revision: str | None = None  # of its repository or store: a commit, a manifest's SHA-256
    tags: tuple[str, ...] = ()
    host: str | None = None
    parameters: str | None = None  # a JSON object, as text
    source_id: str | None = None
    modified_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


MODEL_COLUMNS: tuple[str, ...] = Model._fields

ACCESSED = "modelstore_accessed_at"  # an SQL function of ours: `modelstore.catalogue.access`
MEMORY = "modelstore_memory"  # an SQL function of ours: `modelstore.catalogue.memory`
COMPUTED_COLUMNS = {
    "bpw": "nullif(round(8.0 * json_extract(CASE WHEN json_valid({0}parameters) "
    "THEN {0}parameters END, '$.tensor_bytes') / {0}parameter_count, 2), 0)",
    "accessed_at": ACCESSED + "({0}path, {0}host)",
    "memory": MEMORY + "({0}architecture, {0}block_count, {0}embedding_length, {0}head_count, "
    "{0}head_count_kv, {0}feed_forward_length, {0}context_length, {0}parameters)",
}
"""Columns that are computed when they are asked for: their SQL, with a place for ``models.``.

``bpw``: bits per weight, of the tensors. ``accessed_at``: the last time that a program read the
file, as this machine's file system recorded it. ``memory``: bytes that llama.cpp takes for it.
"""

INTEGER_COLUMNS: frozenset[str] = frozenset(
    column for column, kind in Model.__annotations__.items() if kind == int | None
)

ARRAY_COLUMNS: frozenset[str] = frozenset(
    column
    for column, kind in Model.__annotations__.items()
    if tuple[str, ...] in (kind, *get_args(kind))
)
"""Columns that hold a JSON array of texts."""

REQUIRED_COLUMNS: frozenset[str] = frozenset(
    column for column, kind in Model.__annotations__.items() if type(None) not in get_args(kind)
)
"""Columns that every model has a value for."""


def column_definition(column: str) -> str:
    """Return the SQL of one column of a table of models: its name, type and NOT NULL."""
    kind = "INTEGER" if column in INTEGER_COLUMNS else "TEXT"
    return f"{column} {kind}" + (" NOT NULL" if column in REQUIRED_COLUMNS else "")
