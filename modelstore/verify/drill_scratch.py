"""A private directory that is gone afterwards, whatever comes but SIGKILL and a power cut."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

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
            with undisturbed():
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until the block is done.

    Only the main thread is ever interrupted by them, and only it can say what they do.
    """
    former = {}
    waiting: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name, None) for name in _SIGNALS):
                handler = signal.getsignal(number) if number is not None else None
                if number is not None and handler not in (None, signal.SIG_IGN):
                    former[number] = handler
                    signal.signal(number, note)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])
