"""Which model a person means, and what belongs to it."""

from __future__ import annotations

import difflib
import heapq
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from modelstore.catalogue.schema import ownership
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_ERROR, primary_code
from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text, whole_or_none
from modelstore.errors import AmbiguousModelError, DamageError, ModelNotFoundError
from modelstore.model import ModelFile, Place
from modelstore.text import plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.model import FileRole

_PREFIX = re.compile(r"[0-9a-f]{4,16}")
_NAMED = 5  # candidates and near names that a message names
_SHORTEST = 7  # hex digits of an id in a message, as listings show it


def lookup_model(conn: sqlite3.Connection, text: str) -> str:
    """Return the id of the model that `text` means.

    It is an id, the beginning of one (at least 4 digits), a name, a path or a locator, exactly;
    what has a separator may be a path relative to the working directory. What none of these is
    may be what a place, such as a store or a server, calls the model.
    Raises `AmbiguousModelError` naming the candidates, `ModelNotFoundError` with near names.
    """
    path = os.path.abspath(text) if os.sep in text and "\0" not in text else text
    values = {"text": to_sqlite_text(text), "path": to_sqlite_text(path), "prefix": text.lower()}
    found = conn.execute("SELECT id, name FROM models WHERE id = :text", values).fetchmany(1)
    if not found:
        by_id = "id BETWEEN :prefix AND :prefix || 'g' OR " if _is_prefix(text) else ""
        found = conn.execute(
            f"SELECT id, name FROM models WHERE {by_id}name = :text OR path IN (:text, :path) "
            f"OR locator = :text ORDER BY id LIMIT {_NAMED + 1}",
            values,
        ).fetchall()
    if not found and ownership(conn) == "catalogue":
        with _our_tables():
            found = conn.execute(
                "SELECT id, name FROM models WHERE id IN "
                "(SELECT model_id FROM model_places WHERE name = :text) "
                f"ORDER BY id LIMIT {_NAMED + 1}",
                values,
            ).fetchall()
    if len(found) == 1:
        return str(found[0][0])
    shown = visible(text, 80)
    if found:
        names = "; ".join(
            f"{model[:_SHORTEST]} {visible(from_sqlite_text(name), 60)}"
            for model, name in found[:_NAMED]
        )
        more = "; …" if len(found) > _NAMED else ""
        raise AmbiguousModelError(
            f"'{shown}' fits several models: {names}{more}",
            hint="give an id, or more digits of one",
        )
    raise ModelNotFoundError(f"there is no model '{shown}'", hint=_near(conn, text))


@contextmanager
def _our_tables() -> Iterator[None]:
    """Raise `DamageError` where a catalogue lacks a table or a column of ours.

    The statements of the block are sound, so that SQLITE_ERROR can only come from the schema.
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


def _is_prefix(text: str) -> bool:
    return _PREFIX.fullmatch(text.lower()) is not None


def _near(conn: sqlite3.Connection, text: str) -> str:
    """Return a hint with the names most like `text`, in memory that does not grow with them."""
    matcher = difflib.SequenceMatcher(a="", b=text.lower()[:200])

    def scored() -> Iterator[tuple[float, str]]:
        for (name,) in conn.execute("SELECT DISTINCT name FROM models LIMIT 20000"):
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
        return (
            "did you mean "
            + ", ".join(f"'{visible(from_sqlite_text(name), 80)}'" for _, name in close)
            + "?"
        )
    total = conn.execute("SELECT count(*) FROM models").fetchone()[0]
    return f"the catalogue holds {plural(total, 'model')}; see: modelstore list"


@dataclass(frozen=True, slots=True)
class Companions:
    """The files of a model and the places that it was seen in."""

    files: tuple[ModelFile, ...]
    places: tuple[Place, ...]


def companions(conn: sqlite3.Connection, model: str) -> Companions:
    """Return what belongs to the model of id `model`; nothing in another program's database.

    Raises `DamageError` for a catalogue that lacks a table or a column of ours.
    """
    if ownership(conn) != "catalogue":
        return Companions((), ())
    with _our_tables():
        files = conn.execute(
            "SELECT path, role, size, mtime_ns, sha256, device, inode FROM model_files "
            "WHERE model_id = ? ORDER BY weights, role <> 'model', role, path",
            (model,),
        ).fetchall()
        places = conn.execute(
            "SELECT root, locator, source, name, state FROM model_places WHERE model_id = ? "
            "ORDER BY root, locator",
            (model,),
        ).fetchall()
    return Companions(
        tuple(
            ModelFile(
                from_sqlite_text(path),
                cast("FileRole", from_sqlite_text(role)),
                whole_or_none(size),
                whole_or_none(mtime_ns),
                sha256 and from_sqlite_text(sha256),
                device,
                inode,
            )
            for path, role, size, mtime_ns, sha256, device, inode in files
        ),
        tuple(
            Place(
                from_sqlite_text(root),
                from_sqlite_text(locator),
                from_sqlite_text(source),
                from_sqlite_text(name),
                state and from_sqlite_text(state),
            )
            for root, locator, source, name, state in places
        ),
    )
