"""What Linux says about a process: its command, its user, and since when it runs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_MAX_READ = 4096  # bytes; a command line may have megabytes


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `command` is outside text: escape it before it is shown.

    `since` is when it started (seconds since the epoch), `user` the numeric id of its owner.
    """

    pid: int | None
    command: str
    since: float | None = None
    user: int | None = None


def describe_process(pid: int) -> Process:
    """Return what is known of process `pid`; one that has ended is named as such."""
    command = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ")
    name = _read(f"/proc/{pid}/comm").rstrip(b"\n")
    if not command:
        command = b"[" + name + b"]" if name else b"process that has ended"
    return Process(pid, os.fsdecode(command), _started(pid), _user(pid))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_MAX_READ) or b""
    except OSError:
        return b""


def _started(pid: int) -> float | None:
    """Return the epoch second at which `pid` started: field 22 of its stat, in clock ticks.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    # The name, in parentheses, may hold spaces and parentheses of its own.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(fields) < 20:
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return round(booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"), 2)


def _user(pid: int) -> int | None:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None
