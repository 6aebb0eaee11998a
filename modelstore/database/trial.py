"""Try a log on a private copy of its database, and let SQLite say whether both are sound together.

A look at the bytes cannot see everything that SQLite's integrity_check sees, so a small database
is tried as a whole before its log may be folded (sqlite.org/pragma.html#pragma_integrity_check).
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.files import private_copy
from modelstore.database.handle import connect
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_damage, is_io_error
from modelstore.errors import ModelstoreError
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.database.files import HeldFiles
    from modelstore.database.handle import Access, Database

SMALL = 4 << 20  # bytes of database and log that are tried: some 10 ms
_STEPS = 1000  # of SQLite's virtual machine, between two looks at the clock
_MOST_TIME = 0.5  # seconds of processor time: an index on an expression may cost any amount
_SIZE = ("page_count", "page_size")


class Trial(NamedTuple):
    """The first damage that SQLite finds in `both` together, and if so in the main file `alone`.

    Both are None where SQLite cannot tell: a collation of the application's, no room for a copy,
    files that change.
    """

    alone: str | None = None
    both: str | None = None


def try_log(held: HeldFiles) -> Trial:
    """Check a copy of a database with its log, and without it if that is malformed.

    A check that takes too long is given up, and SQLite cannot tell.

    A fold that leaves a database sound is right, even if the main file alone is not: a checkpoint
    may have stopped halfway.
    """
    try:
        with private_copy(held) as path:
            both = _damage(path, "ro")  # which leaves the log of the copy as it is
            return Trial(_damage(path, "immutable"), both) if both is not None else Trial()
    except (ModelstoreError, sqlite3.Error):  # the raw look must do
        return Trial()


def _damage(path: str, access: Access) -> str | None:
    is_short = False
    try:
        with closing(connect(path, access)) as db:
            db.conn.text_factory = bytes  # a name in a message may be damaged too
            is_short = _is_short(db, path)
            db.execute("PRAGMA ignore_check_constraints = ON")  # such a row is no damage
            end = time.thread_time() + _MOST_TIME
            db.conn.set_progress_handler(lambda: time.thread_time() > end, _STEPS)
            (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        if is_short and is_io_error(error):  # SQLite says so of an overflow page that is cut
            return "it ends before its last page"
        if not is_damage(error):
            raise
        return visible(str(error), 200)
    return None if said == b"ok" else visible(said.decode("utf-8", "replace"), 200)


def _is_short(db: Database, path: str) -> bool:
    count, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in _SIZE)
    return os.stat(path).st_size < count * size
