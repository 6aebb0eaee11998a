"""Opening a database after a raw look at it, and closing it with the fold.

Every connection of ours has ``wal_autocheckpoint=0``: each fold is one of ours, and is counted.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Self

from modelstore.database.sqlite import Database, sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_FULL,
    is_busy,
    primary_code,
    translate_sqlite_error,
)
from modelstore.errors import DamageError, LockedError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from modelstore.database.access import Access, PrivateCopy
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.files import HeldFiles
    from modelstore.database.fold import FoldTotals
    from modelstore.database.live_log import Generation, LiveLog
    from modelstore.database.probe import Probe
    from modelstore.errors import ModelstoreError

CACHE_SIZE = -64000
"""Of the page cache: negative, so in KiB."""

_TUNED = (
    "wal_autocheckpoint = 0",  # each fold is ours, and counted
    "synchronous = NORMAL",
    f"cache_size = {CACHE_SIZE}",
    "temp_store = MEMORY",
    "foreign_keys = ON",
)
_MACOS = ("fullfsync = ON", "checkpoint_fullfsync = ON")


def milliseconds(seconds: float) -> int:
    """Return a timeout as SQLite takes it."""
    return max(0, min(int(seconds * 1000), 2**31 - 1))


def tune(conn: sqlite3.Connection, timeout: float) -> None:
    """Set the pragmas; `timeout` in seconds. Reads the database, so that all of SQLite's errors
    of opening may come from here.
    """  # noqa: D205
    conn.execute(f"PRAGMA busy_timeout = {milliseconds(timeout)}")
    for pragma in (*_TUNED, *(_MACOS if sys.platform == "darwin" else ())):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute("PRAGMA schema_version").fetchone()


def set_wal(conn: sqlite3.Connection) -> str | None:
    """Put a database of ours into WAL mode; return why that cannot be had, None if it is.

    A file system without shared memory is noticed only when WAL is used: then the database goes
    back to a rollback journal, which works there. A full disk is raised.
    """
    try:
        (mode,) = conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        if is_busy(error):
            return "another process is using it"
        if primary_code(error) == SQLITE_FULL:
            raise
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")  # WAL without shared memory
        (mode,) = conn.execute("PRAGMA journal_mode = DELETE").fetchone()
        conn.execute("PRAGMA locking_mode = NORMAL")
        conn.execute("PRAGMA schema_version").fetchone()
        return f"the file system lacks what it needs ({error})"
    return None if mode == "wal" else f"SQLite keeps it in mode {mode}"


_SLICE = 0.2  # seconds that SQLite waits at a stretch: Ctrl-C works between them
_INTERRUPTED_PATIENCE = 1.0  # seconds that a fold may take after Ctrl-C or SIGTERM


class Purpose(Enum):
    """What a database is opened for. Only CREATE makes a file where there is none."""

    READ = "read"
    WRITE = "write"
    CREATE = "create"


class OpenDatabase:
    """A database with the tuned pragmas, its warnings, and the duty to fold its log at the end.

    `lock_seconds` is how long the last transaction held the write lock; `commits` counts those
    of `write`, also where Ctrl-C came just after one.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        *,
        held: HeldFiles,
        probe: Probe,
        access: Access,
        timeout: float,
        may_fold: bool,
        copy: PrivateCopy | None = None,
    ) -> None:
        self.db = Database(conn, recursive_triggers=False, execute_plugins=False)
        self.path = probe.path
        self.probe = probe
        self.warnings: list[str] = list(probe.warnings)
        self.access: Access = access
        self.timeout = timeout  # seconds
        self.journal_mode = str(conn.execute("PRAGMA journal_mode").fetchone()[0])
        self.lock_seconds = 0.0
        self.commits = 0
        self.has_written = False
        self.checkpoint: Checkpoint | None = None
        self.held = held
        self.log: LiveLog | None = None
        self.account: FoldTotals | None = None
        self._generation: Generation = None
        self._waited = 0.0  # seconds of the patience that are gone
        self.may_fold = may_fold
        self._copy = copy

    @property
    def conn(self) -> sqlite3.Connection:
        """The plain connection below the sqlite-utils handle."""
        return self.db.conn

    def follow_log(self) -> None:
        """Begin to watch the log; right after the first read, while SQLite has it open."""
        if self.journal_mode != "wal" or self.access not in {"rw", "ro"} or self.log is not None:
            return
        from modelstore.database.fold import FoldTotals
        from modelstore.database.live_log import LiveLog

        self.log = LiveLog(self.conn, self.held, self.connect_again)
        self.account = FoldTotals()

    def connect_again(self) -> sqlite3.Connection:
        """Return one more connection of the same kind; the caller closes it before this one."""
        from modelstore.database.access import connect

        path = self._copy.path if self._copy is not None else self.path
        conn = connect(path, self.access)
        tune(conn, self.timeout)
        return conn

    def wrote(self) -> None:
        """Note that we just committed: up to here the log must be folded before we are done."""
        self.has_written = True
        index = self.log.index() if self.log is not None else None
        if index is not None and self.account is not None:
            self.account.ledger.see(index)
        self._generation = index.salt if index is not None else None

    @contextmanager
    def write(self) -> Iterator[Database]:
        """Hold the write lock for a block: commit at its end, roll back on any error.

        Yields the sqlite-utils handle. Raises `LockedError` when the lock cannot be had in time.
        """
        self._begin()
        begun = time.monotonic()
        try:
            yield self.db
            self._commit()
        except BaseException as error:
            with suppress(sqlite3.Error):  # the error that led here is the one to report
                self.db.rollback()
            if isinstance(error, sqlite3.Error):
                raise self.meaning(error, wrote=False) or error from error
            raise
        finally:
            self.lock_seconds = time.monotonic() - begun
        self.wrote()

    def _begin(self) -> None:
        try:
            self._patiently("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if is_busy(error):
                raise LockedError(
                    f"{self.probe.name} is locked by another writer{self._writer()}: "
                    "nothing was written",
                    hint="try again, or wait longer with --timeout",
                ) from error
            raise self.meaning(error, wrote=False) or error from error

    def _writer(self) -> str:
        """Name the process that holds the write lock, where that can be known."""
        from modelstore.text import visible

        report = self.log.locks() if self.log is not None else None
        for holder in report.of("WRITE") if report is not None else ():
            if not holder.is_own:
                return f", pid {holder.pid or 'unknown'} ({visible(holder.command, 80)})"
        return ""

    def _commit(self) -> None:
        """Commit; without a log, readers may hold that up."""
        self.has_written = True  # before it: Ctrl-C may come as soon as it is done
        try:
            self._patiently("COMMIT")
        except sqlite3.Error:
            raise
        except BaseException:
            self.commits += not self.conn.in_transaction
            raise
        self.commits += 1

    def _patiently(self, statement: str) -> None:
        """Run a statement until it gets its lock or patience ends, in slices that Ctrl-C ends."""
        deadline = time.monotonic() + self.timeout
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            self.conn.execute(f"PRAGMA busy_timeout = {int(min(_SLICE, remaining) * 1000)}")
            try:
                self.conn.execute(statement)
            except sqlite3.OperationalError as error:
                is_over = statement == "COMMIT" and not self.conn.in_transaction  # rolled back
                if is_over or not is_busy(error) or remaining <= 0:
                    raise
                time.sleep(min(0.001, remaining))
            else:
                return
            finally:
                self.conn.execute(f"PRAGMA busy_timeout = {milliseconds(self.timeout)}")

    @property
    def patience(self) -> float:
        """The seconds that are left to wait for a fold: a command has one patience in all."""
        return max(0.0, self.timeout - self._waited)

    def spend(self, seconds: float) -> None:
        """Take what was waited from the patience."""
        self._waited += seconds

    def fold_now(self) -> Checkpoint:
        """Fold what was committed so far, between batches, without waiting for anybody."""
        return self._fold(patience=0.0)

    def _fold(self, patience: float) -> Checkpoint:
        from modelstore.database.fold import fold, without_fold

        if self.log is None or self.account is None or not self.may_fold or self.access != "rw":
            return without_fold(self)
        return fold(
            self.log,
            self.account,
            generation=self._generation,
            wrote=self.has_written,
            patience=patience,
        )

    def close(self, *, interrupted: bool = False) -> Checkpoint:
        """Fold, close, and return what the fold did; harmless to repeat.

        A command that only read has no patience; one that was interrupted has little.
        """
        if self.checkpoint is not None:
            return self.checkpoint
        from modelstore.database.fold import interrupted_fold

        patience = self.patience if self.has_written else 0.0
        if interrupted:
            patience = min(patience, _INTERRUPTED_PATIENCE)
        try:
            if self.conn.in_transaction:
                with suppress(sqlite3.Error):
                    self.conn.rollback()
            self.checkpoint = self._fold(patience)
        except BaseException:
            self.checkpoint = interrupted_fold(self)
            raise
        finally:
            self._release()
        self.checkpoint = self.checkpoint.after_closing(self.path)
        return self.checkpoint

    def _release(self) -> None:
        """Close the connections, then the raw descriptors: in this order (the POSIX lock trap)."""
        with suppress(sqlite3.Error):
            if self.log is not None:
                self.log.close()
        with suppress(sqlite3.Error):
            self.conn.close()
        self.held.release()
        if self._copy is not None:
            self._copy.remove()

    def __enter__(self) -> Self:
        """Return the database itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and fold; the body's own error is never hidden by trouble with that."""
        if error is None:
            self.close()
            return
        meaning = self.meaning(error)
        with suppress(Exception):
            self.close(interrupted=not isinstance(error, Exception))
        if meaning is not None:
            raise meaning from error

    def meaning(
        self, error: BaseException | None, *, wrote: bool | None = None
    ) -> ModelstoreError | None:
        """Return what an error of SQLite's means for this database, while it still is open.

        `wrote` is whether something that counts was committed; by default, whether anything was.
        Where one of the files is gone, that is what the error comes from. None for any other
        error, and for the fault of a statement.
        """
        if not isinstance(error, sqlite3.Error):
            return None
        lost = self.log.what_is_gone() if self.log is not None and not is_busy(error) else None
        if lost is not None:
            return DamageError(f"{self.probe.name}: {lost}", hint="see what cleans up there")
        return translate_sqlite_error(
            error, self.path, wrote=self.has_written if wrote is None else wrote
        )


def open_database(
    path: str, *, purpose: Purpose, timeout: float = 5.0, fold: bool = True
) -> OpenDatabase:
    """Open a database after a raw look at it; the caller closes it, which folds its log.

    `timeout` is the patience in seconds, for locks and for the fold alike. Without `fold`, no
    byte of the database or of a log with content is changed. Raises `RefusedError` for what must
    not be opened, `LockedError`, and `DamageError`.
    """
    from modelstore.database.open import open_to_read, open_to_write

    if purpose is Purpose.READ:
        return open_to_read(path, timeout=timeout, fold=fold)
    if not fold:
        raise RefusedError("a command that writes cannot do without the fold", hint=None)
    return open_to_write(path, timeout=timeout, create=purpose is Purpose.CREATE)
