"""Long statements that show progress and can be interrupted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.store.sqlite import sqlite3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STEPS = 50_000  # of SQLite's virtual machine, between two looks
_COUNTERS = "/proc/self/io"


@contextmanager
def ticking(conn: sqlite3.Connection, tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` now and then while `conn` works in the block.

    What `tick` raises, Ctrl-C among it, ends the statement and is raised here: SQLite's module
    itself would swallow it.
    """
    raised: list[BaseException] = []

    def handler() -> int:
        try:
            tick()
        except BaseException as error:  # noqa: BLE001  # raised again below
            raised.append(error)
            return 1
        return 0

    conn.set_progress_handler(handler, _STEPS)
    try:
        yield
    except sqlite3.Error:
        if raised:
            raise raised[0] from None
        raise
    finally:
        conn.set_progress_handler(None, 0)


def bytes_read() -> int:
    """Return how many bytes this process has read so far; 0 where the system does not tell."""
    try:
        with open(_COUNTERS, "rb") as counters:
            first = counters.readline()
    except OSError:
        return 0
    name, _, count = first.partition(b":")
    return int(count) if name == b"rchar" else 0
