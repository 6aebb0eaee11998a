"""The one door to SQLite: the library that is really linked, and sqlite-utils on top of it.

sqlite-utils picks pysqlite3 by itself where it is installed; this module uses the same one, for
two copies of SQLite on one file in one process drop each other's locks
(sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modelstore.store.versions import has_wal_reset_bug

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Database
else:
    # sqlite-utils imports numpy and pandas where they are installed (50 ms to seconds), only to
    # map their types to columns. A None in sys.modules makes those imports fail quickly.
    _blocked = [name for name in ("numpy", "pandas") if name not in sys.modules]
    for _name in _blocked:
        sys.modules[_name] = None
    try:
        from sqlite_utils import Database
    finally:
        for _name in _blocked:
            del sys.modules[_name]
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["HAS_WAL_RESET_BUG", "SQLITE_VERSION", "Database", "sqlite3"]

SQLITE_VERSION: str = sqlite3.sqlite_version
"""The version of the SQLite library that is linked, such as ``3.53.4``."""

HAS_WAL_RESET_BUG: bool = has_wal_reset_bug(SQLITE_VERSION)
"""Whether the linked SQLite can lose rows when a PASSIVE checkpoint meets a log restart."""
