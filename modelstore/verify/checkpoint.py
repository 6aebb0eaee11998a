"""The fold: is the log in the main file to its last frame, and if not, who is in the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modelstore.finding import Finding, Severity, findings_of
from modelstore.text import plural

if TYPE_CHECKING:
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.subject import VerifyOptions
    from modelstore.wal.locks import Blocker

_finding = findings_of("checkpoint")
_PAUSE = 0.05  # seconds between two attempts
_TELL_EVERY = 0.5  # seconds


def fold(opened: OpenDatabase, orders: VerifyOptions) -> tuple[Checkpoint, bool]:
    """Fold with all of the patience there is; return what that did, and whether it is stuck.

    Tried again and again as every command folds: nothing is copied that a reader would stop
    halfway, and no writer waits. Where others write all the time some frames are always left;
    stuck is what made no headway.
    """
    begun = told = time.monotonic()
    first = result = opened.fold_now()
    while result.left and result.mode != "none" and not result.log_deleted:
        now = time.monotonic()
        if now - begun >= orders.timeout:
            break
        if orders.on_wait is not None and (told == begun or now - told >= _TELL_EVERY):
            orders.on_wait(result.blockers, now - begun)
            told = now
        time.sleep(min(_PAUSE, begun + orders.timeout - now))
        result = opened.fold_now()
    return result, _is_stuck(result, has_moved=result.checkpointed > first.checkpointed)


def _is_stuck(checkpoint: Checkpoint, *, has_moved: bool) -> bool:
    if not checkpoint.left:
        return False
    is_broken = checkpoint.mode == "none" or checkpoint.reason or checkpoint.log_deleted
    return bool(is_broken or (in_the_way(checkpoint) and not has_moved))


def in_the_way(checkpoint: Checkpoint) -> tuple[Blocker, ...]:
    """Return who keeps frames from being copied; a writer does not, it only adds to them."""
    return tuple(blocker for blocker in checkpoint.blockers if blocker.holds_up_folding)


def check_checkpoint(checkpoint: Checkpoint, path: str, *, stuck: bool) -> Finding:
    """Return what the fold did."""
    numbers = (
        f"{checkpoint.log:,} in log, {checkpoint.checkpointed:,} checkpointed, "
        f"{checkpoint.left:,} left; busy: {'yes' if checkpoint.busy else 'no'}"
    )
    data = checkpoint.as_json()
    if checkpoint.log_deleted:
        return _finding(
            "deleted", "fail", f"{numbers}; {checkpoint.reason}", path, "restart nothing yet", data
        )
    if checkpoint.mode == "none":
        severity: Severity = "note" if checkpoint.left else "pass"
        return _finding("none", severity, f"{numbers}; {checkpoint.reason}", path, None, data)
    who = _names(in_the_way(checkpoint))
    if stuck:
        reason = f"; {checkpoint.reason}" if checkpoint.reason else ""
        return _finding(
            "blocked",
            "fail",
            f"{numbers}{'; blocked by ' + who if who else ''}{reason}",
            path,
            "let that process end its transaction or close its connection, then verify again"
            if who
            else "see what is wrong, then verify again",
            data,
        )
    if checkpoint.left:
        return _finding(
            "moving",
            "warn",
            f"{numbers}; others go on writing",
            path,
            "verify while less is written, or wait longer with --timeout",
            data,
        )
    if not checkpoint.in_main_file:
        return _finding(
            "unsynced", "fail", f"{numbers}; {checkpoint.reason}", path, "check the disk", data
        )
    if checkpoint.busy:
        who = _names(checkpoint.blockers) or "another process"
        kept = f"{numbers}; the log is kept by {who}, all of it is copied"
        return _finding("kept", "pass", kept, path, None, data)
    return _finding("done", "pass", numbers, path, None, data)


def not_folded(why: str, path: str) -> Finding:
    """Return that nothing was folded, for the reason `why`."""
    return _finding("refused", "note", f"nothing was folded: {why}", path)


def _names(blockers: tuple[Blocker, ...]) -> str:
    seen = {
        f"pid {blocker.pid or 'unknown'} ({blocker.command})"
        + (f" at frame {blocker.frame:,}" if blocker.frame is not None else "")
        for blocker in blockers
    }
    names = sorted(seen)
    more = f" and {plural(len(names) - 5, 'other')}" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
