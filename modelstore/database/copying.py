"""The progress of one checkpoint, measured from outside while SQLite is at work.

SQLite says nothing during a checkpoint, and moves nBackfill once, at its end. But the system counts
the bytes that this process writes, and nothing else in it writes meanwhile. A thread compares them
with the pages that the log has for the main file. It reads a descriptor that is open already, and
opens and closes neither database nor wal-index, which would drop SQLite's locks.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.live_log import LiveLog
    from modelstore.progress import Progress

_COUNTERS = "/proc/self/io"  # https://man7.org/linux/man-pages/man5/proc_pid_io.5.html
_EVERY = 0.2  # seconds; a checkpoint that is shorter tells nothing


@contextmanager
def copying_told(log: LiveLog, progress: Progress) -> Iterator[None]:
    """Tell `progress` in the block how many bytes are copied."""
    done = threading.Event()
    before = bytes_written()
    thread = threading.Thread(target=_tell, args=(log, progress, before, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell(log: LiveLog, progress: Progress, before: int | None, done: threading.Event) -> None:
    total: int | None = None
    while not done.wait(_EVERY):
        now = bytes_written()
        if before is None or now is None:
            progress("folding the log", 0)
            continue
        if total is None:
            total = log.pages_to_copy() * log.page_size
        if now - before < total:
            progress("folding the log", now - before, total, "bytes")
        else:
            progress("syncing the main file", 0)


def bytes_written() -> int | None:
    """Return the bytes that this process has written so far; None if the system does not tell."""
    try:
        with open(_COUNTERS, "rb") as counters:
            for line in counters:
                name, _, count = line.partition(b":")
                if name == b"wchar":
                    return int(count)
    except OSError:
        pass
    return None
