"""The log of a database that we have open: its wal-index, its file, and attempts to fold it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from modelstore.store.descriptors import KEEPS_DESCRIPTORS, HeldFiles, identity_of
from modelstore.store.durability import sync_directory, sync_file
from modelstore.store.failures import SQLITE_LOCKED, is_busy, primary_code
from modelstore.store.ledger import Row
from modelstore.store.sqlite import HAS_WAL_RESET_BUG, sqlite3
from modelstore.wal.index import WalIndex, read_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.wal.locks import Blocker, LockReport

_OWN_DESCRIPTORS = "/proc/self/fd"
_GATE_TIMEOUT = 20  # milliseconds to wait for the write lock; others wait no longer for us
_OTHER_CHECKPOINT = Row(1, -1, -1)

LOG_DELETED = (
    "the log was deleted while in use; keep the processes that have it open running: "
    "they alone still see what is not in the main file"
)
DATABASE_REPLACED = "the database file was deleted or replaced while in use"


class LiveLog:
    """What folding needs to know of an open WAL database.

    Made right after the first read on `conn`, when SQLite has its -wal and -shm open. `connect`
    opens one more connection of the same kind.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        held: HeldFiles,
        connect: Callable[[], sqlite3.Connection],
    ) -> None:
        self.conn = conn
        self.held = held
        self._connect = connect
        self._gate: sqlite3.Connection | None = None
        self.page_size = int(conn.execute("PRAGMA page_size").fetchone()[0])  # bytes
        self._shm = held.open("-shm") if KEEPS_DESCRIPTORS else None
        self._wal = held.open("-wal") if KEEPS_DESCRIPTORS else None
        self._was_replaced = KEEPS_DESCRIPTORS and not self._is_open_elsewhere()

    def _is_open_elsewhere(self) -> bool:
        """Tell whether SQLite has open what we just opened by the path of the -wal."""
        if self._wal is None:
            return False
        wanted = os.fstat(self._wal)
        try:
            names = os.listdir(_OWN_DESCRIPTORS)
        except OSError:
            return True  # no such table here: believe the path
        for name in names:
            with suppress(OSError):
                same = os.path.samestat(os.fstat(int(name)), wanted)
                if same and not self.held.knows(int(name)):
                    return True
        return False

    def index(self) -> WalIndex | None:
        """Return the wal-index as it is now; None where it cannot be read."""
        found = read_index(self._shm) if self._shm is not None else None
        return found if found is not None and found.is_settled else None

    def is_gone(self) -> bool:
        """Tell whether the path of the -wal no longer names the file that SQLite has open."""
        if self._wal is None:
            return self._was_replaced
        try:
            now = os.stat(self.held.path + "-wal")
        except OSError:
            return True
        return self._was_replaced or identity_of(now) != identity_of(os.fstat(self._wal))

    def database_is_gone(self) -> bool:
        """Tell whether the path of the database no longer names the file that SQLite has open."""
        try:
            return identity_of(os.stat(self.held.path)) != self.held.identity
        except OSError:
            return True

    def what_is_gone(self) -> str | None:
        """Say which of the two files was deleted or replaced; None where both are there."""
        if self.database_is_gone():
            return DATABASE_REPLACED
        return LOG_DELETED if self.is_gone() else None

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the -wal (0 if it is absent) and of the database."""
        try:
            wal = os.stat(self.held.path + "-wal").st_size
        except OSError:
            wal = 0
        return wal, os.fstat(self.held.db).st_size

    def sync_database(self) -> None:
        """Bring the main file to the disk. Raises OSError."""
        sync_file(self.held.db, self.held.path)

    def sync(self) -> None:
        """Bring the -wal and its name to the disk. Raises OSError."""
        sync_file(self._wal, self.held.path + "-wal")
        sync_directory(os.path.dirname(self.held.path))

    def locks(self) -> LockReport | None:
        """Return who holds which lock of the log; None where there is no -shm to ask about."""
        if self._shm is None:
            return None
        from modelstore.wal.locks import holders

        return holders(self._shm)

    def blockers(self) -> tuple[tuple[Blocker, ...], bool, str | None]:
        """Return who is in the way of folding, whether that is all of them, and if not, why."""
        index, report = self.index(), self.locks()
        if index is None or report is None:
            return (), False, "who holds locks is unknown here"
        from modelstore.wal.locks import blockers

        return blockers(index, report), report.complete, report.note

    def is_pinned(self, index: WalIndex) -> bool:
        """Tell whether a reader of an older frame would stop a checkpoint halfway.

        Asked twice, for a reader may come and go between the look at its mark and at its lock.
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

    def backfill(self) -> Row:
        """Copy what may be copied, without keeping any writer waiting; never truncates."""
        if not HAS_WAL_RESET_BUG:
            return self.run("PASSIVE", 0)
        # On an affected SQLite a PASSIVE that overlaps a commit which restarts the log loses
        # frames. While a connection of ours holds the write lock, nobody commits.
        with self._write_lock() as is_held:
            return self.run("PASSIVE", 0) if is_held else _OTHER_CHECKPOINT

    def truncate(self) -> Row | None:
        """Try once to empty the log; None where an affected SQLite must not try.

        A TRUNCATE that misses the write lock turns into the PASSIVE that loses frames, and whoever
        comes between a look at the locks and the TRUNCATE can make it miss it. SQLite empties the
        log when the last connection is closed, with everybody else locked out.
        """
        if HAS_WAL_RESET_BUG:
            return None
        return self.run("TRUNCATE", 0)

    def run(self, mode: str, timeout: int) -> Row:
        """Run one checkpoint of a mode of SQLite's, waiting `timeout` milliseconds for locks.

        An open cursor of `conn` keeps it from checkpointing at all; another connection can.
        """
        try:
            return _run(self.conn, mode, timeout)
        except sqlite3.OperationalError as error:
            if primary_code(error) != SQLITE_LOCKED:
                raise
        other = self._connect()
        try:
            return _run(other, mode, timeout)
        finally:
            other.close()

    @contextmanager
    def _write_lock(self) -> Iterator[bool]:
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
            self._gate.execute("ROLLBACK")

    def close(self) -> None:
        """Close what was opened beside `conn`; before `conn` itself is closed."""
        if self._gate is not None:
            self._gate.close()
            self._gate = None


def _run(conn: sqlite3.Connection, mode: str, timeout: int) -> Row:
    before = conn.execute("PRAGMA busy_timeout").fetchone()[0]
    conn.execute(f"PRAGMA busy_timeout = {timeout}")
    try:
        return Row(*conn.execute(f"PRAGMA main.wal_checkpoint({mode})").fetchone())
    finally:
        conn.execute(f"PRAGMA busy_timeout = {before}")
