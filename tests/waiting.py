"""Waiting for facts: a test goes on once something is so, however long the machine takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

PATIENCE = 100.0  # less than the time that pytest gives a test
"""Seconds after which what a test waits for never comes, however busy the machine is."""

_PAUSE = 0.005  # seconds between two looks


def wait_until(fact: Callable[[], object], *needed: Popen[Any]) -> None:
    """Return once `fact` is so; fail when a process that it needs ends, or patience does."""
    deadline = time.monotonic() + PATIENCE
    while not fact():
        ended = [process.args for process in needed if process.poll() is not None]
        assert not ended, f"ended before it was so: {ended}"
        assert time.monotonic() < deadline, f"not so after {PATIENCE:g} s"
        time.sleep(_PAUSE)


def awaits_input(process: Popen[bytes]) -> bool:
    """Tell whether a process has taken all of its stdin, a pipe, and sleeps; Linux alone tells."""
    import fcntl
    import termios

    assert process.stdin is not None
    unread = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
    status = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    return not any(unread) and status.rpartition(")")[2].split()[0] == "S"
