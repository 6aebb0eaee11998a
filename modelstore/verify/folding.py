"""The fold: is the log in the main file to its last frame, and if not, who is in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.text import plural
from modelstore.verify.finding import Finding, Severity, findings_of

if TYPE_CHECKING:
    from modelstore.store.checkpoint import Checkpoint
    from modelstore.store.connection import OpenDatabase
    from modelstore.verify.subject import Orders
    from modelstore.wal.locks import Blocker

_finding = findings_of("checkpoint")


def fold(opened: OpenDatabase, orders: Orders) -> Checkpoint:
    """Fold with all of the patience there is, or say why not."""
    from modelstore.store.explicit import run_checkpoint

    return run_checkpoint(opened, "truncate", orders.timeout, orders.on_wait)


def check_checkpoint(checkpoint: Checkpoint, path: str) -> Finding:
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
    who = _names(checkpoint.blockers)
    if checkpoint.left:
        if not checkpoint.exact and not who:
            return _finding(
                "moving",
                "warn",
                f"{numbers}; others go on writing",
                path,
                "verify while less is written, or wait longer with --timeout",
                data,
            )
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
    if not checkpoint.in_main_file:
        return _finding(
            "unsynced", "fail", f"{numbers}; {checkpoint.reason}", path, "check the disk", data
        )
    if checkpoint.busy:
        kept = f"{numbers}; the log is kept by {who or 'another process'}, all of it is copied"
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
