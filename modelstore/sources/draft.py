"""One model record from outside on its way to a row, field by field."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from modelstore.sources.command_line import is_repository
from modelstore.sources.fields import (
    CHECKED,
    BadRecordError,
    InexactError,
    column_of,
    is_true,
    layers,
    read_tags,
    text,
    whole_number,
)
from modelstore.store.models import INTEGER_COLUMNS
from modelstore.store.redact import is_secret_name, note_dropped, without_user

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_LOCATOR = 8192  # characters
_NEEDED = frozenset(("name", "path", "locator", "id"))
_LOCATOR = re.compile(r"[a-z][a-z0-9+.-]{1,31}:[^\x00]+")  # control characters: of file names
_FILE_NAME = re.compile(r"(?:^[/~]|^[A-Za-z]:[/\\]|\.(?:gguf|safetensors)$)")


def is_locator(text: str) -> bool:
    """Tell whether a text may be what a model is: a scheme, a colon, and no NUL."""
    return len(text) <= _MAX_LOCATOR and _LOCATOR.fullmatch(text) is not None


class Draft:
    """What has been made of a record so far: its columns, its tags, and the other fields."""

    def __init__(self, secrets: set[str]) -> None:
        self.columns: dict[str, object] = {}
        self.extras: dict[str, object] = {}
        self.tags: set[str] = set()
        self._secrets = secrets
        self._reference: dict[str, str] = {}  # what Hugging Face fields say

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
            # Under another name it may be another thing: `params` is often a set of options.
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
        return f"hf:{repository}{'@' + revision if revision else ''}{':' + file if file else ''}"

    def _file(self, column: str, key: str, value: object) -> None:
        if column in INTEGER_COLUMNS:
            self._file_number(column, key, value)
        elif column in CHECKED:
            self._put(column, CHECKED[column](value))
        elif column == "tags":
            self.tags.update(read_tags(value))
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
        """Take the catalogue's own JSON object; elsewhere ``parameters`` is often a count."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise BadRecordError("its parameters are no JSON object") from None
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
        """``model`` is a path to some programs and a name to others."""
        column = "path" if _FILE_NAME.search(value) else "name"
        if value and column not in self.columns:
            self.columns[column] = value

    def _file_locator(self, value: object) -> None:
        locator = without_user(value) if isinstance(value, str) else ""
        if not is_locator(locator):
            raise InexactError
        self.columns["locator"] = locator


def name_of(path: object, repository: str | None, identity: object) -> object:
    """Make a name for a record that has none: the file's, the repository's, or its id."""
    if path is not None:
        name = re.split(r"[/\\]", str(path))[-1]
        return os.path.splitext(name)[0] if name.endswith((".gguf", ".safetensors")) else name
    return repository.removeprefix("hf:").split("@")[0] if repository else identity
