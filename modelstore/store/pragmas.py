"""The pragmas that every connection of ours gets (sqlite.org/pragma.html)."""

from __future__ import annotations

import sys

from modelstore.store.failures import SQLITE_FULL, is_busy, primary_code
from modelstore.store.sqlite import sqlite3

CACHE_SIZE = -64000
"""Of the page cache: negative, so in KiB."""

_TUNED = (
    "wal_autocheckpoint = 0",  # each fold is ours, and counted
    "synchronous = NORMAL",
    f"cache_size = {CACHE_SIZE}",
    "temp_store = MEMORY",
    "foreign_keys = ON",
)
_MACOS = ("fullfsync = ON", "checkpoint_fullfsync = ON")


def milliseconds(seconds: float) -> int:
    """Return a timeout as SQLite takes it."""
    return max(0, min(int(seconds * 1000), 2**31 - 1))


def tune(conn: sqlite3.Connection, timeout: float) -> None:
    """Set the pragmas; `timeout` in seconds. Reads the database, so that all of SQLite's errors
    of opening may come from here.
    """  # noqa: D205
    conn.execute(f"PRAGMA busy_timeout = {milliseconds(timeout)}")
    for pragma in (*_TUNED, *(_MACOS if sys.platform == "darwin" else ())):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute("PRAGMA schema_version").fetchone()


def set_wal(conn: sqlite3.Connection) -> str | None:
    """Put a database of ours into WAL mode; return why that cannot be had, None if it is.

    A file system without shared memory is noticed only when WAL is used: then the database goes
    back to a rollback journal, which works there. A full disk is raised.
    """
    try:
        (mode,) = conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        if is_busy(error):
            return "another process is using it"
        if primary_code(error) == SQLITE_FULL:
            raise
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")  # WAL without shared memory
        (mode,) = conn.execute("PRAGMA journal_mode = DELETE").fetchone()
        conn.execute("PRAGMA locking_mode = NORMAL")
        conn.execute("PRAGMA schema_version").fetchone()
        return f"the file system lacks what it needs ({error})"
    return None if mode == "wal" else f"SQLite keeps it in mode {mode}"
