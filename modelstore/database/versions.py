"""Which versions of SQLite can lose acknowledged rows; light enough for --version."""

from __future__ import annotations


def has_wal_reset_bug(version: str) -> bool:
    """Tell whether `version` can lose acknowledged rows when a checkpoint meets a log restart.

    SQLite 3.7.0 to 3.51.2, but for the back-ports 3.44.6 and 3.50.7 and later patches of theirs
    (sqlite.org/wal.html#walresetbug).
    """
    number = tuple(int(part) for part in version.split(".")[:3])
    if (3, 44, 6) <= number < (3, 45) or (3, 50, 7) <= number < (3, 51):
        return False
    return (3, 7, 0) <= number < (3, 51, 3)
