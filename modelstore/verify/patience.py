"""Long statements that show progress and can be interrupted."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.store.sqlite import sqlite3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STEPS = 50_000  # of SQLite's virtual machine, between two looks
_COUNTERS = "/proc/self/io"


@contextmanager
def ticking(conn: sqlite3.Connection, tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` now and then while `conn` works in the block; signals end the statement.

    SQLite's module swallows whatever a signal's handler raises while SQLite is at work, and what
    was interrupted looks like a result: so signals are kept until the block is over.
    """
    with _signals_kept() as arrived:

        def handler() -> int:
            tick()
            return len(arrived)

        conn.set_progress_handler(handler, _STEPS)
        try:
            yield
        except sqlite3.Error:
            if not arrived:
                raise
        finally:
            conn.set_progress_handler(None, 0)


@contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Yield a list of the signals that arrive in the block; they take effect at its end."""
    arrived: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda got, _: arrived.append(got))
    try:
        yield arrived
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def bytes_read() -> int:
    """Return how many bytes this process has read so far; 0 where the system does not tell."""
    try:
        with open(_COUNTERS, "rb") as counters:
            first = counters.readline()
    except OSError:
        return 0
    name, _, count = first.partition(b":")
    return int(count) if name == b"rchar" else 0
