"""A fold of the WAL, and the processes in its way, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.render.grid import Cell, Grid, Heading
from modelstore.text import human_bytes, human_seconds, process_name

if TYPE_CHECKING:
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.wal.locks import Blocker

_FOLD = (
    Heading("MODE"),
    Heading("LOG", right=True),
    Heading("CHECKPOINTED", right=True),
    Heading("LEFT", right=True),
    Heading("BUSY"),
    Heading("TIME"),
    Heading("WAL FILE", shrink="wrap"),
)
_BLOCKERS = (
    Heading("BLOCKER"),
    Heading("COMMAND", shrink="middle"),
    Heading("LOCK"),
    Heading("AT FRAME", right=True),
    Heading("BLOCKS", shrink="wrap"),
)


def fold_grid(checkpoint: Checkpoint) -> Grid:
    """Return the numbers of a fold, in one row."""
    inexact = "" if checkpoint.exact else "≥ "
    row = (
        checkpoint.mode,
        f"{inexact}{checkpoint.log:,}",
        f"{inexact}{checkpoint.checkpointed:,}",
        Cell(f"{checkpoint.left:,}", "warn" if checkpoint.left else ""),
        Cell("yes", "warn") if checkpoint.busy else "no",
        human_seconds(checkpoint.seconds),
        _wal_file(checkpoint),
    )
    return Grid(_FOLD, (row,))


def _wal_file(checkpoint: Checkpoint) -> str | Cell:
    before, after = checkpoint.wal_size_before, checkpoint.wal_size_after
    if checkpoint.log_deleted:
        return Cell("deleted while in use", "bad")
    if before == after:
        return f"{human_bytes(after)}, kept" if after else "empty"
    return f"{human_bytes(before)} → {human_bytes(after)}"


def blocker_grid(blockers: tuple[Blocker, ...]) -> Grid:
    """Return the processes that are in the way, one a row."""
    rows = [
        (
            process_name(blocker.pid),
            blocker.command + (" (stopped)" if blocker.is_stopped else ""),
            blocker.lock,
            "" if blocker.frame is None else f"{blocker.frame:,}",
            ", ".join(blocker.blocks),
        )
        for blocker in blockers
    ]
    return Grid(_BLOCKERS, rows)


def fold_parts(checkpoint: Checkpoint) -> list[str | Cell | Grid]:
    """Return a fold for a person: numbers, blockers, reasons."""
    parts: list[str | Cell | Grid] = [fold_grid(checkpoint)]
    if checkpoint.left and checkpoint.blockers:
        parts.append(blocker_grid(checkpoint.blockers))
    if checkpoint.left and checkpoint.blockers_note:
        parts.append(Cell(checkpoint.blockers_note, "dim"))
    if not checkpoint.exact:
        parts.append(Cell("≥: another process committed between two counts", "dim"))
    if checkpoint.reason:
        parts.append(Cell(checkpoint.reason, "warn"))
    return parts
