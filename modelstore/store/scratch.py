"""The private scratch database that an import reads into.

Temporary tables are no place for what is read: pysqlite3 keeps all of TEMP in memory
(``SQLITE_TEMP_STORE=3``). The file is 0600, has no journal and is never synced: it is worth
nothing after a crash.
"""

from __future__ import annotations

import os
import tempfile
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from modelstore.errors import RefusedError
from modelstore.store.models import MODEL_COLUMNS
from modelstore.store.schema import column_definition
from modelstore.store.sqlite import sqlite3
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

# Binding None costs 0.8 µs a cell, for the module looks for an adapter of it by way of exceptions;
# a record has many unknown cells. An adapter that gives None back makes staging three times faster.
_as_it_is: Callable[[None], None] = dict[None, None]().get
sqlite3.register_adapter(type(None), _as_it_is)

_CACHE_KIB = 32_000  # the scratch database's page cache: what bounds its memory
_PAGE_SIZE = 16384  # bytes: rows are appended and read in order, with a call a page

# The times are given by the merge where the source has none.
_COLUMNS = ", ".join(
    f"{column} TEXT" if column in {"created_at", "updated_at"} else column_definition(column)
    for column in MODEL_COLUMNS
)
_PLACE = "root TEXT NOT NULL, place TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, state"

_TABLES = (
    # Many records at once, as a file of records has them: `fill` rows only fill what is unknown.
    # Nothing but appended to: an index here would cost a third of staging a million rows.
    f"CREATE TABLE rows ({_COLUMNS}, fill INTEGER NOT NULL) STRICT",
    # The last row of each locator, worked out where the catalogue may have some of the models.
    "CREATE TABLE last_rows (model TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # Models one by one, with files and places: `weights` is the copy's first weights file.
    f"CREATE TABLE items ({_COLUMNS}, told INTEGER NOT NULL, weights TEXT, UNIQUE (locator))"
    " STRICT",
    "CREATE TABLE item_files (item TEXT NOT NULL, path TEXT NOT NULL, role TEXT NOT NULL, "
    "size INTEGER, mtime_ns INTEGER, sha256 TEXT, device INTEGER, inode INTEGER, "
    "PRIMARY KEY (item, path)) STRICT, WITHOUT ROWID",
    f"CREATE TABLE item_places (item TEXT NOT NULL, {_PLACE} TEXT, "
    "PRIMARY KEY (item, root, place)) STRICT, WITHOUT ROWID",
    f"CREATE TABLE seen (locator TEXT NOT NULL, {_PLACE} TEXT, "
    "PRIMARY KEY (locator, root, place)) STRICT, WITHOUT ROWID",
    # These two outlive `clear`: what the whole import saw, and what it wrote or found unchanged.
    "CREATE TABLE seen_places (root TEXT NOT NULL, place TEXT NOT NULL, "
    "PRIMARY KEY (root, place)) STRICT, WITHOUT ROWID",
    "CREATE TABLE landed (id TEXT PRIMARY KEY, locator TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
BATCH_TABLES = ("rows", "last_rows", "items", "item_files", "item_places", "seen")
"""What holds one batch; the other tables grow through a whole import."""


BINDING_ERRORS = (
    UnicodeEncodeError,
    OverflowError,
    TypeError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a row that the catalogue cannot hold raises; any other error is the scratch file's."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def tells_trouble(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a full disk, or trouble of another kind with the scratch file, be told as what it is."""

    @wraps(method)
    def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
        try:
            return method(*arguments, **options)
        except (sqlite3.Error, OSError) as error:
            raise trouble(error) from error

    return call


def trouble(error: sqlite3.Error | OSError) -> RefusedError:
    """Return what an error of the scratch file means."""
    place = visible(tempfile.tempdir or "the temporary directory", 200)
    why = error.strerror if isinstance(error, OSError) else None
    return RefusedError(
        f"a scratch file in {place} cannot be used: {visible(why or str(error), 200)}",
        hint="free some space there, or set TMPDIR to a place with more; "
        "what was committed before is kept",
    )


@tells_trouble
def open_scratch(directory: str | None) -> tuple[str, sqlite3.Connection]:
    """Make a scratch database in `directory` (default: the system's place for such files)."""
    descriptor, path = tempfile.mkstemp(".db", "modelstore-", directory)
    os.close(descriptor)
    try:
        return path, _scratch(path)
    except BaseException:
        os.unlink(path)
        raise


def _scratch(path: str) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in (
            f"page_size={_PAGE_SIZE}",
            "journal_mode=OFF",
            "synchronous=OFF",
            f"cache_size=-{_CACHE_KIB}",
        ):
            conn.execute(f"PRAGMA {pragma}").close()
        for table in _TABLES:
            conn.execute(table)
    except BaseException:
        conn.close()
        raise
    return conn
