"""The sqlite-utils handle: import the library, connect in one of four ways, set our pragmas.

`Database` is the handle that the program passes around. Its API introspects, quotes, registers
functions and runs ordinary statements; sqlite-utils has no API for other pragmas than
``journal_mode``, so those are SQL.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Literal

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_CORRUPT,
    SQLITE_FULL,
    is_busy,
    primary_code,
)
from modelstore.later import load

if TYPE_CHECKING:
    from types import ModuleType

    from sqlite_utils import Database
    from sqlite_utils.db import quote_identifier


class _LaterPattern:
    """A regular expression that is compiled when something asks for one of its methods."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._source = (pattern, flags)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a pattern has
        return getattr(re.compile(*self._source), name)  # `re` caches what it compiles


_PUT_OFF: dict[str, tuple[str, ...] | ModuleType | None] = {
    "numpy": None,
    "pandas": None,
    "sqlite3": sqlite3,
    "click": (),
    "decimal": ("Decimal",),
    "hashlib": (),
    "pathlib": ("Path",),
    "secrets": (),
    "sqlite_fts4": ("rank_bm25",),
    "sqlite_utils.create_table_parser": (
        *("Check", "ColumnComments", "ParseError", "Unique", "UniqueColumn"),
        *("check_references_identifier", "parse_autoincrement", "parse_checks"),
        *("parse_column_comments", "parse_uniques", "rewrite_check_expression"),
        "sql_ends_in_line_comment",
    ),
    "sqlite_utils.hookspecs": ("hookimpl", "hookspec"),
    "sqlite_utils.migrations": ("Migrations",),
    "sqlite_utils.plugins": ("ensure_plugins_loaded", "pm"),
    "sqlite_utils.recipes": (),
    "textwrap": (),
    "uuid": ("UUID",),
}


def _load_quickly() -> None:
    """Keep sqlite-utils from importing and compiling what this program seldom or never needs.

    numpy and pandas take 91 ms: sqlite-utils asks for them only to map their types to columns, and
    a None fails quickly; it asks for ``decimal`` and ``uuid`` for the same. Its plugins, recipes,
    migrations and commands take 9 ms more, and its parser of CREATE TABLE 2, which it uses to
    change columns. One pattern, for the name of a virtual table, takes 8 ms to compile: it ignores
    the case of a range of 65,000 characters. sqlite3 takes no time, but it is a second copy of
    SQLite, which others would find in this process and take for the one it uses.
    """
    compile_now = re.compile

    def compile_later(pattern: Any, flags: int = 0) -> Any:  # noqa: ANN401  # as re.compile
        if flags & re.IGNORECASE and "\\uffff" in pattern:
            return _LaterPattern(pattern, flags)
        return compile_now(pattern, flags)

    re.compile = compile_later
    try:
        load("sqlite_utils", _PUT_OFF)
    finally:
        re.compile = compile_now


if not TYPE_CHECKING:
    _load_quickly()
    from sqlite_utils import Database
    from sqlite_utils.db import quote_identifier

__all__ = [
    "CACHE_SIZE",
    "Access",
    "Database",
    "connect",
    "own_tree",
    "quote_identifier",
    "set_wal",
    "tune",
    "uri",
]

Access = Literal["rw", "ro", "immutable", "copy"]
"""rw: read and write; ro: read database and log; immutable: read the main file alone, without
locks; copy: read and write a private copy of database and log."""

_QUERIES: dict[Access, str] = {
    "rw": "mode=rw",
    "ro": "mode=ro",
    "immutable": "immutable=1&mode=ro",
    "copy": "mode=rw",
}

_NO_CHECKPOINT_ON_CLOSE = 1006  # SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE

CACHE_SIZE = -64000
"""The page cache, in KiB because it is negative."""

# The index of a primary key has the rowid (column -1) as its last value, if there are rowids.
_OWN_INDEX = """SELECT name FROM pragma_index_list(?1, ?2) AS i WHERE origin = 'pk' AND NOT EXISTS
(SELECT 1 FROM pragma_index_xinfo(i.name, ?2) WHERE cid = -1)"""

_PRAGMAS = (
    "wal_autocheckpoint = 0",  # we run and count every checkpoint ourselves
    "synchronous = NORMAL",
    f"cache_size = {CACHE_SIZE}",
    "temp_store = MEMORY",
    "foreign_keys = ON",
)
_MACOS_PRAGMAS = ("fullfsync = ON", "checkpoint_fullfsync = ON")


def own_tree(db: Database, table: str, schema: str = "main") -> str:
    """Return the clause behind a table's name that keeps a SELECT of its columns off its indexes.

    A table WITHOUT ROWID is its own primary key's index, which must be named: despite NOT INDEXED,
    SQLite prefers another one that has all columns. https://www.sqlite.org/lang_indexedby.html
    """
    # plain SQL: names may be no text
    found = db.execute(_OWN_INDEX, (table, schema)).fetchone()
    if found is None:
        return "NOT INDEXED"
    name = found[0]
    text = name if isinstance(name, str) else bytes(name).decode("utf-8", "surrogateescape")
    return f"INDEXED BY {quote_identifier(text)}"


def uri(path: str, access: Access) -> str:
    """Return the URI of a path, whatever bytes it holds, each as ``%hh`` (sqlite.org/uri.html)."""
    if os.name == "nt":
        path = "/" + path.replace("\\", "/")
    return f"file:%{os.fsencode(path).hex('%')}?{_QUERIES[access]}"


class _Connection(sqlite3.Connection):
    """Calls it damage if SQLite's message quotes a name that is no UTF-8.

    Python raises UnicodeDecodeError in place of the error itself, whose code is lost.
    """

    def execute(self, *args: Any) -> sqlite3.Cursor:  # noqa: ANN401  # as the one it extends
        """Execute a statement."""
        try:
            return super().execute(*args)
        except UnicodeDecodeError as error:
            damage = sqlite3.DatabaseError(bytes(error.object).decode("utf-8", "backslashreplace"))
            damage.sqlite_errorcode = SQLITE_CORRUPT
            raise damage from None


def connect(path: str, access: Access) -> Database:
    """Connect; create no file, and leave every transaction to the caller."""
    conn = sqlite3.connect(
        uri(path, access), uri=True, isolation_level=None, timeout=0, factory=_Connection
    )
    return Database(conn, recursive_triggers=False, execute_plugins=False)


def tune(db: Database, timeout: float) -> None:
    """Set our pragmas, with a busy timeout of `timeout` seconds, and read the schema's version.

    The read opens the files: every error that SQLite has about opening them is raised here.
    """
    db.execute(f"PRAGMA busy_timeout = {milliseconds(timeout)}")
    for pragma in (*_PRAGMAS, *(_MACOS_PRAGMAS if sys.platform == "darwin" else ())):
        db.execute(f"PRAGMA {pragma}")
    db.execute("PRAGMA schema_version").fetchone()


def connect_tuned(path: str, access: Access, timeout: float) -> Database:
    """Connect and set our pragmas; the caller closes it. `timeout` is in seconds."""
    db = connect(path, access)
    try:
        tune(db, timeout)
    except BaseException:
        db.close()
        raise
    return db


def keep_log_on_close(db: Database) -> None:
    """Keep SQLite from checkpointing and deleting the log when `db` is closed, where that works.

    Python's own sqlite3 can from 3.12 on (sqlite.org/c3ref/c_dbconfig_defensive.html).
    """
    set_config = getattr(db.conn, "setconfig", None)
    if set_config is not None:
        set_config(_NO_CHECKPOINT_ON_CLOSE, True)  # noqa: FBT003 - the library's signature


def milliseconds(seconds: float) -> int:
    """Return a timeout in SQLite's unit, within SQLite's range."""
    return max(0, min(int(seconds * 1000), 2**31 - 1))


def set_wal(db: Database) -> str | None:
    """Put a database into WAL mode; return why that is impossible, None on success.

    SQLite notices a file system without shared memory only when it first uses the WAL. Such a
    database goes back to a rollback journal, which works there. Raises `sqlite3.OperationalError`
    for a full disk.
    """
    try:
        db.enable_wal()
        db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        if is_busy(error):
            return "another process is using it"
        if primary_code(error) == SQLITE_FULL:
            raise
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # WAL without shared memory
        db.disable_wal()
        db.execute("PRAGMA locking_mode = NORMAL")
        db.execute("PRAGMA schema_version").fetchone()
        return f"the file system lacks what it needs ({error})"
    mode = db.journal_mode
    return None if mode == "wal" else f"SQLite keeps it in mode {mode}"
