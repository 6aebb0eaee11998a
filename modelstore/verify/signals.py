"""Signals held back for a block: Ctrl-C, SIGTERM and SIGHUP, as far as they interrupt Python.

Only the main thread is ever interrupted; in another thread these blocks change nothing.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def signals_held() -> Iterator[list[int]]:
    """Let signals wait until the block is done; yield the list of those that arrived so far."""
    arrived: list[int] = []
    with _handled(lambda number, _: arrived.append(number), {}, arrived):
        yield arrived


@contextmanager
def one_interruption() -> Iterator[None]:
    """Let the first signal interrupt the block; later ones wait until the block is unwound."""
    former: dict[int, Handler] = {}
    waiting: list[int] = []
    was_interrupted = False

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal was_interrupted
        if was_interrupted:
            waiting.append(number)
        else:
            was_interrupted = True
            former[number](number, frame)

    with _handled(first, former, waiting):
        yield


@contextmanager
def _handled(handler: Handler, former: dict[int, Handler], waiting: list[int]) -> Iterator[None]:
    """Install `handler` for a block and keep the `former` ones; then raise what is `waiting`."""
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name, None) for name in _SIGNALS):
                present = signal.getsignal(number) if number is not None else None
                if number is not None and callable(present):
                    former[number] = present
                    signal.signal(number, handler)
        yield
    finally:
        for number, present in former.items():
            signal.signal(number, present)
        if waiting:
            signal.raise_signal(waiting[0])
