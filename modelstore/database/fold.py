"""Fold the log on the way out: make nobody wait, and claim nothing that is not true.

1. Copy until the main file alone is whole and holds what we committed, or until time is up.
   Nobody waits for us meanwhile.
2. Sync the main file ourselves: when a writer commits during the copy, SQLite syncs only the log.
3. Try once to truncate the log. A reader may prevent that; it costs space, not safety.
4. SQLite does not wait for another checkpoint that is at work: try again until time is up.
5. Sync the -wal for the frames that are left, once the path is known to name the file in use.

It is not enough that nBackfill has passed our last frame. A checkpoint that a reader stops at frame
N skips every page that has a newer frame beyond N: the main file alone is then a mixture of old
and new pages, and may be malformed. It is whole when a checkpoint copied *all* that it saw, or
when the log has restarted since, which happens only then. For the same reason we copy nothing
while a reader of an older frame would stop us halfway: until it ends, the main file stays as whole
as it was.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from modelstore.database.checkpoint import Checkpoint, Mode
from modelstore.database.ledger import CheckpointRow, Generation, Ledger
from modelstore.database.live_log import DATABASE_REPLACED, LiveLog
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_FULL, is_busy, primary_code
from modelstore.text import human_bytes, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.progress import Progress
    from modelstore.wal.index import WalIndex

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.025  # seconds between attempts


class FoldTotals:
    """The sums over every fold of one command."""

    def __init__(self, log: LiveLog) -> None:
        self.log = log
        self.ledger = Ledger()
        self.seconds = 0.0
        self.progress: Progress | None = None  # is told how much is copied
        self.wal_size: int | None = None  # bytes, before the first attempt
        self.db_size: int | None = None

    def begin(self) -> float:
        """Note the sizes before the first attempt; return the time at which this one begins."""
        if self.wal_size is None:
            self.wal_size, self.db_size = self.log.sizes()
        return time.monotonic()

    def result(self, mode: Mode, started: float) -> Checkpoint:
        """Return the numbers so far; adds the time since `started`."""
        self.seconds += time.monotonic() - started
        wal_size, db_size = self.log.sizes()
        ledger = self.ledger
        return Checkpoint(
            mode=mode,
            log=ledger.log,
            checkpointed=ledger.checkpointed,
            left=ledger.log - ledger.checkpointed,
            exact=ledger.exact,
            moved=ledger.moved,
            bytes_moved=ledger.moved * self.log.page_size,
            wal_size_before=self.wal_size or 0,
            wal_size_after=wal_size,
            db_size_before=self.db_size or 0,
            db_size_after=db_size,
            seconds=self.seconds,
        )


def pauses() -> Callable[[], float]:
    """Return a function that gives the seconds to wait before each next attempt.

    The pauses grow and differ between processes: a crowd that folds must not march in step.
    """
    pause = _FIRST_PAUSE

    def following() -> float:
        nonlocal pause
        import random  # late: few folds wait

        pause = min(_LONGEST_PAUSE, pause * 2)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret

    return following


def fold(
    totals: FoldTotals, *, wrote: bool, generation: Generation = None, patience: float = 0.0
) -> Checkpoint:
    """Fold as this module describes; try for `patience` seconds, or once for 0.

    `generation` is the one of our last commit, if it is known. An error of SQLite or of a sync is
    not raised: the result's `reason` names it.
    """
    log = totals.log
    started = totals.begin()
    deadline = started + patience
    whole, busy, reason, sync_failed = False, True, None, False
    pause = pauses()
    try:
        while True:
            whole = copy_whole(totals, generation)
            if whole:
                if wrote or totals.ledger.moved:
                    if totals.progress is not None:
                        totals.progress("syncing the main file", 0)
                    log.sync_database()
                busy, whole = _truncate_whole(totals)
            remaining = deadline - time.monotonic()
            if whole or remaining <= 0:
                break
            time.sleep(min(pause(), remaining))
    except sqlite3.Error as error:
        busy, reason = is_busy(error), why_failed(log, error)
    except OSError as error:
        whole, busy, sync_failed = False, False, True
        reason = f"the main file could not be synced: {error.strerror}; the log is kept"
    result = totals.result("truncate", started)
    in_main_file = whole if wrote else result.left == 0 and reason is None
    result = result._replace(
        busy=busy, reason=reason, in_main_file=in_main_file, sync_failed=sync_failed
    )
    return add_blockers_and_sync(log, result, wrote=wrote)


def why_failed(log: LiveLog, error: sqlite3.Error) -> str:
    """Say why a checkpoint failed; for a full disk, how much room it needs. The log is kept."""
    if primary_code(error) != SQLITE_FULL:
        return f"the checkpoint failed: {visible(str(error), 200)}"
    needed, free = log.room()
    return (
        f"the disk is full: the fold needs {human_bytes(needed)} more for the main file, "
        f"{human_bytes(free)} is free; the log is kept"
    )


def interrupted_fold(totals: FoldTotals, *, wrote: bool) -> Checkpoint:
    """Return the result after Ctrl-C; sync the log, so that our commits outlive a power cut."""
    result = totals.result("truncate", time.monotonic())
    result = result._replace(in_main_file=False, reason="interrupted while folding")
    return add_blockers_and_sync(totals.log, result, wrote=wrote)


def copy_whole(totals: FoldTotals, generation: Generation = None) -> bool:
    """Try once to copy all; return whether the main file alone is whole and holds our commits."""
    index = totals.log.index()
    if index is not None and totals.log.is_pinned(index):
        totals.ledger.see(index)
    else:
        row, index = backfill(totals)
        if 0 <= row.log == row.checkpointed:
            return True
    if index is None:
        return False
    is_untouched = index.backfill == index.backfill_attempted == 0
    has_restarted = generation is not None and index.salt != generation
    return not index.pending or (has_restarted and is_untouched)


def backfill(totals: FoldTotals) -> tuple[CheckpointRow, WalIndex | None]:
    """Copy once, and count it; return SQLite's row and the wal-index afterwards."""
    before = totals.log.index()
    if before is not None:
        totals.ledger.see(before)  # should the copy fail, as on a full disk, these are left
    if totals.progress is None:
        row = totals.log.backfill()
    else:
        from modelstore.database.copying import copying_told

        with copying_told(totals.log, totals.progress):
            row = totals.log.backfill()
    after = totals.log.index()
    totals.ledger.backfilled(before, row, after)
    return row, after


def truncate(totals: FoldTotals) -> bool:
    """Try once to truncate the log; return False where another process is in the way."""
    log = totals.log
    before = log.index()
    row = log.truncate()
    if row is None:
        return True  # an affected SQLite must not try; all frames are copied
    if row.busy:
        totals.ledger.backfilled(before, row, log.index())
    else:
        totals.ledger.truncated(before, log.index())
    return not row.busy


def _truncate_whole(totals: FoldTotals) -> tuple[bool, bool]:
    """Try to truncate a log that is copied; return whether it was busy, and is still whole.

    Where others have committed since, a truncation could stop halfway through their frames.
    """
    before = totals.log.index()
    if before is not None and before.pending:
        return True, True
    busy = not truncate(totals)
    after = totals.log.index()
    if before is None or after is None or after.salt != before.salt:
        return busy, True
    return busy, after.backfill == before.backfill or not after.pending


def add_blockers_and_sync(log: LiveLog, result: Checkpoint, *, wrote: bool) -> Checkpoint:
    """Complete a result: name who blocks it, and sync the log where part of it is left."""
    if result.busy or result.left:
        result = with_blockers(log, result)
    gone = log.why_gone()
    if gone is not None:
        result = result._replace(log_deleted=True)
        if not result.in_main_file:
            return result._replace(reason=gone)
    if log.database_is_gone():
        return result._replace(in_main_file=False, reason=DATABASE_REPLACED)
    if wrote and not result.in_main_file:
        try:
            log.sync()
        except OSError as error:
            return result._replace(reason=f"the -wal could not be synced: {error.strerror}")
        return result._replace(wal_synced=True)
    return result


def with_blockers(log: LiveLog, result: Checkpoint) -> Checkpoint:
    """Return a result with the processes that block the fold, as far as they can be found."""
    with suppress(OSError):
        who, complete, note = log.blockers()
        return result._replace(blockers=who, blockers_complete=complete, blockers_note=note)
    return result
