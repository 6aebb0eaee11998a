"""The SQL that makes another program's values ours, whatever types its columns hold.

SQLite's columns hold any type. Each expression takes what is exact and gives NULL for the rest:
a number that is a label, a blob for a name, a time in no unit.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from modelstore.store.models import file_locator, model_id
from modelstore.store.redact import scrub
from modelstore.store.storable import original, storable

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.store.sqlite import sqlite3

_TEXT_LIMIT = 1_000_000  # characters of one cell that are taken
_MILLISECONDS = 100_000_000_000  # a time above this is no number of seconds since 1970
_LAST = 253_402_300_799  # the end of the year 9999, in seconds
_UTC = "'%Y-%m-%dT%H:%M:%SZ'"


def literal(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + storable(value).replace("\0", "").replace("'", "''") + "'"


def text(term: str) -> str:
    """Return the SQL of a text: numbers as they read, "" and blobs as NULL."""
    # As a blob in the database's encoding, for a text need not be what its encoding says, and
    # SQLite hands it on unchecked.
    return (
        f"modelstore_text(CASE typeof({term}) WHEN 'text' THEN CAST({term} AS BLOB) "
        f"WHEN 'integer' THEN CAST(CAST({term} AS TEXT) AS BLOB) END)"
    )


def number(term: str) -> str:
    """Return the SQL of a positive whole number; 0 is NULL, and so is what is no such number."""
    return (
        f"CASE typeof({term}) WHEN 'integer' THEN CASE WHEN {term} > 0 THEN {term} END "
        f"WHEN 'real' THEN CASE WHEN {term} BETWEEN 1 AND 9e15 "
        f"AND {term} = CAST({term} AS INTEGER) THEN CAST({term} AS INTEGER) END "
        f"WHEN 'text' THEN CASE WHEN {term} NOT GLOB '*[^0-9]*' AND length({term}) < 19 "
        f"THEN nullif(CAST({term} AS INTEGER), 0) END END"
    )


def time(term: str) -> str:
    """Return the SQL of a time as ISO-8601 UTC: from milliseconds, seconds, or such a text."""
    instant = (
        f"CASE WHEN {term} > {_MILLISECONDS} THEN {term} / 1000 ELSE CAST({term} AS INTEGER) END"
    )
    return (
        f"CASE WHEN typeof({term}) IN ('integer', 'real') THEN CASE "
        f"WHEN {term} > 0 AND {instant} <= {_LAST} THEN strftime({_UTC}, {instant}, 'unixepoch') "
        f"END WHEN typeof({term}) = 'text' AND length({term}) < 40 "
        f"AND {term} GLOB '[0-9][0-9][0-9][0-9]-*' THEN strftime({_UTC}, {term}) END"
    )


def tags(listed: str, favorite: str) -> str:
    """Return the SQL of the tags, from a JSON array of texts and a mark of 0 or 1."""
    array = (
        f"CASE WHEN typeof({listed}) = 'text' AND json_valid({listed}) "
        f"AND json_type({listed}) = 'array' THEN {listed} ELSE '[]' END"
    )
    if listed == "NULL":
        return f"CASE WHEN {favorite} IN (1, '1', 'true') THEN '[\"favorite\"]' ELSE '[]' END"
    return (
        "(SELECT json_group_array(value) FROM ("
        f"SELECT value FROM json_each({array}) WHERE type = 'text' AND value <> '' "
        f"UNION SELECT 'favorite' WHERE {favorite} IN (1, '1', 'true') ORDER BY value))"
    )


def add_functions(conn: sqlite3.Connection, host: str) -> None:
    """Give `conn` the functions that the view of another program's models calls."""
    encoding = str(conn.execute("PRAGMA encoding").fetchone()[0])
    functions: dict[str, tuple[int, Callable[..., str | None]]] = {
        "modelstore_text": (1, lambda raw: _text(raw, encoding)),
        "modelstore_id": (1, lambda locator: model_id(original(locator))),
        "modelstore_locator": (4, lambda *parts: storable(_locator(host, *parts))),
        "modelstore_path": (1, _path),
        "modelstore_stem": (1, _stem),
        "modelstore_status": (1, _status),
        "modelstore_parameters": (1, _parameters),
    }
    for name, (arguments, function) in functions.items():
        conn.create_function(name, arguments, function)


def _text(raw: bytes | None, encoding: str) -> str | None:
    if not raw:
        return None
    if encoding == "UTF-8":
        decoded = raw.decode("utf-8", "surrogateescape")
    else:  # UTF-16le or UTF-16be; half a character at the end is none
        decoded = raw[: len(raw) // 2 * 2].decode(encoding, "surrogatepass")
    return storable(decoded[:_TEXT_LIMIT]) or None


def _locator(
    host: str, path: str | None, repository: str | None, file: str | None, name: str
) -> str:
    if path is not None:
        return file_locator(host, original(_path(path) or path))
    if repository is not None:
        return f"hf:{repository}" + (f":{file}" if file else "")
    return f"name:{name}"


def _path(path: str | None) -> str | None:
    """Return the real path, or a relative path as it is: nobody knows relative to what."""
    if path is None or not os.path.isabs(path) or "\0" in path:
        return path
    return storable(os.path.realpath(original(path)))


def _stem(path: str | None) -> str | None:
    if path is None:
        return None
    return os.path.basename(path).removesuffix(".gguf") or None


def _status(path: str | None) -> str:
    """Return whether the file that another program recorded is there."""
    if path is None:
        return "remote"
    try:
        return "available" if os.path.exists(original(path)) else "missing"
    except ValueError:  # a NUL character
        return "missing"


def _parameters(text: str | None) -> str | None:
    """Return a JSON object without its secrets; None for anything else and for an empty one."""
    try:
        value = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    try:
        kept = scrub(value, set())
    except ValueError:  # nested too deeply
        return None
    return storable(json.dumps(kept, ensure_ascii=False, separators=(",", ":"))) if kept else None
