"""The catalogue's tables, the mark that makes a database a catalogue, and the migrations.

``PRAGMA application_id`` marks a catalogue (sqlite.org/fileformat.html#application_id);
``user_version`` counts its schema's steps. A database without the mark that holds anything
belongs to another program and is never altered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from modelstore.errors import RefusedError
from modelstore.model import INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from modelstore.database.handle import Database
    from modelstore.database.sqlite import sqlite3

APPLICATION_ID = 0x4D644C53  # "MdLS"

Ownership = Literal["catalogue", "empty", "foreign"]
"""catalogue: ours; empty: no table and no mark yet; foreign: another program's."""

_REQUIRED = ("id", "name", "source", "locator", "status", "created_at", "updated_at")


def column_definition(column: str) -> str:
    """Return the SQL of one column of ``models``: its name, type and NOT NULL."""
    kind = "INTEGER" if column in INTEGER_COLUMNS else "TEXT"
    if column == "tags":
        return "tags TEXT NOT NULL DEFAULT '[]'"
    return f"{column} {kind}" + (" NOT NULL" if column in _REQUIRED else "")


_MODELS = ",\n    ".join(column_definition(column) for column in MODEL_COLUMNS)

# No further index on `models`: each costs an import of a million rows several per cent, and a
# scan of a million rows for a filter takes a fraction of a second.
_FIRST = (
    f"CREATE TABLE models (\n    {_MODELS},\n    PRIMARY KEY (id),\n    UNIQUE (locator)\n) STRICT",
    # `weights` is the path of the copy's first weights file: a model may have several copies
    # (hard links, the same content in two stores), each with its own companions.
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
    # A place holds one model at a time. `host` is "" where the model has none.
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

_STEPS: tuple[tuple[str, ...], ...] = (_FIRST,)

SCHEMA_VERSION = len(_STEPS)


class Writable(Protocol):
    """An open database that begins, commits and counts its own write transactions."""

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection."""
        ...

    @property
    def write(self) -> Callable[[], AbstractContextManager[Database]]:
        """Begin IMMEDIATE and yield the handle; commit at the end, roll back on an error."""
        ...


def ownership(conn: sqlite3.Connection) -> Ownership:
    """Tell whose database it is, without writing to it."""
    mark = _pragma(conn, "application_id")
    if mark == APPLICATION_ID:
        return "catalogue"
    empty = conn.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]
    return "empty" if empty and mark == 0 and _pragma(conn, "user_version") == 0 else "foreign"


def check_readable(conn: sqlite3.Connection, path: str) -> Ownership:
    """Return whose database it is. Raises `RefusedError` for a catalogue that is too new."""
    owner = ownership(conn)
    version = _pragma(conn, "user_version")
    if owner == "catalogue" and version > SCHEMA_VERSION:
        raise RefusedError(
            f"{visible(path, 200)} is a catalogue of schema {version}, "
            f"and this program knows schemas up to {SCHEMA_VERSION}",
            hint="upgrade modelstore",
        )
    return owner


def is_catalogue(db: Database, path: str) -> bool:
    """Tell whether a database just opened at a path is a catalogue: the check of our openings.

    Raises `RefusedError` for a catalogue that is too new.
    """
    return check_readable(db.conn, path) == "catalogue"


def create_or_migrate(opened: Writable, path: str) -> None:
    """Make an empty database a catalogue, or bring a catalogue to this program's schema.

    Writes nothing where nothing is to be done. Raises `RefusedError` for another program's
    database and for a catalogue that is too new.
    """
    if not _needs_work(opened.conn, path):
        return
    with opened.write() as db:
        conn = db.conn
        if not _needs_work(conn, path):  # another process was quicker
            return
        for step in _STEPS[_pragma(conn, "user_version") :]:
            for statement in step:
                conn.execute(statement)
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _needs_work(conn: sqlite3.Connection, path: str) -> bool:
    owner = check_readable(conn, path)
    if owner == "foreign":
        raise RefusedError(
            f"{visible(path, 200)} belongs to another program: it is never altered",
            hint="give --db a path of its own; to take over its models, "
            "name the file as a SOURCE of `modelstore import`",
        )
    return _pragma(conn, "user_version") < SCHEMA_VERSION


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    return int(conn.execute(f"PRAGMA {name}").fetchone()[0])
