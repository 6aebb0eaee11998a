"""The log of a database that we have open: its wal-index, its file, and attempts to fold it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.files import (
    KEEPS_DESCRIPTORS,
    HeldFiles,
    identity_of,
    sync_directory,
    sync_file,
)
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, sqlite3
from modelstore.database.sqlite_errors import SQLITE_LOCKED, is_busy, primary_code
from modelstore.wal.index import WalIndex, read_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.wal.index import WalIndex
    from modelstore.wal.locks import Blocker, LockReport

Generation = tuple[int, int] | None
"""The salts of a log; None where the wal-index cannot be read."""


class CheckpointRow(NamedTuple):
    """What ``PRAGMA wal_checkpoint`` returns: frames, or -1 where SQLite could not even look."""

    busy: int
    log: int
    checkpointed: int

    @property
    def is_other_checkpoint(self) -> bool:
        """Whether another checkpoint was at work; SQLite does not wait for it."""
        return self.log < 0


@dataclass(slots=True)
class GenerationFrames:
    """Frames of one generation of the log, and how many of them are in the main file."""

    log: int = 0
    checkpointed: int = 0


@dataclass(slots=True)
class Ledger:
    """The frames of each generation that a command met, and those that it `moved` itself.

    `exact` ends when a commit slipped in that nobody counted.
    """

    generations: dict[Generation, GenerationFrames] = field(default_factory=dict)
    moved: int = 0
    exact: bool = True
    _changes: int | None = None  # iChange at the last look
    _current: Generation = None

    @property
    def log(self) -> int:
        """Frames of all generations."""
        return sum(count.log for count in self.generations.values())

    @property
    def checkpointed(self) -> int:
        """Those of them that are in the main file."""
        return sum(count.checkpointed for count in self.generations.values())

    def see(self, index: WalIndex) -> None:
        """Note what the wal-index says.

        A log restarts only when all of it is folded, and with the first commit that follows: if
        no more than that one happened since the last look, none escaped the count.
        """
        if index.salt != self._current:
            self._fold_all()
            if self._changes is not None and _since(self._changes, index) > 1:
                self.exact = False
            self._current = index.salt
        self._changes = index.change_counter
        self._raise(index.salt, index.max_frame, min(index.backfill, index.max_frame))

    def backfilled(
        self, before: WalIndex | None, row: CheckpointRow, after: WalIndex | None
    ) -> None:
        """Note the row of a checkpoint that left the log as it is."""
        if before is None or after is None:
            if not row.is_other_checkpoint:
                self.moved += max(0, row.checkpointed - self._count(None).checkpointed)
                self._raise(None, row.log, row.checkpointed)
                self.exact = self.exact and row.log == 0
            return
        self.see(before)
        if before.salt == after.salt:
            self.moved += max(0, row.checkpointed - before.backfill)
            self._raise(before.salt, row.log, row.checkpointed)
        else:  # restarted before or after our row was made: what we moved of it is unknown
            self.exact = False
        self.see(after)

    def truncated(self, before: WalIndex | None, after: WalIndex | None) -> None:
        """Note a TRUNCATE that succeeded: all that the log held is in the main file."""
        if before is None or after is None:
            self.moved += self.log - self.checkpointed
            self._fold_all()
            return
        self.see(before)
        self.moved += before.pending
        self._fold_all()
        if _since(before.change_counter, after):
            self.exact = False  # committed and folded between the two looks
        self._changes, self._current = after.change_counter, after.salt
        self._raise(after.salt, after.max_frame, after.backfill)

    def _count(self, generation: Generation) -> GenerationFrames:
        return self.generations.setdefault(generation, GenerationFrames())

    def _raise(self, generation: Generation, log: int, checkpointed: int) -> None:
        count = self._count(generation)
        count.log = max(count.log, log)
        count.checkpointed = max(count.checkpointed, checkpointed)

    def _fold_all(self) -> None:
        for count in self.generations.values():
            count.checkpointed = count.log


def _since(changes: int, index: WalIndex) -> int:
    """Return how many commits there were since iChange was `changes`; it wraps."""
    return (index.change_counter - changes) % (1 << 32)


_OWN_DESCRIPTORS = "/proc/self/fd"
_GATE_TIMEOUT = 20  # milliseconds to wait for the write lock; others wait no longer for us
_OTHER_CHECKPOINT = CheckpointRow(1, -1, -1)

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
        from modelstore.wal.locks import read_locks

        return read_locks(self._shm)

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

    def backfill(self) -> CheckpointRow:
        """Copy what may be copied, without keeping any writer waiting; never truncates."""
        if not HAS_WAL_RESET_BUG:
            return self.run("PASSIVE", 0)
        # On an affected SQLite a PASSIVE that overlaps a commit which restarts the log loses
        # frames. While a connection of ours holds the write lock, nobody commits.
        with self._write_lock() as is_held:
            return self.run("PASSIVE", 0) if is_held else _OTHER_CHECKPOINT

    def truncate(self) -> CheckpointRow | None:
        """Try once to empty the log; None where an affected SQLite must not try.

        A TRUNCATE that misses the write lock turns into the PASSIVE that loses frames, and whoever
        comes between a look at the locks and the TRUNCATE can make it miss it. SQLite empties the
        log when the last connection is closed, with everybody else locked out.
        """
        if HAS_WAL_RESET_BUG:
            return None
        return self.run("TRUNCATE", 0)

    def run(self, mode: str, timeout: int) -> CheckpointRow:
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


def _run(conn: sqlite3.Connection, mode: str, timeout: int) -> CheckpointRow:
    before = conn.execute("PRAGMA busy_timeout").fetchone()[0]
    conn.execute(f"PRAGMA busy_timeout = {timeout}")
    try:
        return CheckpointRow(*conn.execute(f"PRAGMA main.wal_checkpoint({mode})").fetchone())
    finally:
        conn.execute(f"PRAGMA busy_timeout = {before}")
