"""The last time that a program read a model's file, as the file system recorded it.

Linux records it unless the file is on a mount with ``noatime``; with ``relatime``, the default, it
is exact to a day (man 8 mount). Backups and virus scanners read files too. This program's own
reading is not recorded where the system allows that. Elsewhere the time is unknown: Windows and
macOS do not tell whether they record it.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.model import ACCESSED
from modelstore.text import host_name, utc_text

if TYPE_CHECKING:
    from modelstore.database.handle import Database


def register_accessed_at(db: Database) -> None:
    """Give a connection the SQL function `ACCESSED` of a path and a host."""
    here = host_name()
    records: dict[int, bool] = {}

    def accessed_at(path: object, host: object) -> str | None:
        if not isinstance(path, str) or host not in (None, here):
            return None
        return accessed(from_sqlite_text(path), records)

    db.register_function(accessed_at, name=ACCESSED, replace=True)


def accessed(path: str, records: dict[int, bool]) -> str | None:
    """Return the time in UTC at which the file at `path` was last read; None if that is unknown.

    `records` remembers for each device whether its mount records such times.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = os.stat(path)
        if found.st_dev not in records:
            records[found.st_dev] = not os.statvfs(path).f_flag & os.ST_NOATIME
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) or not records[found.st_dev]:
        return None
    return utc_text(int(found.st_atime))
