"""What --version says: this program, and the SQLite that it runs on."""

from __future__ import annotations

import platform

from modelstore import __version__
from modelstore.database.versions import has_wal_reset_bug


def version_text() -> str:
    """Return the versions, one a line, with a warning where SQLite has the WAL-reset bug."""
    version, origin = _sqlite_version()
    lines = [
        f"modelstore {__version__}",
        f"SQLite {version} ({origin}), Python {platform.python_version()}",
    ]
    if has_wal_reset_bug(version):
        lines.append(
            "warning: this SQLite has the WAL-reset bug (sqlite.org/wal.html#walresetbug); "
            "modelstore works around it, other programs on it may lose rows"
        )
    return "\n".join(lines) + "\n"


def _sqlite_version() -> tuple[str, str]:
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        import sqlite3

        return sqlite3.sqlite_version, "Python's own"
    return dbapi2.sqlite_version, "bundled with pysqlite3"
