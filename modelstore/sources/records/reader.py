"""Records from outside, each a mapping of fields, as rows of the catalogue.

A million records pass through here, so a record of plain fields takes a short way: its keys and
types select a `_Shape` that is computed once. Every other record is read field by field. Both
ways give the same row.
"""

from __future__ import annotations

import json
import re
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from modelstore.catalogue.redact import is_secret_name, scrub
from modelstore.database.sqlite_text import MAX_INTEGER, to_sqlite_text
from modelstore.locator import file_locator, is_locator, model_id
from modelstore.model import ARRAY_COLUMNS, CAPABILITIES, INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.sources.base import Note
from modelstore.sources.paths import RealPaths
from modelstore.sources.records.fields import (
    CHECKED,
    TIMES,
    BadRecordError,
    RecordBuilder,
    as_canonical,
    column_of,
    is_canonical_time,
    name_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelstore.sources.base import Context

Row = tuple[object, ...]

MAX_PARAMETERS = 1_000_000  # characters of JSON kept of the fields that are no columns
_MAX_MEMO = 4096  # shapes and lists of tags that are remembered
_MAX_KEYS = 200  # of a record whose shape is
_MAX_TAGS = 1000  # characters of such a list

_PLAIN_TEXT = frozenset(
    ("id", "name", "locator", "path", "architecture", "size_label", "quantization", "license")
) | {"source_id", "revision"}
_ONLY_OWN = frozenset(("id", "host", "parameters"))
_REMADE = frozenset(("id", "locator", "path", "tags", "capabilities", "parameters"))
_PLAIN_EXTRA = frozenset((str, int, bool))
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class _Shape(NamedTuple):
    """The recipe that turns records with the same keys and types into rows."""

    pick: Callable[[tuple[object, ...]], Row]  # from the derived values and then the record's
    name: int  # positions among the values
    path: int | None
    locator: int | None
    id: int | None
    tags: int | None
    capabilities: int | None
    parameters: int | None
    integers: Callable[[tuple[object, ...]], tuple[int, ...]] | None
    times: tuple[int, ...]
    checked: tuple[tuple[int, str], ...]  # with the column; few different values
    words: Callable[[tuple[object, ...]], object] | None  # these values
    canonical: set[object]  # values that are known to be in the catalogue's form
    extras: tuple[tuple[int, str], ...]  # with the field's name


# The derived values of every record, in the order that `_Shape.pick` takes.
_DERIVED = (
    *("id", "locator", "source", "status", "tags", "capabilities", "host", "path", "parameters"),
)
_NOTHING = len(_DERIVED)  # then a None, for the columns that the record lacks


class RecordReader:
    """A reader that turns the records of one source into rows; `notes` lists dropped fields."""

    def __init__(self, kind: str, context: Context, base: str) -> None:
        """Read records of `kind`; relative paths in them start from the directory `base`."""
        self._kind = kind
        self._host = context.host
        self._prefix = file_locator(context.host, "/")[:-1]
        self._paths = RealPaths(base, context.home)
        self._shapes: dict[object, _Shape | None] = {}
        self._tags: dict[tuple[object, ...], str] = {(): "[]"}
        self._secrets: set[str] = set()
        self._trimmed = 0

    def row(self, record: Mapping[str, object]) -> Row:
        """Return the row of any record, field by field. Raises `BadRecordError`."""
        builder = RecordBuilder(self._secrets)
        for key, value in record.items():
            if value is not None:
                builder.take(key, value, record)
        return self._finished(builder)

    def quick_row(self, record: dict[str, object]) -> Row | None:
        """Return the row of a plain record, or None for one that needs `row`.

        The caller ensures that no text in it holds a lone surrogate or a NUL character.
        """
        values: tuple[Any, ...] = tuple(record.values())
        key = (tuple(record), tuple(map(type, values)))
        try:
            shape = self._shapes[key]
        except KeyError:
            shape = self._learn(key)
        if shape is None or "" in values:
            return None
        if shape.integers is not None:
            numbers = shape.integers(values)
            if min(numbers) <= 0 or max(numbers) > MAX_INTEGER:
                return None
        if not _is_canonical(shape, values):
            return None
        tags = "[]" if shape.tags is None else self._tag_text(values[shape.tags])
        if tags is None or not _is_able(shape, values):
            return None
        able = None if shape.capabilities is None else self._tag_text(values[shape.capabilities])
        path = None if shape.path is None else values[shape.path]
        if shape.locator is not None:
            locator = values[shape.locator]
        elif path is None:
            locator = f"name:{values[shape.name]}"
        else:
            path = self._paths.canonical(path)
            locator = self._prefix + path if path[0] == "/" else file_locator(self._host, path)
        identity = model_id(locator)
        if shape.locator is not None and not _is_own(shape, values, identity):
            return None
        extras = None
        if shape.parameters is not None:
            extras = self._extras_text(values[shape.parameters])
        elif shape.extras:
            extras = self._extras_text({name: values[at] for at, name in shape.extras})
        derived = (self._kind, "available", tags, able, self._host, path, extras, None)
        return shape.pick((identity, locator, *derived, *values))

    def notes(self) -> Iterator[Note]:
        """Yield notes on the fields that were left out."""
        if self._secrets:
            names = ", ".join(sorted(self._secrets)[:8])
            yield Note(f"fields that hold secrets were left out: {names}")
        if self._trimmed:
            yield Note(f"{self._trimmed} fields were too large to keep beside their model")

    def _learn(self, key: tuple[tuple[str, ...], tuple[type, ...]]) -> _Shape | None:
        if len(key[0]) > _MAX_KEYS or sum(map(len, key[0])) > _MAX_KEYS * 20:
            return None  # too large to remember
        if len(self._shapes) >= _MAX_MEMO:
            self._shapes.clear()
        shape = self._shapes[key] = _shape_of(*key)
        return shape

    def _tag_text(self, tags: object) -> str | None:
        memo = self._tags
        try:
            key: tuple[object, ...] = tuple(tags)  # type: ignore[arg-type]
            known = memo.get(key)
        except TypeError:  # a list or an object among them
            return None
        if known is None and all(type(tag) is str for tag in key):
            known = _encode(sorted({tag for tag in key if tag}))
            if len(memo) >= _MAX_MEMO:
                memo.clear()
            if len(known) < _MAX_TAGS:
                memo[key] = known
        return known

    def _extras_text(self, extras: dict[str, object]) -> str | None:
        try:
            kept = scrub(extras, self._secrets)
        except ValueError as error:
            raise BadRecordError(f"it is {error}") from None
        try:
            encoded = _encode(kept) if kept else None
        except ValueError:
            raise BadRecordError("it holds a number that is not finite") from None
        if encoded is not None and len(encoded) > MAX_PARAMETERS and isinstance(kept, dict):
            for name in sorted(kept, key=lambda name: -len(_encode(kept[name]))):
                del kept[name]
                self._trimmed += 1
                encoded = _encode(kept)
                if len(encoded) <= MAX_PARAMETERS:
                    break
        return encoded

    def _finished(self, builder: RecordBuilder) -> Row:
        columns = builder.columns
        columns.setdefault("host", self._host)
        self._identify(columns, builder)
        locator = str(columns["locator"])
        identity = model_id(locator)
        given = columns.pop("id", None)
        if given is not None and given != identity:
            columns.setdefault("source_id", given)
        columns["id"] = identity
        columns.setdefault("source", self._kind)
        remote = "path" not in columns and not locator.startswith(("file:", "name:"))
        columns.setdefault("status", "remote" if remote else "available")
        columns["tags"] = _encode(sorted(builder.tags))
        columns["parameters"] = self._extras_text(builder.extras) if builder.extras else None
        return tuple(
            to_sqlite_text(value) if isinstance(value, str) else value
            for value in map(columns.get, MODEL_COLUMNS)
        )

    def _identify(self, columns: dict[str, object], builder: RecordBuilder) -> None:
        """Set the locator and the name of the model."""
        path, host = columns.get("path"), str(columns["host"])
        if path is not None and "locator" not in columns and host == self._host:
            path = columns["path"] = self._paths.canonical(str(path))
        repository = builder.repository()
        name = columns.get("name") or name_of(path, repository, columns.get("id"))
        if name is None and "locator" in columns:
            name = re.split(r"[/:#]", str(columns["locator"]))[-1] or None
        if name is None:
            raise BadRecordError("it names no model: it has no name, path or id")
        columns["name"] = name
        if "locator" not in columns:
            local = None if path is None else file_locator(host, str(path))
            columns["locator"] = local or repository or f"name:{name}"
        if builder.extras.get("locator") == columns["locator"]:
            del builder.extras["locator"]  # it was too long to be checked, and is the same


def _shape_of(keys: tuple[str, ...], types: tuple[type, ...]) -> _Shape | None:
    """Compute the short way for records of these keys and types; None if they have none."""
    at: dict[str, int] = {}
    extras: list[tuple[int, str]] = []
    for position, (key, kind) in enumerate(zip(keys, types, strict=True)):
        if kind is type(None):
            continue
        column = column_of(key)
        if column is None and kind in _PLAIN_EXTRA and not is_secret_name(key):
            extras.append((position, key))
        elif column is None or column in at or not _is_plain(column, kind):
            return None
        else:
            at[column] = position
    if "name" not in at:
        return None
    if "locator" in at:  # a row of a catalogue, with all derived values
        if "status" not in at or ("parameters" in at and extras):
            return None
    elif not _ONLY_OWN.isdisjoint(at):
        return None
    words = CHECKED.keys() - TIMES
    places = {name: index for index, name in enumerate(_DERIVED)}
    own = {name: _NOTHING + 1 + index for name, index in at.items() if name not in _REMADE}
    return _Shape(
        pick=itemgetter(*(({**places, **own}).get(name, _NOTHING) for name in MODEL_COLUMNS)),
        name=at["name"],
        path=at.get("path"),
        locator=at.get("locator"),
        id=at.get("id"),
        tags=at.get("tags"),
        capabilities=at.get("capabilities"),
        parameters=at.get("parameters"),
        integers=_picker([index for name, index in at.items() if name in INTEGER_COLUMNS]),
        times=tuple(index for name, index in at.items() if name in TIMES),
        checked=tuple((index, name) for name, index in at.items() if name in words),
        words=_picker([index for name, index in at.items() if name in words]),
        canonical=set(),
        extras=tuple(extras),
    )


def _is_able(shape: _Shape, values: tuple[Any, ...]) -> bool:
    """Return True if a record's capabilities, if it has any, are ones that the catalogue knows."""
    able = None if shape.capabilities is None else values[shape.capabilities]
    return able is None or all(isinstance(one, str) and one in CAPABILITIES for one in able)


def _is_canonical(shape: _Shape, values: tuple[Any, ...]) -> bool:
    for position in shape.times:
        if is_canonical_time(values[position]) is None:
            return False
    if shape.words is None:
        return True
    words = shape.words(values)
    if words in shape.canonical:
        return True
    if not all(as_canonical(column, values[position]) for position, column in shape.checked):
        return False
    if len(shape.canonical) < _MAX_MEMO:
        shape.canonical.add(words)
    return True


def _picker(positions: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """Return a function that picks the values at `positions`, as a tuple of at least two."""
    return itemgetter(*positions, positions[0]) if positions else None


def _is_own(shape: _Shape, values: tuple[Any, ...], identity: str) -> bool:
    """Return True if a record's locator and id are in the catalogue's form."""
    locator = values[shape.locator or 0]
    is_same = shape.id is None or values[shape.id] == identity
    return is_same and "@" not in locator and is_locator(locator)


def _is_plain(column: str, kind: type) -> bool:
    if column in INTEGER_COLUMNS:
        return kind is int
    if column in ARRAY_COLUMNS:
        return kind is list
    if column == "parameters":
        return kind is dict
    return kind is str and (column in _PLAIN_TEXT or column in CHECKED)
