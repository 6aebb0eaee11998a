"""Inspection of a log through its raw files: loss report, locks and blockers.

Read the warning of `modelstore.wal.loss` first: `inspect_log` opens and closes the database and its
``-shm``, so this process must not have the database open in SQLite.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.wal.files import open_or_refuse, read_at, real_path, refusing_to_read
from modelstore.wal.format import WAL_MAGIC
from modelstore.wal.index import WalIndex, read_index
from modelstore.wal.journal import Journal, read_journal
from modelstore.wal.locks import Blocker, LockReport, blockers, read_locks
from modelstore.wal.loss import analyse_loss
from modelstore.wal.main_file import MainState

if TYPE_CHECKING:
    from modelstore.progress import Progress
    from modelstore.wal.frames import WalScan
    from modelstore.wal.loss_report import LossReport

_NO_DATABASE_TOGETHER = frozenset(("foreign-log", "malformed"))
"""Codes of contradictions."""
_NOBODY = LockReport((), complete=True)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Evidence from outside the log against it: a stable code, a sentence, and what to do.

    `is_elsewhere`: rows may exist in files that the path does not name any more.
    """

    code: str
    text: str
    hint: str
    is_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class MainCheck:
    """SQLite's check of the whole main file alone: its first `problem`; None if it found none.

    `is_still` is False if the file was written meanwhile: then the check proves nothing.
    `unchecked` are the tables that SQLite could not check, each with the reason.
    """

    problem: str | None
    is_still: bool = True
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """A log, the loss without it, and its users. Paths are as the caller gave them.

    `contradictions` and `main_check` are the caller's: what the files, or the processes that use
    them, say of each other that speaks against this log; and what SQLite says of the main file.
    """

    database: str
    log: str
    has_database: bool
    loss: LossReport
    locks: LockReport
    blockers: tuple[Blocker, ...]
    journal: Journal | None = None
    contradictions: tuple[Contradiction, ...] = ()
    main_check: MainCheck | None = None

    def with_main_check(self, check: MainCheck) -> Inspection:
        """Return this inspection with SQLite's verdict on the main file alone.

        A main file that is damaged alone is the state of no commit, whatever the log's pages show.
        """
        loss, main = self.loss, self.loss.main
        is_faulty = check.is_still and check.problem is not None
        if is_faulty and loss.pages and main.state is MainState.CONSISTENT:
            mixed = replace(main, state=MainState.MIXED, commit=None, is_proven=False)
            loss = replace(loss, main=mixed)
        return replace(self, loss=loss, main_check=check)

    @property
    def scan(self) -> WalScan:
        """The scan of the log."""
        return self.loss.scan

    @property
    def index(self) -> WalIndex | None:
        """The wal-index; None if there is none, or it belongs to another log."""
        return self.loss.index

    @property
    def checkpointed(self) -> int:
        """Frames that are surely in the main file, by the wal-index or else by the pages."""
        if self.index is not None:
            return self.index.backfill
        is_same = self.has_database and not self.loss.differing and not self.loss.raced
        return self.scan.max_frame if is_same else 0

    @property
    def pending(self) -> int:
        """Committed frames that may be missing from the main file."""
        return max(0, self.scan.max_frame - self.checkpointed)

    @property
    def is_busy(self) -> bool:
        """True if a process keeps frames from being copied into the main file."""
        return any(blocker.holds_up_folding for blocker in self.blockers)

    @property
    def is_exact(self) -> bool:
        """True if every figure is certain: none is if log and main file do not fit together."""
        if self.is_damaged:  # what lies behind the damage is only in the log, too
            return False
        is_partial = any(
            c.is_elsewhere or c.code in _NO_DATABASE_TOGETHER for c in self.contradictions
        )
        return self.loss.is_exact and not is_partial

    @property
    def is_damaged(self) -> bool:
        """True if SQLite would hide damage: drop commits, or read a log that does not fit.

        Reading in a race proves no damage.
        """
        if self.loss.raced:
            return False
        unreadable = self.has_database and self.loss.live_problem is not None
        is_cut_short = self.scan.is_damaged_for(self.index) and not self.loss.ends_cleanly
        return is_cut_short or unreadable

    @property
    def nothing_lost(self) -> bool:
        """True if the main file alone certainly is the same database, as far as this look goes."""
        if self.loss.raced or self.contradictions or self.is_damaged or self.has_hot_journal:
            return False
        scan = self.scan
        if not self.has_database or self.main_problem is not None or scan.fault_hides_frames:
            return False
        return not scan.max_frame or self.loss.is_same

    @property
    def has_hot_journal(self) -> bool:
        """True if the next opening of the database takes a transaction back."""
        return self.journal is not None and self.journal.is_hot

    @property
    def is_damaged_alone(self) -> bool:
        """True if SQLite found a fault in the main file alone, and nobody wrote it meanwhile."""
        check = self.main_check
        return check is not None and check.is_still and check.problem is not None

    @property
    def main_problem(self) -> str | None:
        """The reason why the main file cannot be read, if no other file would mend it.

        Frames in the log may mend it, and so may a rollback journal: with one, an interrupted
        transaction leaves fewer pages than the header counts. None if the file can be read.
        """
        main = self.loss.main
        journal = self.journal
        if self.is_damaged_alone and self.has_database and not self.loss.pages:
            return self.main_check.problem if self.main_check else None
        has_journal = journal is not None and journal.size > 0 and not journal.is_stale
        is_alone = self.has_database and not self.loss.pages and not has_journal
        if not is_alone or main.readable or self.loss.raced or main.state is MainState.FOREIGN:
            return None
        return main.problem


def split_path(path: str) -> tuple[str, str]:
    """Return the paths of the database and its log; `path` may be either of them."""
    real = real_path(path)  # SQLite puts the log beside the target of a link
    if path.endswith("-wal") and _is_log(path):
        return path[:-4], path
    if _is_log(path):
        return path + ".no-database", path  # a log under another name
    return path, real + "-wal"


def _is_log(path: str) -> bool:
    try:
        fd = open_or_refuse(path)
    except (OSError, RefusedError):
        return False
    try:
        return int.from_bytes(read_at(fd, 4, 0), "big") | 1 == WAL_MAGIC | 1
    except OSError:
        return False  # whoever reads more says so
    finally:
        os.close(fd)


def inspect_log(
    path: str,
    *,
    names: tuple[str, str] | None = None,
    limit: int = 10,
    deep: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """Inspect the log of a database, or a log alone; the options are those of `loss.analyse_loss`.

    Raises `RefusedError` if both the database and the log are missing, or cannot be read.
    """
    database, log = split_path(path)
    with refusing_to_read(path):
        loss = analyse_loss(
            database, wal_path=log, names=names, limit=limit, deep=deep, progress=progress
        )
        report, index = read_users(database)
        journal = read_journal(os.path.realpath(database))
    who = blockers(index, report)
    return Inspection(database, log, os.path.exists(database), loss, report, who, journal)


def read_users(database: str) -> tuple[LockReport, WalIndex | None]:
    """Return the lock holders of a database's log, and the wal-index as it is now."""
    try:
        shm = open_or_refuse(os.path.realpath(database) + "-shm")
    except FileNotFoundError:
        return _NOBODY, None
    try:
        return read_locks(shm), read_index(shm)
    finally:
        os.close(shm)
