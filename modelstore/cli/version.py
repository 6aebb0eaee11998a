"""What --version says: this program, and the SQLite that it runs on."""

from __future__ import annotations

import platform

from modelstore import __version__
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, IS_BUNDLED, SQLITE_VERSION


def version_text() -> str:
    """Return the versions, one a line, with a warning where SQLite has the WAL-reset bug."""
    origin = "bundled with pysqlite3" if IS_BUNDLED else "Python's own"
    lines = [
        f"modelstore {__version__}",
        f"SQLite {SQLITE_VERSION} ({origin}), Python {platform.python_version()}",
    ]
    if HAS_WAL_RESET_BUG:
        lines.append(
            "warning: this SQLite has the WAL-reset bug (sqlite.org/wal.html#walresetbug); "
            "modelstore works around it, other programs on it may lose rows"
        )
    return "\n".join(lines) + "\n"
