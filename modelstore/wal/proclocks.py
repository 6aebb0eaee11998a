"""What ``/proc/locks`` and ``/proc/PID/fdinfo`` say of the locks on one file.

https://man7.org/linux/man-pages/man5/proc_locks.5.html
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_EOF = sys.maxsize
_MAX_FDINFO = 1 << 16  # bytes of one fdinfo that are looked at
_LINE = re.compile(
    rb"\d+:\s+(?P<waiting>->\s+)?(?P<kind>POSIX|OFDLCK)\s+\S+\s+(?P<mode>READ|WRITE)\s+(?P<pid>-?\d+)"
    rb"\s+(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+)\s+(?P<start>\d+)\s+(?P<end>\d+|EOF)"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One lock on bytes `start` to `end`; `pid` is None where the kernel does not tell it.

    `on_device` is whether its device is the file's: an overlay has another one than the file has
    below it, and then the number of the inode alone is no proof.
    """

    kind: str
    exclusive: bool
    waiting: bool
    pid: int | None
    start: int
    end: int
    on_device: bool


def lock_table(fd: int, path: str = "/proc/locks") -> list[Entry] | None:
    """Return the locks on the file open at `fd`, or None where the table cannot be read.

    Where some are on the file's own device, those of equal inodes elsewhere are left out.
    """
    try:
        with open(path, "rb") as table:
            found = _entries(table, os.fstat(fd))
    except OSError:
        return None
    certain = [entry for entry in found if entry.on_device]
    return certain or found


def description_owners(fd: int) -> list[Entry]:
    """Return the locks of open file descriptions on the file at `fd`, each with a process.

    Several processes may share a description. Descriptors of other users' processes are out of
    reach without privilege: their locks are missing here.
    """
    status = os.fstat(fd)
    found: list[Entry] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            found += _owned(int(name), status)
    return found


def _owned(pid: int, status: os.stat_result) -> list[Entry]:
    found: list[Entry] = []
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended, or belongs to another user
        return found
    for descriptor in descriptors:
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), status):
                with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as info:
                    lines = info.read(_MAX_FDINFO).splitlines()
                locks = _entries([line for line in lines if line.startswith(b"lock:")], status)
                found += [replace(lock, pid=pid) for lock in locks if lock.kind == "OFDLCK"]
        except OSError:  # closed meanwhile
            continue
    return found


def _entries(lines: Iterable[bytes], status: os.stat_result) -> list[Entry]:
    needle = b":%d " % status.st_ino
    found: list[Entry] = []
    for line in lines:
        match = _LINE.search(line) if needle in line else None
        if match is None or int(match["inode"]) != status.st_ino:
            continue
        pid = int(match["pid"])
        device = os.makedev(int(match["major"], 16), int(match["minor"], 16))
        found.append(
            Entry(
                kind=match["kind"].decode(),
                exclusive=match["mode"] == b"WRITE",
                waiting=match["waiting"] is not None,
                pid=pid if pid > 0 else None,
                start=int(match["start"]),
                end=_EOF if match["end"] == b"EOF" else int(match["end"]),
                on_device=device == status.st_dev,
            )
        )
    return found
