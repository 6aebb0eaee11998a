"""The checkpoint that a person asks for: a mode of SQLite's, without its way of waiting.

SQLite's own FULL, RESTART and TRUNCATE hold the write lock while they wait for readers: every
other writer waits as well. Here each attempt takes its locks for an instant, and the waiting is
done in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.database.fold import (
    FoldTotals,
    add_blockers_and_sync,
    backfill,
    pauses,
    truncate,
    without_fold,
)
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, sqlite3
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.database.checkpoint import Checkpoint, Mode
    from modelstore.database.connection import OpenDatabase
    from modelstore.database.live_log import LiveLog
    from modelstore.wal.locks import Blocker

OnWait = Callable[[tuple["Blocker", ...], float], None]
"""Called now and then with who is in the way, and the seconds waited so far."""

_TELL_EVERY = 0.5  # seconds


def run_checkpoint(
    opened: OpenDatabase, mode: Mode, timeout: float, on_wait: OnWait | None = None
) -> Checkpoint:
    """Try a mode until it is done or `timeout` (seconds) is over; passive tries but once.

    passive copies what readers let it; full copies all; restart moreover waits until no reader
    needs the log; truncate then empties it. Each copies meanwhile what it can, so that the main
    file alone may be a mixture until all is copied. `in_main_file` tells whether it now holds
    everything, whoever committed it; `busy` whether the mode was not done to its end.
    """
    log, account = opened.log, opened.account
    if log is None or account is None or opened.access != "rw" or not opened.may_fold:
        return without_fold(opened)
    started = account.open(log)
    done, reason = False, None
    try:
        done = _until_done(log, account, mode, started + timeout, on_wait)
        log.sync_database()
    except sqlite3.Error as error:
        reason = f"the checkpoint failed: {visible(str(error), 200)}"
    except OSError as error:
        reason = f"the main file could not be synced: {error.strerror}"
    result = account.result(log, mode, started)
    whole = result.left == 0 and reason is None
    result = replace(result, busy=not done, reason=reason, in_main_file=whole)
    return add_blockers_and_sync(log, result, wrote=True)


def _until_done(
    log: LiveLog, account: FoldTotals, mode: Mode, deadline: float, on_wait: OnWait | None
) -> bool:
    pause = pauses()
    began = told = time.monotonic()
    while True:
        done = _attempt(log, account, mode)
        now = time.monotonic()
        if done or now >= deadline or (mode == "passive" and done is not None):
            return bool(done)
        if on_wait is not None and (now - told >= _TELL_EVERY or told == began):
            on_wait(log.blockers()[0], now - began)
            told = now
        time.sleep(min(pause(), max(0.0, deadline - time.monotonic())))


def _attempt(log: LiveLog, account: FoldTotals, mode: Mode) -> bool | None:
    """Try once; return whether the mode was done to its end, None if another checkpoint ran."""
    ledger = account.ledger
    row, _ = backfill(log, ledger)
    if row.is_other_checkpoint:
        return None
    if mode == "passive" or (mode == "full" and row.log == row.checkpointed):
        return row.log == row.checkpointed
    if HAS_WAL_RESET_BUG:
        return row.log == row.checkpointed  # copied under the write lock: more is not safe
    if mode == "truncate":
        return truncate(log, ledger)
    before = log.index()
    row = log.run(mode.upper(), 0)
    ledger.backfilled(before, row, log.index())
    return not row.busy
