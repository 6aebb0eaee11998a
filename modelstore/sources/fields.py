"""What the fields of a model record from outside mean: their names, and the values they may have.

A field of a known name becomes a column; any other is kept in ``parameters``. A count or size is
taken only where it is exact: ``"7B"`` and ``"4.1 GB"`` are rounded, and a rounded number is never
passed off as bytes or parameters. They are kept as the texts that they are.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from modelstore.store.models import MODEL_COLUMNS, STATUSES
from modelstore.store.redact import MAX_NAME, snake_case
from modelstore.store.storable import MAX_INTEGER
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LAYERS = 100_000  # values of a per-layer array

# Each column, and the other names that programs give it. A column's own name always counts.
_ALIASES = {
    "name": "model_name display_name title",
    "path": "model_path file_path filepath file filename gguf_path local_path",
    "architecture": "arch model_arch architectures family model_family",
    "type": "model_kind",
    "parameter_count": "params n_params num_params num_parameters total_parameters",
    "size_label": "parameter_size params_string size_class",
    "quantization": "quant quantization_type quantization_level quant_type qtype",
    "file_type": "ftype general_file_type",
    "context_length": "context ctx ctx_size n_ctx n_ctx_train ctx_train context_size "
    "context_window max_context_length max_position_embeddings max_model_len",
    "embedding_length": "n_embd embedding_size embedding_dim hidden_size d_model",
    "block_count": "n_layer n_layers num_layers num_hidden_layers layers",
    "head_count": "n_head n_heads num_heads num_attention_heads",
    "head_count_kv": "n_head_kv n_kv_heads num_key_value_heads",
    "feed_forward_length": "n_ff ffn_dim intermediate_size",
    "vocab_size": "n_vocab",
    "file_size": "size size_bytes file_size_bytes bytes filesize model_size_bytes",
    "sha256": "sha256sum sha_256 file_sha256",
    "tags": "labels",
    "host": "hostname",
    "modified_at": "modified mtime last_modified modification_time",
    "created_at": "created",
    # What is no column of its own, but says what the model is.
    "hf_repo": "repo_id repo hf_repo_id huggingface_repo huggingface_id",
    "hf_revision": "revision commit hf_commit",
    "hf_file": "",
    "model": "",
    "favorite": "favourite starred",
}
_SPELLINGS = {alias: column for column, names in _ALIASES.items() for alias in names.split()}
_SPELLINGS.update({column: column for column in (*_ALIASES, *MODEL_COLUMNS)})

_TYPES = {"llm": "model", "vlm": "model", "embeddings": "embedding", "reranking": "reranker"}
_UNKNOWN = frozenset(("", "null", "none", "n/a", "na", "unknown", "-", "?"))
_WHOLE_NUMBER = re.compile(r"\d{1,3}(?:[,_']\d{3}){1,6}|\d{1,19}|\d{1,17}\.0{1,3}")
_BYTES = re.compile(r"(\d{1,19})\s*(?:b|bytes?)", re.IGNORECASE)
_ROUNDED = re.compile(
    r"~?\d[\d.,]{0,15}\s*(?:x\s*\d[\d.]{0,8}\s*)?[kmgtpbe](?:i?b|illions?|illion)?(?:-a\d[\d.]*b)?",
    re.IGNORECASE,
)
_SHA256 = re.compile(r"(?:sha256[:-])?([0-9a-f]{64})", re.IGNORECASE)
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HOST = re.compile(r"[^\s/\\@#?]{1,255}")
TIMES = frozenset(("modified_at", "created_at", "updated_at"))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
_MILLISECONDS = 100_000_000_000  # a time above this is no number of seconds since 1970


class BadRecordError(ValueError):
    """A record that cannot be taken, and why, in words that end a sentence; safe to show."""


class InexactError(ValueError):
    """A value that is no exact one for its column; the caller keeps it beside the columns."""


def column_of(name: str) -> str | None:
    """Return the column that a field of this name is for, or None for one that is no column."""
    return _column_of(name) if len(name) <= MAX_NAME else None


@lru_cache(maxsize=4096)
def _column_of(name: str) -> str | None:
    return _SPELLINGS.get(name) or _SPELLINGS.get(snake_case(name))


def whole_number(column: str, value: object) -> int | None:
    """Return an exact count or size; None where it is unknown (0, "", null).

    Raises `InexactError` for a label such as ``7B``, `BadRecordError` for what is no such number.
    """
    if value is None:
        return None
    number = _from_text(column, value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int | None):
        raise BadRecordError(f"its {column} is {_shown(value)}, not a whole number")
    if number is None or (number == 0 and column != "file_type"):  # file type 0 is F32
        return None
    if number < 0:
        raise BadRecordError(f"its {column} is negative ({_shown(value)})")
    if number > MAX_INTEGER:
        raise BadRecordError(f"its {column} is larger than a 64-bit number ({_shown(value)})")
    return number


def _from_text(column: str, value: str) -> int | None:
    text = value.strip()
    if text.lower() in _UNKNOWN:
        return None
    if _WHOLE_NUMBER.fullmatch(text):
        return int(re.sub(r"[,_']|\.0+$", "", text))
    size = _BYTES.fullmatch(text) if column == "file_size" else None
    if size:
        return int(size[1])
    if _ROUNDED.fullmatch(text):
        raise InexactError
    raise BadRecordError(f"its {column} is {_shown(value)}, not a whole number")


def layers(column: str, value: list[object]) -> tuple[int | None, bool]:
    """Return a per-layer array's single number and whether all layers agree on it.

    Where they differ it is the largest. Raises `BadRecordError` where one is no number.
    """
    if len(value) > _MAX_LAYERS:
        raise BadRecordError(f"its {column} has {len(value)} layers")
    numbers = {whole_number(column, item) for item in value}
    known = [number for number in numbers if number is not None]
    return max(known, default=None), len(numbers) <= 1


def text(column: str, value: object) -> str | None:
    """Return a text, None where it is empty. Raises `BadRecordError` for a list or an object."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if "\0" in value:
            raise BadRecordError(f"its {column} holds a NUL character")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecordError(f"its {column} is {_shown(value)}, not a text")
    return str(value)


def moment(value: object) -> str:
    """Return a time as ISO-8601 UTC; numbers are seconds or milliseconds since 1970.

    A time without a zone is taken as UTC. Raises `InexactError` for what is no time.
    """
    if isinstance(value, str) and _TIME.fullmatch(value):
        return value
    try:
        if isinstance(value, str) and not value.strip().isdecimal():
            when = datetime.fromisoformat(value.strip()[:64])
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            seconds = float(value)
            seconds = seconds / 1000 if abs(seconds) > _MILLISECONDS else seconds
            when = datetime.fromtimestamp(seconds, UTC)
        else:
            raise InexactError
        when = when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise InexactError from None
    return f"{when:%Y-%m-%dT%H:%M:%S}Z".rjust(20, "0")


def _matched(pattern: re.Pattern[str]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise InexactError
        return value

    return check


def _sha256(value: object) -> str:
    match = _SHA256.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InexactError
    return match[1].lower()


def _status(value: object) -> str:
    if value not in STATUSES:
        raise InexactError
    return str(value)


def _type(value: object) -> str:
    word = value.lower() if isinstance(value, str) else ""
    if not _TYPE.fullmatch(word):
        raise InexactError
    return _TYPES.get(word, word)


CHECKED: dict[str, Callable[[object], str]] = {
    "sha256": _sha256,
    "status": _status,
    "type": _type,
    "source": _matched(_KIND),
    "host": _matched(_HOST),
    **dict.fromkeys(TIMES, moment),
}
"""The text columns that take only some texts; each raises `InexactError` for any other value."""


is_canonical_time = _TIME.fullmatch


def as_canonical(column: str, value: str) -> bool:
    """Tell whether a value of a checked column is already as the catalogue writes it."""
    try:
        return CHECKED[column](value) == value
    except InexactError:
        return False


def read_tags(value: object) -> list[str]:
    """Return the tags in a list, a JSON array's text, or a comma-separated text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRecordError("its tags are no JSON array") from None
    elif isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise BadRecordError(f"its tags are {_shown(value)}, not a list of texts")
    return sorted({tag for tag in value if tag})


def is_true(value: object) -> bool:
    """Tell whether a mark such as ``favorite`` is set: true, 1, "1", "yes"."""
    return value is True or value == 1 or str(value).strip().lower() in {"1", "true", "yes", "y"}


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a huge number"
    return f"'{visible(value, 40)}'" if isinstance(value, str) else visible(str(value), 40)
