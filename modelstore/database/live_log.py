"""The log of a database that this process has open: wal-index, file, locks, and checkpoints."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from modelstore.database.files import (
    KEEPS_DESCRIPTORS,
    HeldFiles,
    identity_of,
    sync_directory,
    sync_file,
)
from modelstore.database.ledger import OTHER_CHECKPOINT, CheckpointRow
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, sqlite3
from modelstore.database.sqlite_errors import SQLITE_LOCKED, is_busy, primary_code
from modelstore.wal.index import WalIndex, contradicts, pages_to_copy, read_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.handle import Database
    from modelstore.wal.locks import Blocker, LockReport

_OWN_DESCRIPTORS = "/proc/self/fd"
_GATE_TIMEOUT = 20  # milliseconds to wait for the write lock; others wait no longer for us

LOG_DELETED = (
    "the log was deleted while in use; keep the processes that have it open running: "
    "they alone still see what is not in the main file"
)
LOG_EMPTIED = (
    "the log was emptied or overwritten while in use; keep the processes that have it open "
    "running: they may still see what is not in the main file"
)
DATABASE_REPLACED = "the database file was deleted or replaced while in use"


class LiveLog:
    """An open WAL: everything that a fold must know about it, and each way to checkpoint it."""

    def __init__(
        self,
        db: Database,
        held: HeldFiles,
        connect: Callable[[], Database],
        *,
        page_size: int,
        wal: int | None,
        shm: int | None,
    ) -> None:
        self.page_size = page_size  # bytes
        self.sync_error: OSError | None = None  # of the main file; the log must be kept then
        self._db = db
        self._held = held
        self._connect = connect
        self._gate: Database | None = None
        self._wal = wal
        self._shm = shm
        self._was_replaced = KEEPS_DESCRIPTORS and not self._is_open_elsewhere()

    @classmethod
    @contextmanager
    def follow(
        cls, db: Database, held: HeldFiles, connect: Callable[[], Database]
    ) -> Iterator[Self]:
        """Watch the log during the block, which ends before `db` is closed.

        Call it right after the first read on `db`, while SQLite has -wal and -shm open. `connect`
        opens one more connection of the same kind.
        """
        log = cls(
            db,
            held,
            connect,
            page_size=int(db.execute("PRAGMA page_size").fetchone()[0]),
            wal=held.open("-wal") if KEEPS_DESCRIPTORS else None,
            shm=held.open("-shm") if KEEPS_DESCRIPTORS else None,
        )
        try:
            yield log
        finally:
            if log._gate is not None:
                with suppress(sqlite3.Error):
                    log._gate.close()

    def _is_open_elsewhere(self) -> bool:
        """Tell whether SQLite has the file open that the path of the -wal now names."""
        if self._wal is None:
            return False
        wanted = os.fstat(self._wal)
        try:
            names = os.listdir(_OWN_DESCRIPTORS)
        except OSError:
            return True  # this system has no such table: believe the path
        for name in names:
            with suppress(OSError):
                same = os.path.samestat(os.fstat(int(name)), wanted)
                if same and not self._held.knows(int(name)):
                    return True
        return False

    def index(self) -> WalIndex | None:
        """Return the wal-index as it is now; None where it cannot be read."""
        try:
            found = read_index(self._shm) if self._shm is not None else None
        except OSError:
            return None
        return found if found is not None and found.is_settled else None

    def pages_to_copy(self) -> int:
        """Return how many pages a checkpoint has to copy now; 0 where that cannot be read."""
        index = self.index()
        return 0 if index is None or self._shm is None else pages_to_copy(self._shm, index)

    def why_gone(self) -> str | None:
        """Say what somebody did to the log that SQLite has open; None if nobody did anything."""
        if self._is_deleted():
            return LOG_DELETED
        return LOG_EMPTIED if self._is_emptied() else None

    def _is_emptied(self) -> bool:
        if self._shm is None or self._wal is None:
            return False
        try:
            return contradicts(self._shm, self._wal)
        except OSError:
            return False  # nothing contradicts what cannot be read

    def _is_deleted(self) -> bool:
        """Tell whether the path of the -wal no longer names the file that SQLite has open."""
        if self._wal is None:
            return self._was_replaced
        try:
            now = os.stat(self._held.path + "-wal")
        except OSError:
            return True
        return self._was_replaced or identity_of(now) != identity_of(os.fstat(self._wal))

    def database_is_gone(self) -> bool:
        """Tell whether the path of the database no longer names the file that SQLite has open."""
        try:
            return identity_of(os.stat(self._held.path)) != self._held.identity
        except OSError:
            return True

    def what_is_gone(self) -> str | None:
        """Say which of the two files was deleted, replaced or emptied; None if neither was."""
        return DATABASE_REPLACED if self.database_is_gone() else self.why_gone()

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the -wal (0 if it is absent) and of the database."""
        try:
            wal = os.stat(self._held.path + "-wal").st_size
        except OSError:
            wal = 0
        return wal, os.fstat(self._held.db).st_size

    def room(self) -> tuple[int, int]:
        """Return the bytes that the main file must grow by to hold all, and those that are free."""
        index = self.index()
        pages = index.page_count if index is not None else 0
        needed = max(0, pages * self.page_size - self.sizes()[1])
        from shutil import disk_usage

        return needed, disk_usage(os.path.dirname(self._held.path)).free

    def sync_database(self) -> None:
        """Sync the main file. Raises OSError, and so does every later call.

        The kernel tells of a page that it could not write once, and forgets the page: a second
        sync that succeeds proves nothing (lwn.net/Articles/752063).
        """
        if self.sync_error is not None:
            raise self.sync_error
        try:
            sync_file(self._held.db, self._held.path)
        except OSError as error:
            self.sync_error = error
            raise

    def sync(self) -> None:
        """Sync the -wal and its directory. Raises OSError."""
        sync_file(self._wal, self._held.path + "-wal")
        sync_directory(os.path.dirname(self._held.path))

    def locks(self) -> LockReport | None:
        """Return the holders of the log's locks; None where there is no -shm to ask about."""
        if self._shm is None:
            return None
        from modelstore.wal.locks import read_locks  # a `list` of a folded database needs no locks

        return read_locks(self._shm)

    def blockers(self) -> tuple[tuple[Blocker, ...], bool, str | None]:
        """Return the processes that block a fold, whether the list is complete, and why not."""
        index, report = self.index(), self.locks()
        if index is None or report is None:
            return (), False, "who holds locks is unknown here"
        from modelstore.wal.locks import blockers

        return blockers(index, report), report.complete, report.note

    def is_pinned(self, index: WalIndex) -> bool:
        """Tell whether a reader of an older frame would stop a checkpoint halfway.

        Asks twice: a reader may come and go between the look at its mark and at its lock.
        """
        if not index.pending:
            return False
        from modelstore.wal.locks import blockers

        for now in (index, self.index()):
            report = self.locks()
            if report is None or not any(
                blocker.mark and "backfill" in blocker.blocks
                for blocker in blockers(now, report, include_own=True)
            ):
                return False
        return True

    def backfill(self) -> CheckpointRow:
        """Copy what readers allow, without making any writer wait; never truncate."""
        if not HAS_WAL_RESET_BUG:
            return self.run("PASSIVE")
        # On an affected SQLite a PASSIVE that overlaps a commit which restarts the log loses
        # frames. While a connection of ours holds the write lock, nobody commits.
        with self._write_lock() as is_held:
            return self.run("PASSIVE") if is_held else OTHER_CHECKPOINT

    def truncate(self) -> CheckpointRow | None:
        """Try once to empty the log; return None on an affected SQLite, which must not try.

        A TRUNCATE that misses the write lock turns into the PASSIVE that loses frames, and somebody
        who comes between a look at the locks and the TRUNCATE can make it miss. SQLite empties the
        log when the last connection closes, with everybody else locked out.
        """
        return None if HAS_WAL_RESET_BUG else self.run("TRUNCATE")

    def run(self, mode: str) -> CheckpointRow:
        """Run one checkpoint in a mode of SQLite's, without waiting for any lock.

        An open cursor on a connection keeps it from checkpointing at all; another connection can.
        A log that somebody emptied is not copied: SQLite would take holes for pages.
        """
        if self._is_emptied():
            return OTHER_CHECKPOINT
        try:
            return _run(self._db, mode)
        except sqlite3.OperationalError as error:
            if primary_code(error) != SQLITE_LOCKED:
                raise
        other = self._connect()
        try:
            return OTHER_CHECKPOINT if self.database_is_gone() else _run(other, mode)
        finally:
            other.close()

    @contextmanager
    def _write_lock(self) -> Iterator[bool]:
        """Hold the write lock with a connection of its own; yield False if another has it."""
        if self._gate is None:
            self._gate = self._connect()
            self._gate.execute(f"PRAGMA busy_timeout = {_GATE_TIMEOUT}")
        try:
            self._gate.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            yield False
            return
        try:
            yield True
        finally:
            self._gate.rollback()


def _run(db: Database, mode: str) -> CheckpointRow:
    # The C API's sqlite3_wal_checkpoint_v2 is out of reach, and sqlite-utils has no checkpoint.
    before = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute("PRAGMA busy_timeout = 0")
    try:
        return CheckpointRow(*db.execute(f"PRAGMA main.wal_checkpoint({mode})").fetchone())
    finally:
        db.execute(f"PRAGMA busy_timeout = {before}")
