"""A private directory that is gone afterwards, whatever comes but SIGKILL and a power cut."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]

_PREFIX = ".modelstore-drill-"
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def scratch_directory(parent: str) -> Iterator[str]:
    """Yield a new directory in `parent`, its name unguessable, for this user alone.

    Raises `OSError` where it cannot be made. That it cannot be removed is no error here.
    """
    path = None
    try:
        with undisturbed():
            path = tempfile.mkdtemp(prefix=_PREFIX, dir=os.path.abspath(parent))  # mode 0700
        yield path
    finally:
        if path is not None:
            try:
                with undisturbed():
                    shutil.rmtree(path, ignore_errors=True)
            finally:  # where a signal came just before the line above
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def one_interruption() -> Iterator[None]:
    """Let the first signal interrupt the block; later ones wait until that has been unwound."""
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
def undisturbed() -> Iterator[None]:
    """Let signals wait until the block is done."""
    waiting: list[int] = []
    with _handled(lambda number, _: waiting.append(number), {}, waiting):
        yield


@contextmanager
def _handled(handler: Handler, former: dict[int, Handler], waiting: list[int]) -> Iterator[None]:
    """Let `handler` have Ctrl-C, SIGTERM and SIGHUP for a block, then raise what is `waiting`.

    Only signals that interrupt Python are taken, and only the main thread is ever interrupted.
    """
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
