"""The checkpoint that a person asks for: SQLite's modes, without SQLite's way of waiting.

SQLite's own FULL, RESTART and TRUNCATE hold the write lock while they wait for readers, so every
other writer waits as well. Here each attempt takes its locks for an instant, and we wait between
the attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelstore.database.fold import (
    FoldTotals,
    add_blockers_and_sync,
    backfill,
    pauses,
    truncate,
    why_failed,
)
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, sqlite3
from modelstore.database.sqlite_errors import is_busy

if TYPE_CHECKING:
    from modelstore.database.checkpoint import Checkpoint, Mode
    from modelstore.database.connection import OpenDatabase
    from modelstore.wal.locks import Blocker

OnWait = Callable[[tuple["Blocker", ...], float], None]
"""A call now and then with the processes in the way, and the seconds waited so far."""

_TELL_EVERY = 0.5  # seconds


def run_checkpoint(
    opened: OpenDatabase, mode: Mode, timeout: float, on_wait: OnWait | None = None
) -> Checkpoint:
    """Try a mode until it is done or `timeout` (seconds) is over; try passive only once.

    passive copies what readers allow; full copies all; restart also waits until no reader needs
    the log; truncate then empties it. Each copies what it can meanwhile, so that the main file
    alone may be a mixture until all is copied. In the result, `in_main_file` tells whether the
    main file holds everything, whoever committed it, and `busy` that others were in the way.
    """
    opened.look_again()
    totals = opened.totals
    if totals is None or opened.why_not_fold() is not None:
        return opened.without_fold()
    started = totals.begin()
    busy, reason, sync_failed = True, None, False
    try:
        busy = not _until_done(totals, mode, started + timeout, on_wait)
        totals.log.sync_database()
    except sqlite3.Error as error:
        busy, reason = is_busy(error), why_failed(totals.log, error)
    except OSError as error:
        sync_failed = True
        reason = f"the main file could not be synced: {error.strerror}; the log is kept"
    result = totals.result(mode, started)
    whole = result.left == 0 and reason is None
    result = result._replace(
        busy=busy,
        reason=reason,
        in_main_file=whole,
        sync_failed=sync_failed,
        main_checked=opened.probe.is_whole_checked,
    )
    return opened.look_after(add_blockers_and_sync(totals.log, result, wrote=True))


def _until_done(totals: FoldTotals, mode: Mode, deadline: float, on_wait: OnWait | None) -> bool:
    pause = pauses()
    began = told = time.monotonic()
    while True:
        done = _attempt(totals, mode)
        now = time.monotonic()
        if done or now >= deadline or (mode == "passive" and done is not None):
            return bool(done)
        if on_wait is not None and (now - told >= _TELL_EVERY or told == began):
            on_wait(totals.log.blockers()[0], now - began)
            told = now
        time.sleep(min(pause(), max(0.0, deadline - time.monotonic())))


def _attempt(totals: FoldTotals, mode: Mode) -> bool | None:
    """Try once; return whether the mode is done, None if another checkpoint was at work."""
    row, _ = backfill(totals)
    if row.is_other_checkpoint:
        return None
    if mode == "passive" or (mode == "full" and row.log == row.checkpointed):
        return row.log == row.checkpointed
    if HAS_WAL_RESET_BUG:
        return row.log == row.checkpointed  # copied under the write lock: more is not safe
    if row.log == row.checkpointed:
        totals.log.sync_database()  # before the log goes: a disk that fails must not take both
    if mode == "truncate":
        return truncate(totals)
    before = totals.log.index()
    row = totals.log.run(mode.upper())
    totals.ledger.backfilled(before, row, totals.log.index())
    return not row.busy
