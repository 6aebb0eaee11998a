"""An open database: write to it in short transactions, fold its log, close it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from modelstore.database.checkpoint import Checkpoint
from modelstore.database.evidence import holder_reasons
from modelstore.database.files import sync_directory, sync_file
from modelstore.database.fold import add_blockers_and_sync, fold, interrupted_fold
from modelstore.database.handle import keep_log_on_close, milliseconds
from modelstore.database.holders import look_at_holders
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy, is_read_only, translate_sqlite_error
from modelstore.errors import DamageError, LockedError, RefusedError
from modelstore.text import process_name, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from modelstore.database.files import HeldFiles
    from modelstore.database.fold import FoldTotals
    from modelstore.database.handle import Access, Database
    from modelstore.database.ledger import Generation
    from modelstore.database.live_log import LiveLog
    from modelstore.database.probe import Probe
    from modelstore.errors import ModelstoreError

_SLICE = 0.2  # seconds that SQLite waits at a stretch: Ctrl-C works between two of them
_FRESH = 1.0  # seconds for which a look at the holders counts, where nothing is at stake
_INTERRUPTED_PATIENCE = 1.0  # seconds that a fold may take after Ctrl-C or SIGTERM


Check = Callable[["Database", str], bool]
"""Look at the database just opened at a path; raise if it must not be used.

Return True for a database of the caller's own: it is put into WAL mode, as a new one is. The
journal mode of another program's database stays as it is.
"""


class Options(NamedTuple):
    """The wishes of the caller of `open_database`."""

    timeout: float  # seconds
    fold: bool = True
    create: bool = False
    check: Check | None = None


class OpenDatabase:
    """A database with our pragmas, and the duty to fold its log at the end.

    `db` is the sqlite-utils handle. `timeout` is the patience in seconds, for locks and for the
    fold. `lock_seconds` is the time that the last transaction held the write lock. `commits`
    counts the transactions of `write`, even one that Ctrl-C follows at once. Only `open_database`
    makes one.
    """

    def __init__(
        self,
        db: Database,
        probe: Probe,
        held: HeldFiles,
        *,
        access: Access,
        options: Options,
        totals: FoldTotals | None,
        connect_again: Callable[[], Database],
        is_guarded: bool,
    ) -> None:
        self.db = db
        self.probe = probe
        self.path = probe.path
        self.access = access
        self.journal_mode = db.journal_mode
        self.timeout = options.timeout
        self.may_fold = options.fold
        self.connect_again = connect_again  # the caller closes what it returns before `db`
        self.totals = totals  # None where there is no log to watch
        self.warnings: list[str] = list(probe.warnings)
        self.not_folded: tuple[str, ...] = ()  # the warnings that say why nothing may be folded
        self.lock_seconds = 0.0
        self.commits = 0
        self.has_written = False
        self.checkpoint: Checkpoint | None = None
        self.is_own = False  # the caller's check says so
        self.reasons = probe.reasons  # evidence against a fold; a later look may add to it
        self._is_guarded = is_guarded
        self.holders = probe.holders  # the last look at the processes that have it open
        self._looked = time.monotonic()
        self._held = held
        self._generation: Generation = None
        self._waited = 0.0  # seconds of the patience that are gone
        self._resources = ExitStack()

    @property
    def conn(self) -> sqlite3.Connection:
        """The plain connection below the sqlite-utils handle."""
        return self.db.conn

    @property
    def log(self) -> LiveLog | None:
        """The log that SQLite has open; None where there is none to watch."""
        return self.totals.log if self.totals is not None else None

    def take_over(self, resources: ExitStack) -> None:
        """Become the owner of open files and connections: `close` closes them, the last first."""
        self._resources = resources.pop_all()

    @contextmanager
    def write(self) -> Iterator[Database]:
        """Hold the write lock for a block: commit at its end, roll back on any error.

        Yields the sqlite-utils handle. Raises `LockedError` when the lock cannot be had in time,
        and `RefusedError` if somebody took the files away from under their users meanwhile.
        """
        self._begin()
        begun = time.monotonic()
        try:
            self._refuse_in_danger()
            yield self.db
            self._refuse_without_log()
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

    def _refuse_in_danger(self) -> None:
        """Write nothing if a process uses other files: SQLite itself may have made a new log."""
        self.look_again()
        if self.reasons:
            reason = self.reasons[0]
            raise RefusedError(
                f"nothing more is written to {visible(self.path, 200)}: {reason.text}",
                hint=reason.hint,
            )
        self._refuse_without_log()

    def _refuse_without_log(self) -> None:
        """Commit nothing into a log without a name or without its frames: nobody could read it."""
        gone = self.log.what_is_gone() if self.log is not None else None
        if gone is not None:
            raise RefusedError(
                f"nothing more is written to {visible(self.path, 200)}: {gone}",
                hint="see what cleans up there",
            )

    def wrote(self) -> None:
        """Note that rows of ours are committed: the log must be folded up to here."""
        self.has_written = True
        index = self.log.index() if self.log is not None else None
        if index is not None and self.totals is not None:
            self.totals.ledger.see(index)
        self._generation = index.salt if index is not None else None

    def _begin(self) -> None:
        try:
            self._execute_patiently("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if is_busy(error):
                raise LockedError(
                    f"{self.probe.name} is locked by another writer{self._writer()}: "
                    "nothing was written",
                    hint="try again, or wait longer with --timeout",
                ) from error
            raise self.meaning(error, wrote=False) or error from error

    def _writer(self) -> str:
        """Name the process that holds the write lock, if the system tells."""
        report = self.log.locks() if self.log is not None else None
        for holder in report.of("WRITE") if report is not None else ():
            if not holder.is_own:
                facts = ("stopped: waiting will not help",) if holder.is_stopped else ()
                return f", {process_name(holder.pid, visible(holder.command, 100), *facts)}"
        if self.log is None:
            for owner in look_at_holders(self.path, known=self.holders, certain=False).holders:
                if owner.locks_database(exclusively=True):
                    return f", {process_name(owner.pid, visible(owner.command, 100))}"
        return ""

    def _commit(self) -> None:
        """Commit, waiting for readers: without a log, they may hold a commit up."""
        self.has_written = True  # before the commit: Ctrl-C may come right after it
        try:
            self._execute_patiently("COMMIT")
        except sqlite3.Error:
            raise
        except BaseException:
            self.commits += not self.conn.in_transaction
            raise
        self.commits += 1

    def _execute_patiently(self, statement: str) -> None:
        """Repeat a statement until it gets its lock or time is up, in slices that Ctrl-C ends."""
        deadline = time.monotonic() + self.timeout
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            self.conn.execute(f"PRAGMA busy_timeout = {milliseconds(min(_SLICE, remaining))}")
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
        """The seconds left to wait for a fold: a command has one patience for all its folds."""
        return max(0.0, self.timeout - self._waited)

    def spend(self, seconds: float) -> None:
        """Take a wait from the patience."""
        self._waited += seconds

    def why_not_fold(self) -> str | None:
        """Return why this command must not or cannot fold the log; None where it may."""
        if self.reasons:
            return f"nothing was folded: {self.reasons[0].text}"
        if not self.may_fold:
            return "nothing was folded, as asked"
        if self.access == "copy":
            return "nothing was folded: a copy was read"
        if self.journal_mode != "wal" and self.access != "immutable":
            return f"no log to fold: the database is in journal mode {self.journal_mode}"
        return None if self.access == "rw" else "nothing was folded: the database is read-only here"

    def look_again(self, *, after: float = 0.0) -> None:
        """Look once more for evidence against a fold, `after` seconds since the last look at least.

        Between two looks a clean-up job may delete the log, or an application may drop its locks.
        """
        if self.access != "rw" or self.totals is None or self.reasons:
            return
        if time.monotonic() - self._looked < after:
            return
        self.holders = look_at_holders(self.path, known=self.holders)
        self.reasons = holder_reasons(self.holders)
        self._looked = time.monotonic()

    def fold_now(self) -> Checkpoint:
        """Fold the commits so far, between batches, without waiting for anybody."""
        self.look_again(after=_FRESH)
        return self._fold(patience=0.0)

    def _fold(self, patience: float) -> Checkpoint:
        if self.totals is None or self.why_not_fold() is not None:
            return self.without_fold()
        result = fold(
            self.totals, wrote=self.has_written, generation=self._generation, patience=patience
        )
        return self._limited(result)

    def without_fold(self) -> Checkpoint:
        """Return the result of a command that has nothing to fold, or must not fold.

        Syncs what was written without a log: SQLite syncs the database, but not the removal of its
        rollback journal.
        """
        result = self._limited(self._unfolded())
        if self.has_written:
            try:
                sync_file(self._held.db, self.path)
                sync_directory(os.path.dirname(self.path))
            except OSError as error:
                reason = f"the database could not be synced: {error.strerror}"
                return result._replace(in_main_file=False, reason=reason)
        result = result._replace(reason=self.why_not_fold())
        if self.log is None:
            return result
        result = add_blockers_and_sync(
            self.log, result, wrote=self.has_written and bool(self.reasons)
        )
        busy = any(blocker.holds_up_folding for blocker in result.blockers)
        return result._replace(busy=busy)

    def _unfolded(self) -> Checkpoint:
        found, index = self.probe, self.log.index() if self.log is not None else None
        log = checkpointed = 0
        if index is not None:
            log, checkpointed = index.max_frame, index.backfill
        elif found.log is not None:
            log = found.log.max_frame
        return Checkpoint(
            mode="none",
            log=log,
            checkpointed=checkpointed,
            left=log - checkpointed,
            in_main_file=log == checkpointed and not self.reasons,
            forbidden=tuple(str(reason.code) for reason in self.reasons),
            wal_size_before=found.wal_size or 0,
            wal_size_after=found.wal_size or 0,
            db_size_before=found.size,
            db_size_after=found.size,
        )

    def close(self, *, interrupted: bool = False) -> Checkpoint:
        """Fold, close, and return the result of the fold; harmless to repeat.

        Waits for nobody after a command that only read, and not long after an interruption.
        """
        if self.checkpoint is not None:
            return self.checkpoint
        patience = self.patience if self.has_written else 0.0
        if interrupted:
            patience = min(patience, _INTERRUPTED_PATIENCE)
        try:
            with suppress(sqlite3.Error):
                self.db.rollback()
            self.look_again(after=0.0 if self._has_frames() else _FRESH)
            self.checkpoint = self._fold(patience)
        except BaseException:
            self.checkpoint = (
                interrupted_fold(self.totals, wrote=self.has_written)
                if self.totals is not None
                else self.without_fold()
            )
            raise
        finally:
            with self._resources:  # they are closed even if Ctrl-C cuts the last look short
                self._let_go()
        self.checkpoint = self._doubt(self.checkpoint).after_closing(self.path)
        return self.checkpoint

    def look_after(self, result: Checkpoint) -> Checkpoint:
        """Look once more after a fold; return its result, doubted if that shows danger.

        The fold itself did no harm: SQLite's locks guard those who hold them, and others use files
        that it did not touch. But rows may be in those files.
        """
        self.look_again()
        return self._limited(self._doubt(result))

    def _limited(self, result: Checkpoint) -> Checkpoint:
        """Return a result that says what the looks at the processes could not see."""
        return result._replace(unseen=self.holders.unseen if self.holders is not None else None)

    def _doubt(self, result: Checkpoint) -> Checkpoint:
        if not self.reasons or result.forbidden:
            return result
        return result._replace(
            in_main_file=False,
            forbidden=tuple(str(reason.code) for reason in self.reasons),
            reason=f"since the fold, {self.reasons[0].text}",
        )

    def _has_frames(self) -> bool:
        index = self.log.index() if self.log is not None else None
        return index is None or index.max_frame > 0

    def _let_go(self) -> None:
        """Decide whether SQLite may delete the log, should this be the last connection."""
        is_guarded, self._is_guarded = self._is_guarded, False
        may_delete = False
        try:
            may_delete = self._may_delete_log()
        finally:
            if may_delete and is_guarded:
                self._held.unguard()
            elif not may_delete and not is_guarded and self.totals is not None:
                keep_log_on_close(self.db)

    def _may_delete_log(self) -> bool:
        """Tell whether all of the log is in the main file, and nobody else has the files open.

        SQLite deletes it by name, and asks the locks alone: an application that loses its locks in
        the instant before would lose its log. So whoever has the files open keeps it.
        """
        index = self.log.index() if self.log is not None else None
        if self.log is None or index is None or index.pending or self.log.sync_error:
            return False
        self.look_again()
        has_users = self.holders is not None and bool(self.holders.users)
        return not (has_users or self.reasons or self.log.what_is_gone())

    def __enter__(self) -> Self:
        """Return the database itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and fold; trouble with that never hides the error of the body."""
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
        """Translate an error of SQLite's for this database, while it still is open.

        `wrote` tells whether something that counts was committed; by default, whether anything
        was. A file that is gone explains any error but a lock. Returns None for an error that is
        not SQLite's, and for the fault of a statement.
        """
        if not isinstance(error, sqlite3.Error):
            return None
        gone = self.log.what_is_gone() if self.log is not None and not is_busy(error) else None
        if gone is not None:
            return DamageError(f"{self.probe.name}: {gone}", hint="see what cleans up there")
        if self.access == "ro" and self.log is None and is_read_only(error):
            # We write nothing here: SQLite met a journal that it would have to play back.
            return LockedError(
                f"a program began to write to {self.probe.name} without a lock, so it was read no "
                "further",
                hint="try again when that program is done",
            )
        return translate_sqlite_error(
            error, self.path, wrote=self.has_written if wrote is None else wrote
        )
