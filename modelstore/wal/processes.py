"""Facts of Linux about a process: its command, its user, its start, and its open files."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_READ = 4096  # bytes; a command line may have megabytes
_MAX_FDINFO = 1 << 16  # bytes of one fdinfo


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `command` is outside text: escape it before it is shown.

    `since` is its start in seconds since the epoch, `user` the numeric id of its owner.
    """

    pid: int | None
    command: str
    since: float | None = None
    user: int | None = None


def describe_process(pid: int) -> Process:
    """Return the known facts of process `pid`; the command of an ended process says so."""
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


def descriptor_infos(status: os.stat_result) -> Iterator[tuple[int, list[bytes]]]:
    """Yield process id and fdinfo lines of each open descriptor on the file with this ``stat``.

    Skips processes of other users unless this one is privileged.
    https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            descriptors = os.listdir(f"/proc/{name}/fd")
        except OSError:  # it has ended, or belongs to another user
            continue
        for descriptor in descriptors:
            try:
                if os.path.samestat(os.stat(f"/proc/{name}/fd/{descriptor}"), status):
                    with open(f"/proc/{name}/fdinfo/{descriptor}", "rb") as info:
                        yield int(name), info.read(_MAX_FDINFO).splitlines()
            except OSError:  # closed meanwhile
                continue
