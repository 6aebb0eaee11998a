"""Another program's table ``models``, seen as rows of ours, without altering its database.

`expose` lays a temporary view named ``models`` over the other program's table, so that every
question of `modelstore.store.query` works on it unchanged. It knows the two generations of the
llama proxy dashboard and any table with columns of
recognisable names. Unknown (NULL, "", 0) is NULL; times in milliseconds and in seconds are told
apart by their size. Columns that hold secrets are never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.store import foreign_values as sql
from modelstore.store.models import INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.store.sqlite import sqlite3

if TYPE_CHECKING:
    from collections.abc import Mapping

# For each column of ours, the names that it may have there: the first that exists counts.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "model_name", "display_name", "title"),
    "path": ("path", "model_path", "file_path", "local_path", "filename"),
    "architecture": ("architecture", "arch", "family"),
    "parameter_count": ("parameter_count", "n_params"),
    "size_label": ("size_label", "params", "parameter_size", "parameter_count"),
    "quantization": ("quantization", "quantization_type", "quantization_level", "quant"),
    "file_type": ("file_type",),
    "context_length": ("context_length", "context_window", "ctx_size", "n_ctx_train"),
    "embedding_length": ("embedding_length", "embedding_size", "n_embd"),
    "block_count": ("block_count", "n_layer"),
    "head_count": ("head_count", "n_head"),
    "head_count_kv": ("head_count_kv", "n_head_kv"),
    "feed_forward_length": ("feed_forward_length", "ffn_dim"),
    "vocab_size": ("vocab_size", "n_vocab"),
    "file_size": ("file_size", "file_size_bytes", "size_bytes", "size"),
    "sha256": ("sha256",),
    "license": ("license",),
    "parameters": ("parameters",),
    "source_id": ("id", "model_id"),
    "modified_at": ("modified_at", "modified"),
    "created_at": ("created_at", "created"),
    "updated_at": ("updated_at", "updated"),
}
_FITTED = ("quantization_type", "parameter_count", "architecture", "context_window")
"""What the old generation keeps beside its models, in ``model_fit_params``."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What another program's table of models is."""

    generation: str  # "dashboard, old", "dashboard, new" or "models table"
    columns: tuple[str, ...]  # of ours that it has something for


def expose(conn: sqlite3.Connection, *, host: str, source: str = "dashboard") -> Foreign | None:
    """Make the ``models`` of `conn` another program's, as rows of ours; None where it has none.

    `conn` may be read-only, and ``query_only``: that is lifted for the view, which is our own.
    """
    table = _columns_of(conn, "models")
    if not table:
        return None
    fitted = _columns_of(conn, "model_fit_params")
    terms = {name: f"m.{_quoted(column)}" for name, column in table.items()}
    join = ""
    if "model_id" in fitted and "id" in table and _has_rowid(conn, "model_fit_params"):
        # At most one row each, whatever the other program let in.
        key = f"f.{_quoted(fitted['model_id'])}"
        join = (
            "LEFT JOIN main.model_fit_params AS f ON f.rowid = (SELECT max(rowid) "
            f"FROM main.model_fit_params AS f WHERE {key} = {terms['id']})"
        )
        for name in _FITTED:
            if name in fitted:
                terms[name] = f"f.{_quoted(fitted[name])}"
    found = {
        column: terms[name]
        for column, names in _NAMES.items()
        for name in reversed(names)
        if name in terms
    }
    if "name" not in found and "path" not in found:
        return None
    sql.add_functions(conn, host)
    generation = _generation(table)
    values = _values(found, terms, generation)
    values |= {"source": sql.literal(source), "host": sql.literal(host)}
    columns = ", ".join(f"{values.get(column, 'NULL')} AS {column}" for column in MODEL_COLUMNS)
    (query_only,) = conn.execute("PRAGMA query_only").fetchone()
    conn.execute("PRAGMA query_only = OFF")
    try:
        conn.execute("DROP VIEW IF EXISTS temp.models")
        conn.execute(f"CREATE TEMP VIEW models AS SELECT {columns} FROM main.models AS m {join}")
    finally:
        conn.execute(f"PRAGMA query_only = {query_only}")
    return Foreign(generation, tuple(found))


def _generation(table: Mapping[str, str]) -> str:
    if "hf_repo" in table or "file_size_bytes" in table:
        return "dashboard, old"
    if "favorite" in table or "block_count" in table:
        return "dashboard, new"
    return "models table"


def _columns_of(conn: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table or view of the other program, by their lower-case names."""
    rows = conn.execute(f"PRAGMA main.table_info({table})").fetchall()
    return {str(row[1]).lower(): str(row[1]) for row in rows}


def _has_rowid(conn: sqlite3.Connection, table: str) -> bool:
    try:
        conn.execute(f"SELECT rowid FROM main.{table} LIMIT 0")
    except sqlite3.OperationalError:
        return False
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _values(found: Mapping[str, str], terms: Mapping[str, str], generation: str) -> dict[str, str]:
    """Return the SQL of our columns. `found` holds the SQL of theirs, by our names."""
    values = {
        column: sql.time(term)
        if column.endswith("_at")
        else sql.number(term)
        if column in INTEGER_COLUMNS
        else sql.text(term)
        for column, term in found.items()
    }
    ctx_size = terms.get("ctx_size")
    if generation == "dashboard, new" and ctx_size and found["context_length"] == ctx_size:
        # 4096 is what that column is where nobody gave it a value.
        values["context_length"] = f"nullif({values['context_length']}, 4096)"
    if "size_label" in found:
        # A label has a letter ("7B"); a mere number is no label.
        label = values["size_label"]
        values["size_label"] = f"CASE WHEN {label} GLOB '*[A-Za-z]*' THEN {label} END"
    path, name = values.get("path", "NULL"), values.get("name", "NULL")
    repository, file = (sql.text(terms.get(key, "NULL")) for key in ("hf_repo", "hf_file"))
    values["parameters"] = f"modelstore_parameters({values.get('parameters', 'NULL')})"
    values["path"] = f"modelstore_path({path})"
    values["name"] = f"coalesce({name}, modelstore_stem({path}), {repository}, 'unnamed')"
    values["locator"] = f"modelstore_locator({path}, {repository}, {file}, {values['name']})"
    values["id"] = f"modelstore_id({values['locator']})"
    values["status"] = f"modelstore_status({path})"
    values["tags"] = sql.tags(terms.get("tags", "NULL"), terms.get("favorite", "NULL"))
    return values
