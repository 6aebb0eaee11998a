"""The catalogue's tables: the mark of a catalogue, the migrations, and older schemas.

``PRAGMA application_id`` marks a catalogue and ``user_version`` counts the steps of its schema
(sqlite.org/fileformat.html#application_id). Both are in the file's header. sqlite-utils has
migrations of its own, with a table as their record; they pass over steps that they do not know,
so they would write to a catalogue of a newer program.

A new column is one field of `modelstore.model.Model` and one step here. A database without the
mark that holds anything belongs to another program and is never altered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from modelstore.database.handle import Database
from modelstore.errors import DamageError, RefusedError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

APPLICATION_ID = 0x4D644C53  # "MdLS"

Ownership = Literal["catalogue", "empty", "foreign"]
"""catalogue: ours; empty: no table and no mark yet; foreign: another program's."""

# A step is frozen once it is released: catalogues everywhere were made by this text. Steps add
# tables and columns; `show_current_schema` must learn about any other change.
#
# `models` has no further index: each costs an import of a million rows several per cent, and a
# scan of a million rows for a filter takes a fraction of a second. `model_files.weights` is the
# path of the copy's first weights file: a model may have several copies (hard links, the same
# content in two stores), each with its own companions. A place holds one model at a time; its
# `host` is "" if the model has none.
_STEP_1 = (
    """CREATE TABLE models (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    locator TEXT NOT NULL,
    path TEXT,
    architecture TEXT,
    type TEXT,
    status TEXT NOT NULL,
    parameter_count INTEGER,
    size_label TEXT,
    quantization TEXT,
    file_type INTEGER,
    context_length INTEGER,
    embedding_length INTEGER,
    block_count INTEGER,
    head_count INTEGER,
    head_count_kv INTEGER,
    feed_forward_length INTEGER,
    vocab_size INTEGER,
    file_size INTEGER,
    sha256 TEXT,
    license TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    host TEXT,
    parameters TEXT,
    source_id TEXT,
    modified_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (locator)
) STRICT""",
    """CREATE TABLE model_files (
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    weights TEXT NOT NULL,
    path TEXT NOT NULL,
    role TEXT NOT NULL,
    size INTEGER,
    mtime_ns INTEGER,
    sha256 TEXT,
    device INTEGER,
    inode INTEGER,
    PRIMARY KEY (model_id, weights, path)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX model_files_weights ON model_files (weights)",
    "CREATE INDEX model_files_inode ON model_files (inode, device) WHERE inode IS NOT NULL",
    "CREATE INDEX model_files_sha256 ON model_files (sha256) WHERE sha256 IS NOT NULL",
    """CREATE TABLE model_places (
    host TEXT NOT NULL,
    root TEXT NOT NULL,
    locator TEXT NOT NULL,
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT,
    PRIMARY KEY (host, root, locator)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX model_places_model ON model_places (model_id)",
    """CREATE TABLE roots (
    host TEXT NOT NULL,
    root TEXT NOT NULL,
    source TEXT NOT NULL,
    device INTEGER,
    status TEXT NOT NULL CHECK (status IN ('online', 'offline')),
    imported_at TEXT NOT NULL,
    PRIMARY KEY (host, root)
) STRICT, WITHOUT ROWID""",
)

# Both are unknown for the models that are there already: the next import reads their files again.
_STEP_2 = (
    "ALTER TABLE models ADD COLUMN capabilities TEXT",
    "ALTER TABLE models ADD COLUMN revision TEXT",
)

# `position` is the last transaction that was read of a machine's replica, for a fleet.
_STEP_3 = ("ALTER TABLE roots ADD COLUMN position TEXT",)

_STEPS: tuple[tuple[str, ...], ...] = (_STEP_1, _STEP_2, _STEP_3)

SCHEMA_VERSION = len(_STEPS)


class Writable(Protocol):
    """An open database that begins, commits and counts its own write transactions."""

    @property
    def db(self) -> Database:
        """The sqlite-utils handle."""
        ...

    @property
    def write(self) -> Callable[[], AbstractContextManager[Database]]:
        """Begin IMMEDIATE; commit at the end of the block, roll back on an error."""
        ...


def single_value(db: Database, sql: str, values: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401  # whatever the column holds
    """Return the value of a query that has one row with one column."""
    (value,) = next(db.query(sql, dict(values or {}))).values()
    return value


def ownership(db: Database) -> Ownership:
    """Tell whose database it is, without writing to it."""
    mark = single_value(db, "PRAGMA application_id")
    if mark == APPLICATION_ID:
        return "catalogue"
    # Another program's names may be no UTF-8, so they are counted and not read.
    objects = single_value(db, "SELECT count(*) FROM sqlite_master")
    return "foreign" if objects or mark or _version(db) else "empty"


def check_readable(db: Database, path: str) -> Ownership:
    """Return whose database it is.

    Raises `RefusedError` for a catalogue of a newer program and `DamageError` for one that does
    not say which schema it has.
    """
    owner = ownership(db)
    version = _version(db)
    if owner == "catalogue" and version > SCHEMA_VERSION:
        raise RefusedError(
            f"{visible(path, 200)} is a catalogue of schema {version}, "
            f"and this program knows schemas up to {SCHEMA_VERSION}",
            hint="upgrade modelstore",
        )
    if owner == "catalogue" and version < 1:
        raise DamageError(
            f"{visible(path, 200)} is marked as a catalogue, but its user_version is {version}: "
            "its schema is unknown",
            hint=f"another program changed it; this program makes user_version {SCHEMA_VERSION}",
        )
    return owner


def is_catalogue(db: Database, path: str) -> bool:
    """Tell whether a database just opened at a path is a catalogue: the check of our openings.

    Raises `RefusedError` for a catalogue that is too new.
    """
    return check_readable(db, path) == "catalogue"


def create_or_migrate(opened: Writable, path: str) -> None:
    """Make an empty database a catalogue, or bring a catalogue to this program's schema.

    Writes nothing to a catalogue of this schema. Raises `RefusedError` for another program's
    database and for a catalogue of a newer program.
    """
    if not _needs_steps(opened.db, path):
        return
    with opened.write() as db:
        if _needs_steps(db, path):  # else another process was quicker
            _apply_steps(db, SCHEMA_VERSION)


def _needs_steps(db: Database, path: str) -> bool:
    if check_readable(db, path) == "foreign":
        raise RefusedError(
            f"{visible(path, 200)} belongs to another program: it is never altered",
            hint="give --db a path of its own; to take over its models, "
            "name the file as a SOURCE of `modelstore import`",
        )
    return _version(db) < SCHEMA_VERSION


def _apply_steps(db: Database, version: int) -> None:
    """Bring a database from its own schema to schema `version`."""
    for step in _STEPS[_version(db) : version]:
        for statement in step:
            db.execute(statement)  # plain SQL: a step is literal text
    # plain SQL: sqlite-utils sets no pragma
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version}")


def _version(db: Database) -> int:
    return int(single_value(db, "PRAGMA user_version"))


def show_current_schema(db: Database) -> None:
    """Lay temporary views over an older catalogue, so that queries of this schema can read it.

    In them, a column that the catalogue lacks has its default, and a table that it lacks has no
    rows. The catalogue itself is not written to.
    """
    version = _version(db)
    if version >= SCHEMA_VERSION:
        return
    older, current = _empty_catalogue(version), _empty_catalogue(SCHEMA_VERSION)
    for table in current.tables:
        there = older.table(table.name).columns_dict
        if there.keys() == table.columns_dict.keys():
            continue
        shown = ["rowid"] if _has_rowid(current, table.name) and there else []
        shown += [
            column.name
            if column.name in there
            else f"{column.default_value or 'NULL'} AS {column.name}"
            for column in table.columns
        ]
        rows = f"FROM main.{table.name}" if there else "WHERE false"
        lay_view(db, table.name, f"SELECT {', '.join(shown)} {rows}")
    older.close()
    current.close()


def _empty_catalogue(version: int) -> Database:
    db = Database(memory=True, recursive_triggers=False, execute_plugins=False)
    _apply_steps(db, version)
    return db


def _has_rowid(db: Database, table: str) -> bool:
    sql = "SELECT NOT wr FROM pragma_table_list(:table) WHERE schema = 'main'"
    return bool(single_value(db, sql, {"table": table}))


def lay_view(db: Database, name: str, select: str) -> None:
    """Put a temporary view in front of the table `name`.

    The connection may be ``query_only``: that is lifted for the view, which is our own.
    """
    query_only = single_value(db, "PRAGMA query_only")
    # plain SQL: sqlite-utils makes no temporary view
    db.execute("PRAGMA query_only = OFF")
    try:
        db.execute(f"DROP VIEW IF EXISTS temp.{name}")
        db.execute(f"CREATE TEMP VIEW {name} AS {select}")
    finally:
        db.execute(f"PRAGMA query_only = {query_only}")
