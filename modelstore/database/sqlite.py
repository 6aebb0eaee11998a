"""The SQLite library of this process: one copy, its version, and the bug that version may have.

sqlite-utils uses pysqlite3 where it is installed, and so must everybody else in the process: two
copies of SQLite on one file drop each other's locks (sqlite.org/howtocorrupt.html, section 2.2).
`--version` imports this module, so it imports nothing else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "HAS_WAL_RESET_BUG",
    "SQLITE_ORIGIN",
    "SQLITE_VERSION",
    "has_wal_reset_bug",
    "load_apsws_sqlite",
    "sqlite3",
]


def load_apsws_sqlite() -> str | None:
    """Load the SQLite of apsw's wheel before the interpreter's, and return its version.

    Where pysqlite3 has no wheel (Linux on ARM), the interpreter's own SQLite often has the
    WAL-reset bug. apsw's wheels for Linux hold a newer SQLite as a shared library, which takes the
    place of the interpreter's if it is loaded first. Return None where there is no such library,
    where the interpreter's was loaded already, or where it cannot be loaded. Without effect on
    a Python with SQLite linked in statically, so the caller compares the version that it got.
    """
    if not sys.platform.startswith("linux") or "_sqlite3" in sys.modules:
        return None
    from ctypes import CDLL, RTLD_GLOBAL, c_char_p
    from importlib.util import find_spec
    from os.path import isfile, join

    found = find_spec("apsw")  # finds the package, and does not run it
    for folder in (found.submodule_search_locations if found else None) or ():
        path = join(folder, "sqlite_extra_binaries", "libsqlite3_tool.so")
        if isfile(path):
            try:
                library = CDLL(path, mode=RTLD_GLOBAL)
            except OSError:
                return None
            library.sqlite3_libversion.restype = c_char_p
            return bytes(library.sqlite3_libversion()).decode()
    return None


_apsws: str | None = None
if not TYPE_CHECKING:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        _apsws = load_apsws_sqlite()
        import sqlite3

SQLITE_VERSION: str = sqlite3.sqlite_version
"""The version of the SQLite library that is linked, such as ``3.53.4``."""

SQLITE_ORIGIN: str = (
    "bundled with pysqlite3"
    if sqlite3.__name__.startswith("pysqlite3")
    else ("from apsw's wheel" if _apsws == SQLITE_VERSION else "Python's own")
)
"""The package that the SQLite library comes from, in words."""


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
