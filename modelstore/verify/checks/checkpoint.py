"""The fold: every frame of the log must reach the main file, or those in the way are named."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modelstore.finding import Finding, Severity
from modelstore.text import listed, process_name
from modelstore.verify.check import Check, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.check import MainFile, VerifyOptions
    from modelstore.wal.locks import Blocker

_NAMED = 5  # processes
_PAUSE = 0.05  # seconds between two attempts
_TELL_EVERY = 0.5  # seconds


def fold(opened: OpenDatabase, options: VerifyOptions) -> tuple[Checkpoint, bool]:
    """Fold until the timeout; return the result, and True if the fold is stuck.

    Each attempt folds as every command does: it copies nothing that a reader would stop halfway,
    and no writer waits. While others write all the time some frames are always left; a fold is
    stuck only if it makes no headway.
    """
    begun = told = time.monotonic()
    first = result = opened.fold_now()
    while result.left and result.mode != "none" and not result.log_deleted:
        now = time.monotonic()
        if now - begun >= options.timeout:
            break
        if options.on_wait is not None and (told == begun or now - told >= _TELL_EVERY):
            options.on_wait(result.blockers, now - begun)
            told = now
        time.sleep(min(_PAUSE, begun + options.timeout - now))
        result = opened.fold_now()
    return result, _is_stuck(result, has_moved=result.checkpointed > first.checkpointed)


def _is_stuck(checkpoint: Checkpoint, *, has_moved: bool) -> bool:
    if not checkpoint.left:
        return False
    is_broken = checkpoint.mode == "none" or checkpoint.reason or checkpoint.log_deleted
    return bool(is_broken or (_in_the_way(checkpoint) and not has_moved))


def _in_the_way(checkpoint: Checkpoint) -> tuple[Blocker, ...]:
    """Return the processes that keep frames from being copied; a writer only adds frames."""
    return tuple(blocker for blocker in checkpoint.blockers if blocker.holds_up_folding)


def _judge(checkpoint: Checkpoint, path: str, *, is_stuck: bool) -> Finding:
    numbers = (
        f"{checkpoint.log:,} in log, {checkpoint.checkpointed:,} checkpointed, "
        f"{checkpoint.left:,} left; busy: {'yes' if checkpoint.busy else 'no'}"
    )

    def finding(word: str, severity: Severity, more: str, advice: str | None = None) -> Finding:
        data = checkpoint.as_json()
        return Finding(f"checkpoint.{word}", severity, numbers + more, path, advice, data)

    reason = f"; {checkpoint.reason}" if checkpoint.reason else ""
    if checkpoint.log_deleted:
        return finding("deleted", "fail", reason, "restart nothing yet")
    if checkpoint.mode == "none":
        return finding("none", "note" if checkpoint.left else "pass", reason)
    if is_stuck:
        return finding("blocked", "fail", *_blocked(checkpoint, reason))
    if checkpoint.left:
        more = "verify while less is written, or wait longer with --timeout"
        return finding("moving", "warn", "; others go on writing", more)
    if not checkpoint.in_main_file:
        return finding("unsynced", "fail", reason, "check the disk")
    if checkpoint.busy:
        who = _names(checkpoint.blockers) or "another process"
        return finding("kept", "pass", f"; the log is kept by {who}, all of it is copied")
    return finding("done", "pass", "")


def _blocked(checkpoint: Checkpoint, reason: str) -> tuple[str, str]:
    """Return the reason why a fold is stuck, and the advice."""
    who = _names(_in_the_way(checkpoint))
    if not who:
        return reason, "see what is wrong, then verify again"
    advice = "let that process end its transaction or close its connection, then verify again"
    return f"; blocked by {who}{reason}", advice


def _names(blockers: tuple[Blocker, ...]) -> str:
    names = {
        process_name(blocker.pid, blocker.command, *blocker.facts)
        + (f" at frame {blocker.frame:,}" if blocker.frame is not None else "")
        for blocker in blockers
    }
    return listed(sorted(names), _NAMED)


def _check(run: Run, opened: OpenDatabase) -> Iterator[Finding]:
    del opened
    if run.checkpoint is not None:
        yield _judge(run.checkpoint, run.subject.path, is_stuck=run.is_stuck)


def _tell_refusal(run: Run, main: MainFile) -> Iterator[Finding]:
    del main
    if run.unfoldable is not None:
        why = f"nothing was folded: {run.unfoldable}"
        yield Finding("checkpoint.refused", "note", why, run.subject.path)


CHECK = Check(
    name="checkpoint",
    title="folding the WAL into the main file",
    order=40,
    folded=_check,
    main_file=_tell_refusal,
)
