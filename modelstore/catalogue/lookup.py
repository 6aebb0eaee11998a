"""Finding the model that a person names, with its files and places."""

from __future__ import annotations

import difflib
import heapq
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from modelstore.catalogue.schema import ownership, single_value
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_ERROR, primary_code
from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text, whole_or_none
from modelstore.errors import AmbiguousModelError, DamageError, ModelNotFoundError
from modelstore.found import ModelFile, Place
from modelstore.text import plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.handle import Database

_PREFIX = re.compile(r"[0-9a-f]{4,16}")
_TOO_SHORT = re.compile(r"[0-9a-f]{1,3}")
_NAMED = 5  # candidates and near names that a message names
_SHORTEST = 7  # hex digits of an id in a message, as listings show it

_BY_ID = "id = :text"
_BY_NAME = "name = :text OR path IN (:text, :path) OR locator = :text"
_BY_PREFIX = f"id BETWEEN :prefix AND :prefix || 'g' OR {_BY_NAME}"
_BY_PLACE = "id IN (SELECT model_id FROM model_places WHERE name = :text)"


def lookup_model(db: Database, text: str) -> str:
    """Return the id of the model that `text` names.

    `text` is an id, the first 4 or more digits of one, a name, a path or a locator; with a
    separator it may be a path relative to the working directory. If no model has it, it may be
    the name that a place, such as a store or a server, has for the model.
    Raises `AmbiguousModelError` naming the candidates, `ModelNotFoundError` with near names.
    """
    path = os.path.abspath(text) if os.sep in text and "\0" not in text else text
    values = {"text": to_sqlite_text(text), "path": to_sqlite_text(path), "prefix": text.lower()}
    is_prefix = _PREFIX.fullmatch(text.lower()) is not None
    found = _models(db, _BY_ID, values)
    found = found or _models(db, _BY_PREFIX if is_prefix else _BY_NAME, values)
    if not found and ownership(db) == "catalogue":
        with _our_tables():
            found = _models(db, _BY_PLACE, values)
    if len(found) == 1:
        return found[0].id
    shown = visible(text, 80)
    if found:
        names = "; ".join(
            f"{model.id[:_SHORTEST]} {visible(model.name, 60)} {visible(model.where, 120)}".rstrip()
            for model in found[:_NAMED]
        )
        more = "; …" if len(found) > _NAMED else ""
        raise AmbiguousModelError(
            f"'{shown}' fits several models: {names}{more}",
            hint="give an id, or more digits of one",
        )
    raise ModelNotFoundError(f"there is no model '{shown}'", hint=_near(db, text))


class _Candidate(NamedTuple):
    """A model that a text may name, and its path, else its locator."""

    id: str
    name: str
    where: str


def _models(db: Database, condition: str, values: dict[str, str]) -> list[_Candidate]:
    """Return the first models that meet a condition."""
    sql = (
        "SELECT id, name, coalesce(path, locator, '') AS place FROM models "
        f"WHERE {condition} ORDER BY id LIMIT {_NAMED + 1}"
    )
    return [
        _Candidate(row["id"], from_sqlite_text(row["name"]), from_sqlite_text(row["place"]))
        for row in db.query(sql, values)
    ]


@contextmanager
def _our_tables() -> Iterator[None]:
    """Raise `DamageError` for a catalogue that lacks a table or a column of ours.

    The statements of the block are sound, so SQLITE_ERROR can only come from the schema.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if primary_code(error) != SQLITE_ERROR:
            raise
        raise DamageError(
            f"the catalogue's tables are not as modelstore makes them: {visible(str(error), 200)}",
            hint="another program changed them: restore the database from a backup, or import again"
            " into a new one",
        ) from error


def _near(db: Database, text: str) -> str:
    """Return a hint with the names most like `text`, in memory that does not grow with them."""
    matcher = difflib.SequenceMatcher(a="", b=text.lower()[:200])

    def scored() -> Iterator[tuple[float, str]]:
        for row in db.query("SELECT DISTINCT name FROM models LIMIT 20000"):
            name = row["name"]
            folded = name.lower()[:200]
            if text and text.lower() in folded:
                yield 1.0, name
                continue
            matcher.set_seq1(folded)
            if matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6:
                ratio = matcher.ratio()
                if ratio > 0.6:
                    yield ratio, name

    close = heapq.nlargest(3, scored())
    if close:
        names = (f"'{visible(from_sqlite_text(name), 80)}'" for _, name in close)
        return f"did you mean {' or '.join(names)}?"
    if _TOO_SHORT.fullmatch(text.lower()):
        return "an id needs 4 digits or more; see modelstore list"
    total = single_value(db, "SELECT count(*) FROM models")
    return f"the catalogue holds {plural(total, 'model')}; see modelstore list"


@dataclass(frozen=True, slots=True)
class Companions:
    """The files of a model and the places that it was seen in."""

    files: tuple[ModelFile, ...]
    places: tuple[Place, ...]


_FILES = """SELECT path, role, size, mtime_ns, sha256, device, inode FROM model_files
WHERE model_id = :model ORDER BY weights, role <> 'model', role, path"""

_PLACES = """SELECT root, locator, source, name, state FROM model_places
WHERE model_id = :model ORDER BY root, locator"""


def companions(db: Database, model: str) -> Companions:
    """Return the files and places of the model with id `model`; none in another program's database.

    Raises `DamageError` for a catalogue that lacks a table or a column of ours.
    """
    if ownership(db) != "catalogue":
        return Companions((), ())
    with _our_tables():
        files = list(db.query(_FILES, {"model": model}))
        places = list(db.query(_PLACES, {"model": model}))
    return Companions(
        tuple(ModelFile(**_typed(row)) for row in files),
        tuple(Place(**_typed(row)) for row in places),
    )


_INTEGERS = ("size", "mtime_ns", "device", "inode")
_OPTIONAL = ("sha256", "state")


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its texts as they were given. Raises for a value of another type."""
    typed: dict[str, Any] = {}
    for column, cell in row.items():
        if column in _INTEGERS:
            typed[column] = whole_or_none(cell)
        else:
            is_null = cell is None and column in _OPTIONAL
            typed[column] = None if is_null else from_sqlite_text(cell)
    return typed
