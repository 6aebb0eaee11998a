"""The expectations of the caller: counts of rows, models, the size of the log."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from modelstore.errors import UsageError
from modelstore.text import human_bytes, visible
from modelstore.wal.files import open_or_refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_FILE = 256 << 20  # bytes
_MAX_COUNT = 2**63 - 1
_BLANK = b" \t\r\n"
DEFAULT_TABLE = "models"
KEYS = ("id", "locator", "name")
"""The fields by which an expected model is found, the surest first."""


class RowCount(NamedTuple):
    """The number of rows that a table must have; with `at_least`, it may have more."""

    table: str
    number: int
    at_least: bool = False


class Expected(NamedTuple):
    """All expectations. Each of `models` has fields with values, one of `KEYS` among them."""

    counts: tuple[RowCount, ...] = ()
    models: tuple[Mapping[str, object], ...] = ()
    max_wal_size: int | None = None  # bytes
    host: str | None = None  # the machine whose models count


def parse_count(text: str, option: str, *, at_least: bool) -> RowCount:
    """Return the count of ``18`` or ``TABLE=18``. Raises `UsageError`."""
    table, separator, number = text.rpartition("=")
    digits = number.strip()
    if not (digits.isascii() and digits.isdigit()) or (separator and not table):
        raise UsageError(f"{option} {visible(text, 80)} is no count", hint="write 18, or TABLE=18")
    if len(digits) > 18 or int(digits) > _MAX_COUNT:
        raise UsageError(f"{option} {visible(text, 80)} is more than any table holds", hint=None)
    return RowCount(table or DEFAULT_TABLE, int(digits), at_least)


def read_models(path: str) -> tuple[Mapping[str, object], ...]:
    """Return the models of a file: a name or JSON object on each line, or a JSON array.

    ``list --json`` and ``list -f jsonl`` write such files. Raises `UsageError`.
    """
    name = visible(path, 200)
    raw = _read(path, name)
    start = raw[:4096].lstrip(b"\xef\xbb\xbf" + _BLANK)[:1]
    if start not in (b"{", b"["):
        return tuple({"name": line} for line in _text(raw, name).splitlines() if line.strip())
    try:
        if start == b"[":
            found = json.loads(raw)
        else:
            found = [json.loads(line) for line in raw.splitlines() if line.strip(_BLANK)]
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} is no JSON: {visible(str(error), 200)}",
            hint="one JSON object a line, as `modelstore list --format jsonl` writes it",
        ) from error
    return tuple(_model(item, place, name) for place, item in enumerate(found, 1))


def _read(path: str, name: str) -> bytes:
    try:
        descriptor = open_or_refuse(os.path.realpath(path))
    except FileNotFoundError as error:
        raise UsageError(f"--expect: {name} does not exist", hint="check the path") from error
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read(_MAX_FILE + 1)
    if len(raw) > _MAX_FILE:
        raise UsageError(f"{name} is larger than {human_bytes(_MAX_FILE)}", hint="split it")
    return raw


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is no UTF-8 text", hint="write names, one a line") from error


def _model(item: object, place: int, name: str) -> Mapping[str, object]:
    if isinstance(item, dict) and any(isinstance(item.get(key), str) for key in KEYS):
        return item
    raise UsageError(
        f"{name}: item {place:,} has no {', '.join(KEYS[:-1])} or {KEYS[-1]}",
        hint="each object needs one of them to be found by",
    )


def key_of(model: Mapping[str, object]) -> tuple[str, str]:
    """Return the field by which a model is found, and its value."""
    return next((key, str(model[key])) for key in KEYS if isinstance(model.get(key), str))
