"""One field of a record from outside as a value of a column, and the record as a whole."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from modelstore.catalogue.redact import (
    MAX_NAME,
    is_secret_name,
    note_dropped,
    snake_case,
    without_user,
)
from modelstore.database.sqlite_text import MAX_INTEGER
from modelstore.locator import hub_locator, is_locator, is_repository
from modelstore.model import CAPABILITIES, INTEGER_COLUMNS, MODEL_COLUMNS, STATUSES
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    # Fields that are not columns but identify the model.
    "hf_repo": "repo_id repo hf_repo_id huggingface_repo huggingface_id",
    "hf_revision": "commit hf_commit",
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
_MILLISECONDS = 100_000_000_000  # a larger number counts milliseconds since 1970


class BadRecordError(ValueError):
    """A record that cannot be imported. The text is the reason, safe to show."""


class InexactError(ValueError):
    """A value that is not exact enough for its column. The caller keeps it in ``parameters``."""


def column_of(name: str) -> str | None:
    """Return the column for a field of this name; None if there is none."""
    return _column_of(name) if len(name) <= MAX_NAME else None


@lru_cache(maxsize=4096)
def _column_of(name: str) -> str | None:
    return _SPELLINGS.get(name) or _SPELLINGS.get(snake_case(name))


def whole_number(column: str, value: object) -> int | None:
    """Return an exact count or size; None for an unknown one (0, "", null).

    Raises `InexactError` for a label such as ``7B``, `BadRecordError` for any other value.
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
    """Return the largest number of a per-layer array, and True if all layers agree.

    Raises `BadRecordError` if an element is not a number.
    """
    if len(value) > _MAX_LAYERS:
        raise BadRecordError(f"its {column} has {len(value)} layers")
    numbers = {whole_number(column, item) for item in value}
    known = [number for number in numbers if number is not None]
    return max(known, default=None), len(numbers) <= 1


def text(column: str, value: object) -> str | None:
    """Return a text; None if it is empty. Raises `BadRecordError` for a list or an object."""
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

    A time without a zone is UTC. Raises `InexactError` for any other value.
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
"""The text columns with checked values; each check raises `InexactError` for a wrong one."""


is_canonical_time = _TIME.fullmatch


def as_canonical(column: str, value: str) -> bool:
    """Return True if a value of a checked column is already in the catalogue's form."""
    try:
        return CHECKED[column](value) == value
    except InexactError:
        return False


def read_array(column: str, value: object) -> list[str]:
    """Return the texts in a list, a JSON array's text, or a comma-separated text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRecordError(f"its {column} are not a JSON array") from None
    elif isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise BadRecordError(f"its {column} are {_shown(value)}, not a list of texts")
    return sorted({tag for tag in value if tag})


def is_true(value: object) -> bool:
    """Return True for a set mark such as ``favorite``: true, 1, "1", "yes"."""
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


_NEEDED = frozenset(("name", "path", "locator", "id"))
_FILE_NAME = re.compile(r"(?:^[/~]|^[A-Za-z]:[/\\]|\.(?:gguf|safetensors)$)")


class RecordBuilder:
    """A record being built: its columns, its tags, and its other fields."""

    def __init__(self, secrets: set[str]) -> None:
        self.columns: dict[str, object] = {}
        self.extras: dict[str, object] = {}
        self.tags: set[str] = set()
        self._secrets = secrets
        self._reference: dict[str, str] = {}  # Hugging Face fields

    def take(self, key: str, value: object, record: Mapping[str, object]) -> None:
        """File one field under its column, or among the extras."""
        if is_secret_name(key) and not isinstance(value, int | float):
            note_dropped(key, self._secrets)
            return
        column = column_of(key)
        taken = column in self.columns or (key != column and record.get(column or "") is not None)
        if column is None or taken:
            if column is None or value not in (record.get(column), self.columns.get(column)):
                self.extras[key] = value
            return
        try:
            self._file(column, key, value)
        except InexactError:
            if column == "parameter_count" and record.get("size_label") is None:
                self.columns.setdefault("size_label", str(value).strip())
            elif value != "":
                self.extras[key] = value
        except BadRecordError:
            # An alias may mean something else: `params` is often a set of options.
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if key == column or column in _NEEDED or is_number:
                raise
            self.extras[key] = value

    def repository(self) -> str | None:
        """Return the locator of the Hugging Face repository that the record names, if any."""
        repository = self._reference.get("hf_repo")
        if repository is None:
            self.extras.update(self._reference)
            return None
        revision, file = self._reference.get("hf_revision"), self._reference.get("hf_file")
        own = self.columns.get("revision")
        if revision is None and isinstance(own, str) and own.isprintable() and len(own) <= 512:
            revision = own
        return hub_locator(repository, revision=revision, file=file)

    def _file(self, column: str, key: str, value: object) -> None:
        if column in INTEGER_COLUMNS:
            self._file_number(column, key, value)
        elif column in CHECKED:
            self._put(column, CHECKED[column](value))
        elif column == "tags":
            self.tags.update(read_array(column, value))
        elif column == "capabilities":
            known = {*read_array(column, value)} & {*CAPABILITIES}
            self._put(column, json.dumps(sorted(known), separators=(",", ":")))
        elif column == "favorite":
            self.tags.update(["favorite"] if is_true(value) else [])
        elif column == "parameters":
            self._file_parameters(value)
        elif isinstance(value, list | dict) and column not in _NEEDED:
            self.extras[key] = value
        elif column.startswith("hf_"):
            self._file_reference(column, str(value))
        elif column == "model":
            self._file_model(str(text(column, value) or ""))
        elif column == "locator":
            self._file_locator(value)
        else:
            self._put(column, text(column, value))

    def _put(self, column: str, value: object) -> None:
        if value is not None:
            self.columns[column] = value

    def _file_number(self, column: str, key: str, value: object) -> None:
        if isinstance(value, list):
            number, agree = layers(column, value)
            self._put(column, number)
            if not agree:
                self.extras[key] = value
        else:
            self._put(column, whole_number(column, value))

    def _file_parameters(self, value: object) -> None:
        """Take the catalogue's own JSON object, or a parameter count as other programs write it."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise BadRecordError("its parameters are not a JSON object") from None
        if isinstance(value, dict):
            self.extras.update(value)
        elif isinstance(value, list):
            self.extras["parameters"] = value
        elif "parameter_count" not in self.columns:
            self._put("parameter_count", whole_number("parameter_count", value))

    def _file_reference(self, column: str, value: str) -> None:
        if column == "hf_repo" and not is_repository(value):
            raise InexactError
        if value and value.isprintable() and len(value) <= 512:
            self._reference[column] = value

    def _file_model(self, value: str) -> None:
        """File the field ``model``: a path in some programs, a name in others."""
        column = "path" if _FILE_NAME.search(value) else "name"
        if value and column not in self.columns:
            self.columns[column] = value

    def _file_locator(self, value: object) -> None:
        locator = without_user(value) if isinstance(value, str) else ""
        if not is_locator(locator):
            raise InexactError
        self.columns["locator"] = locator


def name_of(path: object, repository: str | None, identity: object) -> object:
    """Return a name for a record without one: its file's, its repository's, or its id."""
    if path is not None:
        name = re.split(r"[/\\]", str(path))[-1]
        return os.path.splitext(name)[0] if name.endswith((".gguf", ".safetensors")) else name
    return repository.removeprefix("hf:").split("@")[0] if repository else identity
