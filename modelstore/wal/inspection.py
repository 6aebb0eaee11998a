"""Everything that can be known of a log from the raw files, before SQLite opens anything.

Read the warning of `modelstore.wal.loss` first: this opens and closes the database and its
``-shm``, so no SQLite of this process may have the database open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.format import WAL_MAGIC
from modelstore.wal.index import WalIndex, read_index
from modelstore.wal.locks import Blocker, LockReport, blockers, read_locks
from modelstore.wal.loss import analyse_loss
from modelstore.wal.main_file import MainState

if TYPE_CHECKING:
    from modelstore.wal.frames import WalScan
    from modelstore.wal.loss_report import LossReport

_NOBODY = LockReport((), complete=True)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A log, what would be lost without it, and who uses it. Paths are as they were given."""

    database: str
    log: str
    has_database: bool
    loss: LossReport
    locks: LockReport
    blockers: tuple[Blocker, ...]
    has_journal: bool = False

    @property
    def scan(self) -> WalScan:
        """The frames."""
        return self.loss.scan

    @property
    def index(self) -> WalIndex | None:
        """The wal-index, where it belongs to this log."""
        return self.loss.index

    @property
    def checkpointed(self) -> int:
        """Frames that are surely in the main file: by the wal-index, else by the pages."""
        if self.index is not None:
            return self.index.backfill
        return self.scan.max_frame if self.has_database and not self.loss.differing else 0

    @property
    def pending(self) -> int:
        """Committed frames that are not known to be in the main file."""
        return max(0, self.scan.max_frame - self.checkpointed)

    @property
    def is_busy(self) -> bool:
        """Whether somebody keeps frames from being copied into the main file."""
        return any(blocker.holds_up_folding for blocker in self.blockers)

    @property
    def is_damaged(self) -> bool:
        """Whether SQLite would hide damage: drop commits, or read a log that does not fit."""
        index = self.index if self.locks.attached else None
        unreadable = self.has_database and self.loss.live_problem is not None
        return self.scan.is_damaged_for(index) or unreadable

    @property
    def main_problem(self) -> str | None:
        """Why the main file cannot be read, where nothing beside it would mend that.

        Neither frames in the log, nor a rollback journal: with one, a transaction that was cut
        short leaves fewer pages than the header counts. None where it can be read.
        """
        main = self.loss.main
        is_alone = self.has_database and not self.loss.pages and not self.has_journal
        if not is_alone or main.readable or self.loss.raced or main.state is MainState.FOREIGN:
            return None
        return main.problem


def split_path(path: str) -> tuple[str, str]:
    """Return the paths of the database and of its log, whichever of the two was given."""
    if path.endswith("-wal") and _is_log(path):
        return path[:-4], path
    if _is_log(path):
        return path + ".no-database", path  # a log under a name of its own
    real = os.path.realpath(path)  # SQLite puts the log beside the file that a link leads to
    return path, real + "-wal"


def _is_log(path: str) -> bool:
    try:
        fd = open_or_refuse(path)
    except (OSError, RefusedError):
        return False
    try:
        return int.from_bytes(read_at(fd, 4, 0), "big") | 1 == WAL_MAGIC | 1
    finally:
        os.close(fd)


def inspect_log(
    path: str, *, names: tuple[str, str] | None = None, limit: int = 10, deep: bool = False
) -> Inspection:
    """Look at the log of a database, or at a log alone. Raises as `loss.analyse_loss` does."""
    database, log = split_path(path)
    loss = analyse_loss(database, wal_path=log, names=names, limit=limit, deep=deep)
    report, index = look_at_locks(database)
    return Inspection(
        database,
        log,
        os.path.exists(database),
        loss,
        report,
        blockers(index, report),
        os.path.lexists(os.path.realpath(database) + "-journal"),
    )


def look_at_locks(database: str) -> tuple[LockReport, WalIndex | None]:
    """Return who holds which lock of a database's log, and the wal-index as it is now."""
    try:
        shm = open_or_refuse(os.path.realpath(database) + "-shm")
    except FileNotFoundError:
        return _NOBODY, None
    try:
        return read_locks(shm), read_index(shm)
    finally:
        os.close(shm)
