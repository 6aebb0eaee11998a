"""The SQLite library of this process: one copy, its version, and the bug that version may have.

sqlite-utils uses pysqlite3 where it is installed, and so must everybody else in the process: two
copies of SQLite on one file drop each other's locks (sqlite.org/howtocorrupt.html, section 2.2).
`--version` imports this module, so it imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["HAS_WAL_RESET_BUG", "IS_BUNDLED", "SQLITE_VERSION", "has_wal_reset_bug", "sqlite3"]

SQLITE_VERSION: str = sqlite3.sqlite_version
"""The version of the SQLite library that is linked, such as ``3.53.4``."""

IS_BUNDLED: bool = sqlite3.__name__.startswith("pysqlite3")
"""True for the library that pysqlite3 bundles, False for the interpreter's own."""


def has_wal_reset_bug(version: str) -> bool:
    """Tell whether `version` can lose acknowledged rows when a checkpoint meets a log restart.

    SQLite 3.7.0 to 3.51.2 can, except 3.44.6, 3.50.7 and later patches of these two, which have
    the fix (sqlite.org/wal.html#walresetbug).
    """
    number = tuple(int(part) for part in version.split(".")[:3])
    if (3, 44, 6) <= number < (3, 45) or (3, 50, 7) <= number < (3, 51):
        return False
    return (3, 7, 0) <= number < (3, 51, 3)


HAS_WAL_RESET_BUG: bool = has_wal_reset_bug(SQLITE_VERSION)
"""True where the linked SQLite can lose rows when a PASSIVE checkpoint meets a log restart."""
