"""Folding the log on the way out: never stall others, never claim what is not so.

1. Copy until the main file alone is whole and holds what we committed, or patience runs out.
   Nobody waits for us meanwhile.
2. Sync the main file ourselves: when a writer commits during the copy, SQLite syncs only the log.
3. Try once to truncate the log. A reader may prevent that; it costs space, not safety.
4. Where another checkpoint is at work, SQLite does not wait: try again until patience ends.
5. What could not be folded is synced in the -wal, once that is known to be the file by that name.

That nBackfill has passed our last frame is not enough. A checkpoint that a reader stops at frame N
skips every page of which there is a newer frame beyond N: the main file alone is then a mixture of
old and new pages, and may be malformed. It is whole when a checkpoint copied *all* that it saw,
or when the log restarted since, which it does only then. For the same reason nothing is copied
while a reader of an older frame would stop it halfway: until it ends, the main file stays as whole
as it was.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.database.checkpoint import Checkpoint, Mode
from modelstore.database.files import sync_directory, sync_file
from modelstore.database.live_log import (
    DATABASE_REPLACED,
    LOG_DELETED,
    CheckpointRow,
    Generation,
    Ledger,
)
from modelstore.database.sqlite import sqlite3
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.database.connection import OpenDatabase
    from modelstore.database.live_log import LiveLog
    from modelstore.wal.index import WalIndex

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.025  # seconds between attempts


@dataclass(slots=True)
class FoldTotals:
    """What all the folding of one command adds up to."""

    ledger: Ledger = field(default_factory=Ledger)
    seconds: float = 0.0
    wal_size: int | None = None  # bytes, before the first attempt
    db_size: int | None = None

    def open(self, log: LiveLog) -> float:
        """Note the sizes before the first attempt; return when this one began."""
        if self.wal_size is None:
            self.wal_size, self.db_size = log.sizes()
        return time.monotonic()

    def result(self, log: LiveLog, mode: Mode, started: float) -> Checkpoint:
        """Return the numbers so far."""
        self.seconds += time.monotonic() - started
        wal_size, db_size = log.sizes()
        page_size = log.page_size
        ledger = self.ledger
        return Checkpoint(
            mode=mode,
            log=ledger.log,
            checkpointed=ledger.checkpointed,
            left=ledger.log - ledger.checkpointed,
            exact=ledger.exact,
            moved=ledger.moved,
            bytes_moved=ledger.moved * page_size,
            wal_size_before=self.wal_size or 0,
            wal_size_after=wal_size,
            db_size_before=self.db_size or 0,
            db_size_after=db_size,
            seconds=self.seconds,
        )


def pauses() -> Callable[[], float]:
    """Return a function that gives the seconds to wait before each next attempt.

    They grow, and no two processes have the same: a crowd that folds must not march in step.
    """
    pause = _FIRST_PAUSE

    def following() -> float:
        nonlocal pause
        pause = min(_LONGEST_PAUSE, pause * 2)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret

    return following


def fold(
    log: LiveLog,
    account: FoldTotals,
    *,
    wrote: bool,
    generation: Generation = None,
    patience: float = 0.0,
) -> Checkpoint:
    """Fold the log as the module says; `patience` in seconds, 0 for one attempt.

    `generation` is that of our last commit, if it is known. Trouble is told in the result's
    `reason`, not raised.
    """
    started = account.open(log)
    deadline = started + patience
    whole, busy, reason = False, True, None
    pause = pauses()
    try:
        while True:
            whole = copy_whole(log, account.ledger, generation)
            if whole:
                if wrote:
                    log.sync_database()
                busy, whole = _truncate_whole(log, account.ledger)
            remaining = deadline - time.monotonic()
            if whole or remaining <= 0:
                break
            time.sleep(min(pause(), remaining))
    except sqlite3.Error as error:
        reason = f"the checkpoint failed: {visible(str(error), 200)}"
    except OSError as error:
        whole = False
        reason = f"the main file could not be synced: {error.strerror}"
    result = account.result(log, "truncate", started)
    in_main_file = whole if wrote else result.left == 0 and reason is None
    result = replace(result, busy=busy, reason=reason, in_main_file=in_main_file)
    return add_blockers_and_sync(log, result, wrote=wrote)


def copy_whole(log: LiveLog, ledger: Ledger, generation: Generation = None) -> bool:
    """Try once to copy all; return whether the main file alone is whole and holds our commits."""
    index = log.index()
    if index is not None and log.is_pinned(index):
        ledger.see(index)
    else:
        row, index = backfill(log, ledger)
        if 0 <= row.log == row.checkpointed:
            return True
    if index is None:
        return False
    is_untouched = index.backfill == index.backfill_attempted == 0
    has_restarted = generation is not None and index.salt != generation
    return not index.pending or (has_restarted and is_untouched)


def backfill(log: LiveLog, ledger: Ledger) -> tuple[CheckpointRow, WalIndex | None]:
    """Copy once, and note what it did."""
    before = log.index()
    row = log.backfill()
    after = log.index()
    ledger.backfilled(before, row, after)
    return row, after


def _truncate_whole(log: LiveLog, ledger: Ledger) -> tuple[bool, bool]:
    """Try to truncate a log that is all copied; return whether it was busy, and still is whole.

    Where others have committed since, a truncation could stop halfway through their frames.
    """
    before = log.index()
    if before is not None and before.pending:
        return True, True
    busy = not truncate(log, ledger)
    after = log.index()
    if before is None or after is None or after.salt != before.salt:
        return busy, True
    return busy, after.backfill == before.backfill or not after.pending


def truncate(log: LiveLog, ledger: Ledger) -> bool:
    """Try once to truncate the log; return False where somebody is in the way."""
    before = log.index()
    row = log.truncate()
    if row is None:
        return True  # must not be tried here; what was to be folded, is
    if row.busy:
        ledger.backfilled(before, row, log.index())
    else:
        ledger.truncated(before, log.index())
    return not row.busy


def add_blockers_and_sync(log: LiveLog, result: Checkpoint, *, wrote: bool) -> Checkpoint:
    """Complete a result: who is in the way, and what there is of safety where not all is folded."""
    if result.busy or result.left:
        with suppress(OSError):
            who, complete, note = log.blockers()
            result = replace(result, blockers=who, blockers_complete=complete, blockers_note=note)
    if log.is_gone():
        result = replace(result, log_deleted=True)
        if not result.in_main_file:
            return replace(result, reason=LOG_DELETED)
    if log.database_is_gone():
        return replace(result, in_main_file=False, reason=DATABASE_REPLACED)
    if wrote and not result.in_main_file:
        try:
            log.sync()
        except OSError as error:
            return replace(result, reason=f"the -wal could not be synced: {error.strerror}")
        return replace(result, wal_synced=True)
    return result


def interrupted_fold(opened: OpenDatabase) -> Checkpoint:
    """Return what there is after Ctrl-C: what was committed must outlive a power cut."""
    if opened.log is None or opened.account is None:
        return without_fold(opened)
    result = opened.account.result(opened.log, "truncate", time.monotonic())
    result = replace(result, busy=True, in_main_file=False, reason="interrupted while folding")
    return add_blockers_and_sync(opened.log, result, wrote=opened.has_written)


def without_fold(opened: OpenDatabase) -> Checkpoint:
    """Return the result where there is nothing to fold, or where nothing may be folded.

    What we wrote to a database without a log is synced here: SQLite synced it, but not the end of
    its rollback journal.
    """
    found, index = opened.probe, opened.log.index() if opened.log is not None else None
    result = Checkpoint(mode="none", db_size_before=found.size, db_size_after=found.size)
    if index is not None:
        result = _unfolded(result, index.max_frame, index.backfill)
    elif found.log is not None:
        result = _unfolded(result, found.log.max_frame, 0)
    result = replace(
        result, wal_size_before=found.wal_size or 0, wal_size_after=found.wal_size or 0
    )
    if opened.has_written:
        try:
            sync_file(opened.held.db, opened.path)
            sync_directory(os.path.dirname(opened.path))
        except OSError as error:
            reason = f"the database could not be synced: {error.strerror}"
            return replace(result, in_main_file=False, reason=reason)
    if result.left and opened.log is not None:
        with suppress(OSError):
            who, complete, note = opened.log.blockers()
            busy = any(blocker.holds_up_folding for blocker in who)
            result = replace(
                result, busy=busy, blockers=who, blockers_complete=complete, blockers_note=note
            )
    return replace(result, reason=_why_not(opened))


def _unfolded(result: Checkpoint, log: int, checkpointed: int) -> Checkpoint:
    left = log - checkpointed
    return replace(result, log=log, checkpointed=checkpointed, left=left, in_main_file=left == 0)


def _why_not(opened: OpenDatabase) -> str:
    if opened.probe.must_not_fold:
        return "nothing was folded: the log is damaged, or not this database's"
    if opened.access == "copy":
        return "nothing was folded: a copy was read"
    if opened.journal_mode != "wal" and opened.access != "immutable":
        return f"no log to fold: the database is in journal mode {opened.journal_mode}"
    if opened.may_fold:
        return "nothing was folded: the database is read-only here"
    return "nothing was folded, as was asked"
