"""Figures of the log for monitors: its live bytes, the last fold, the oldest reader."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelstore.finding import LogFigures
from modelstore.wal.format import WAL_HEADER_SIZE, frame_size

if TYPE_CHECKING:
    from modelstore.verify.subject import Subject
    from modelstore.wal.inspection import Inspection


def log_figures(subject: Subject) -> LogFigures:
    """Return the figures of a log as it was when the run began, and of the main file as it is."""
    return LogFigures(_live_bytes(subject.log), _last_fold(subject), _oldest_reader(subject.log))


def _live_bytes(found: Inspection) -> int | None:
    scan = found.scan
    if found.loss.raced or scan.fault_hides_frames:
        return None
    return WAL_HEADER_SIZE + scan.valid * frame_size(scan.page_size) if scan.valid else 0


def _last_fold(subject: Subject) -> float | None:
    if not subject.is_wal:
        return None
    try:
        return os.stat(subject.path).st_mtime
    except OSError:
        return None


def _oldest_reader(found: Inspection) -> float | None:
    """Return the start of the oldest process that holds a read mark on frames of the log."""
    readers = {
        (blocker.pid, blocker.lock) for blocker in found.blockers if blocker.mark is not None
    }
    starts = [
        held.since
        for held in found.locks.holders
        if (held.pid, held.lock) in readers and held.since is not None
    ]
    return min(starts, default=None)
