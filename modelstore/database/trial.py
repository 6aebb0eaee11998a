"""Try a log on a private copy of its database, and let SQLite say whether both are sound together.

A look at the bytes cannot see everything that SQLite's integrity_check sees, so a small database
is tried as a whole before its log may be folded (sqlite.org/pragma.html#pragma_integrity_check).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from modelstore.database.files import private_copy
from modelstore.database.handle import connect
from modelstore.database.sqlite import sqlite3
from modelstore.errors import ModelstoreError
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.database.files import HeldFiles
    from modelstore.database.handle import Access

SMALL = 4 << 20  # bytes of database and log that are tried: some 20 ms


def trouble_with_log(held: HeldFiles) -> str | None:
    """Return the damage that a log does to a database that is sound without it, if it does any.

    Damage that the database has without its log is not the log's: a checkpoint may have stopped
    halfway, or a row may break a CHECK.
    """
    try:
        with private_copy(held) as path:
            if _check(path, "immutable") != _SOUND:  # first: closing the copy folds its log
                return None
            both = _check(path, "copy")
    except ModelstoreError:  # no room, or files that change: the raw look must do
        return None
    return both if both != _SOUND else None


_SOUND = "ok"


def _check(path: str, access: Access) -> str:
    try:
        with closing(connect(path, access)) as db:
            row = db.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        return visible(str(error), 200)
    return visible(str(row[0]), 200) if row else _SOUND
