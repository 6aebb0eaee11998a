"""A glance at a log: its size, its wal-index and its users, without a look at any frame.

It takes about a millisecond however large the log is. The warning of `modelstore.wal.loss` holds
here too: this process must not have the database open in SQLite.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.text import visible
from modelstore.wal.inspection import read_users, split_path
from modelstore.wal.locks import Blocker, blockers

if TYPE_CHECKING:
    from modelstore.wal.index import WalIndex


@dataclass(frozen=True, slots=True)
class Glance:
    """The size of a log in bytes, the wal-index that processes share, and the blockers.

    `index` is None if no process has the log open. Two glances with equal `stamp` saw files that
    nobody wrote to in between.
    """

    size: int
    index: WalIndex | None
    blockers: tuple[Blocker, ...]
    stamp: tuple[object, ...]


def glance_at(path: str) -> Glance:
    """Glance at the log of the database at `path`, or at a log alone.

    Raises `RefusedError` if both the database and the log are missing.
    """
    database, log = split_path(path)
    database = os.path.realpath(database)
    stats = [_stat(name) for name in (database, log)]
    if stats == [None, None]:
        raise RefusedError(
            f"there is neither a database {visible(database, 200)} nor a log of it",
            hint="check the path",
        )
    report, index = read_users(database)
    if index is not None and not (report.attached and index.is_settled):
        index = None  # SQLite discards an index that no process holds
    stamps = [stat and (stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]
    size = stats[1].st_size if stats[1] is not None else 0
    return Glance(size, index, blockers(index, report), (*stamps, index))


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
