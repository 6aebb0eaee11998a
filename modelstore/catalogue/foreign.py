"""Read another program's table ``models`` as rows of ours, without altering its database.

`expose` puts a temporary view named ``models`` in front of the other program's table, so that
`modelstore.catalogue.query` works on it unchanged. It knows both generations of the llama proxy
dashboard, and any table whose columns have names that we recognise. NULL, "" and 0 are NULL; times
in milliseconds and in seconds differ in size. Columns that hold secrets are never read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.catalogue.redact import scrub
from modelstore.catalogue.schema import lay_view, single_value
from modelstore.database.handle import quote_identifier
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text
from modelstore.locator import file_locator, model_id
from modelstore.model import INTEGER_COLUMNS, MODEL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelstore.database.handle import Database

_TEXT_LIMIT = 1_000_000  # characters; the rest of a cell is cut off
_MILLISECONDS = 100_000_000_000  # a number above this is a time in milliseconds, not in seconds
_LAST = 253_402_300_799  # the end of the year 9999, in seconds
_UTC = "'%Y-%m-%dT%H:%M:%SZ'"


def _text_sql(term: str) -> str:
    """Return the SQL of a text: numbers as they read, "" and blobs as NULL."""
    # The bytes of a text may not be valid in the database's encoding, and SQLite does not check:
    # take them as a blob.
    return (
        f"modelstore_text(CASE typeof({term}) WHEN 'text' THEN CAST({term} AS BLOB) "
        f"WHEN 'integer' THEN CAST(CAST({term} AS TEXT) AS BLOB) END)"
    )


def _number_sql(term: str) -> str:
    """Return the SQL of a positive whole number; anything else, 0 included, is NULL."""
    return (
        f"CASE typeof({term}) WHEN 'integer' THEN CASE WHEN {term} > 0 THEN {term} END "
        f"WHEN 'real' THEN CASE WHEN {term} BETWEEN 1 AND 9e15 "
        f"AND {term} = CAST({term} AS INTEGER) THEN CAST({term} AS INTEGER) END "
        f"WHEN 'text' THEN CASE WHEN {term} NOT GLOB '*[^0-9]*' AND length({term}) < 19 "
        f"THEN nullif(CAST({term} AS INTEGER), 0) END END"
    )


def _time_sql(term: str) -> str:
    """Return the SQL of a time as ISO-8601 UTC, from milliseconds, seconds, or an ISO-8601 text."""
    instant = (
        f"CASE WHEN {term} > {_MILLISECONDS} THEN {term} / 1000 ELSE CAST({term} AS INTEGER) END"
    )
    return (
        f"CASE WHEN typeof({term}) IN ('integer', 'real') THEN CASE "
        f"WHEN {term} > 0 AND {instant} <= {_LAST} THEN strftime({_UTC}, {instant}, 'unixepoch') "
        f"END WHEN typeof({term}) = 'text' AND length({term}) < 40 "
        f"AND {term} GLOB '[0-9][0-9][0-9][0-9]-*' THEN strftime({_UTC}, {term}) END"
    )


def _tags_sql(listed: str, favorite: str) -> str:
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


def _add_functions(db: Database, host: str) -> None:
    """Register the SQL functions that the view of another program's models calls."""
    encoding = str(single_value(db, "PRAGMA encoding"))
    functions: dict[str, Callable[..., str | None]] = {
        "modelstore_text": lambda raw: _text(raw, encoding),
        "modelstore_id": lambda locator: model_id(from_sqlite_text(locator)),
        "modelstore_locator": lambda path, repository, file, name: to_sqlite_text(
            _locator(host, path, repository, file, name)
        ),
        "modelstore_path": _path,
        "modelstore_stem": _stem,
        "modelstore_status": _status,
        "modelstore_parameters": _parameters,
    }
    for name, function in functions.items():
        db.register_function(function, name=name, replace=True)


def _text(raw: bytes | None, encoding: str) -> str | None:
    if not raw:
        return None
    if encoding == "UTF-8":
        decoded = raw.decode("utf-8", "surrogateescape")
    else:  # UTF-16le or UTF-16be; half a character at the end is none
        decoded = raw[: len(raw) // 2 * 2].decode(encoding, "surrogatepass")
    return to_sqlite_text(decoded[:_TEXT_LIMIT]) or None


def _locator(
    host: str, path: str | None, repository: str | None, file: str | None, name: str
) -> str:
    if path is not None:
        return file_locator(host, from_sqlite_text(_path(path) or path))
    if repository is not None:
        return f"hf:{repository}" + (f":{file}" if file else "")
    return f"name:{name}"


def _path(path: str | None) -> str | None:
    """Return the real path; a relative path stays as it is, because its base is unknown."""
    if path is None or not os.path.isabs(path) or "\0" in path:
        return path
    return to_sqlite_text(os.path.realpath(from_sqlite_text(path)))


def _stem(path: str | None) -> str | None:
    if path is None:
        return None
    return os.path.basename(path).removesuffix(".gguf") or None


def _status(path: str | None) -> str:
    """Return the status of a model by its path."""
    if path is None:
        return "remote"
    try:
        return "available" if os.path.exists(from_sqlite_text(path)) else "missing"
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
    return (
        to_sqlite_text(json.dumps(kept, ensure_ascii=False, separators=(",", ":")))
        if kept
        else None
    )


# The names that our columns may have in another program's table; the first wins. A column that is
# not here has its own name there. What only a catalogue of ours can know is never taken.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "model_name", "display_name", "title"),
    "path": ("path", "model_path", "file_path", "local_path", "filename"),
    "architecture": ("architecture", "arch", "family"),
    "parameter_count": ("parameter_count", "n_params"),
    "size_label": ("size_label", "params", "parameter_size", "parameter_count"),
    "quantization": ("quantization", "quantization_type", "quantization_level", "quant"),
    "context_length": ("context_length", "context_window", "ctx_size", "n_ctx_train"),
    "embedding_length": ("embedding_length", "embedding_size", "n_embd"),
    "block_count": ("block_count", "n_layer"),
    "head_count": ("head_count", "n_head"),
    "head_count_kv": ("head_count_kv", "n_head_kv"),
    "feed_forward_length": ("feed_forward_length", "ffn_dim"),
    "vocab_size": ("vocab_size", "n_vocab"),
    "file_size": ("file_size", "file_size_bytes", "size_bytes", "size"),
    "source_id": ("id", "model_id"),
    "modified_at": ("modified_at", "modified"),
    "created_at": ("created_at", "created"),
    "updated_at": ("updated_at", "updated"),
}
_OURS_ALONE = frozenset(
    {"id", "source", "locator", "type", "status", "tags", "capabilities", "revision", "host"}
)
_FITTED = ("quantization_type", "parameter_count", "architecture", "context_window")
"""Columns that the old generation has in its table ``model_fit_params``."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A description of another program's table of models."""

    generation: str  # "dashboard, old", "dashboard, new" or "models table"
    columns: tuple[str, ...]  # ours that it has values for


def expose(db: Database, *, host: str, source: str = "dashboard") -> Foreign | None:
    """Show another program's ``models`` as rows of ours; return None if it has no such table."""
    table = _columns_of(db, "models")
    if not table:
        return None
    fitted = _columns_of(db, "model_fit_params")
    terms = {name: f"m.{quote_identifier(column)}" for name, column in table.items()}
    join = ""
    if "model_id" in fitted and "id" in table and _has_rowid(db, "model_fit_params"):
        # At most one row each, whatever the other program let in.
        key = f"f.{quote_identifier(fitted['model_id'])}"
        join = (
            "LEFT JOIN main.model_fit_params AS f ON f.rowid = (SELECT max(rowid) "
            f"FROM main.model_fit_params AS f WHERE {key} = {terms['id']})"
        )
        for name in _FITTED:
            if name in fitted:
                terms[name] = f"f.{quote_identifier(fitted[name])}"
    found = {
        column: terms[name]
        for column in MODEL_COLUMNS
        if column not in _OURS_ALONE
        for name in reversed(_NAMES.get(column, (column,)))
        if name in terms
    }
    if "name" not in found and "path" not in found:
        return None
    _add_functions(db, host)
    generation = _generation(table)
    values = _values(found, terms, generation)
    values |= {"source": db.quote(source), "host": db.quote(to_sqlite_text(host))}
    columns = ", ".join(f"{values.get(column, 'NULL')} AS {column}" for column in MODEL_COLUMNS)
    lay_view(db, "models", f"SELECT {columns} FROM main.models AS m {join}")
    return Foreign(generation, tuple(found))


def _generation(table: Mapping[str, str]) -> str:
    if "hf_repo" in table or "file_size_bytes" in table:
        return "dashboard, old"
    if "favorite" in table or "block_count" in table:
        return "dashboard, new"
    return "models table"


def _columns_of(db: Database, table: str) -> dict[str, str]:
    """Return the columns of a table or view of the other program, by their lower-case names."""
    # Not db.table(): it reads the names of all views, and another program's may be no UTF-8.
    columns = db.query(f"PRAGMA main.table_info({table})")
    return {str(column["name"]).lower(): str(column["name"]) for column in columns}


def _has_rowid(db: Database, table: str) -> bool:
    try:
        list(db.query(f"SELECT rowid FROM main.{table} LIMIT 0"))
    except sqlite3.OperationalError:
        return False
    return True


def _values(found: Mapping[str, str], terms: Mapping[str, str], generation: str) -> dict[str, str]:
    """Return the SQL of our columns; `found` is the SQL of theirs, by our names."""
    values = {
        column: _time_sql(term)
        if column.endswith("_at")
        else _number_sql(term)
        if column in INTEGER_COLUMNS
        else _text_sql(term)
        for column, term in found.items()
    }
    ctx_size = terms.get("ctx_size")
    if generation == "dashboard, new" and ctx_size and found["context_length"] == ctx_size:
        # That column has 4096 until somebody gives it a value.
        values["context_length"] = f"nullif({values['context_length']}, 4096)"
    if "size_label" in found:
        # A label has a letter ("7B"); a mere number is no label.
        label = values["size_label"]
        values["size_label"] = f"CASE WHEN {label} GLOB '*[A-Za-z]*' THEN {label} END"
    path, name = values.get("path", "NULL"), values.get("name", "NULL")
    repository, file = (_text_sql(terms.get(key, "NULL")) for key in ("hf_repo", "hf_file"))
    values["parameters"] = f"modelstore_parameters({values.get('parameters', 'NULL')})"
    values["path"] = f"modelstore_path({path})"
    values["name"] = f"coalesce({name}, modelstore_stem({path}), {repository}, 'unnamed')"
    values["locator"] = f"modelstore_locator({path}, {repository}, {file}, {values['name']})"
    values["id"] = f"modelstore_id({values['locator']})"
    values["status"] = f"modelstore_status({path})"
    values["tags"] = _tags_sql(terms.get("tags", "NULL"), terms.get("favorite", "NULL"))
    return values
