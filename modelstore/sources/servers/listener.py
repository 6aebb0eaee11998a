"""The process that listens at a port of this machine, where the system shows it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN = "0A"  # the state of a listening socket, proc_net_tcp(5)
_MAX_TABLE = 16 << 20  # bytes


def working_directory(port: int) -> str | None:
    """Return the working directory of the process that listens at a TCP port.

    None if no process does, if several in different directories do, or if it cannot be seen:
    another user's process, or a system without ``/proc``.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return None
    found = set()
    for process in _processes():
        with suppress(OSError):  # another user's, or gone
            if any(link in sockets for link in _descriptors(process)):
                found.add(os.readlink(f"/proc/{process}/cwd"))
    return found.pop() if len(found) == 1 else None


def _listening(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table, encoding="ascii") as file:
            for line in file.read(_MAX_TABLE).splitlines()[1:]:
                fields = line.split()
                local = fields[1].rpartition(":")[2] if len(fields) > 9 else ""
                if local and fields[3] == _LISTEN and int(local, 16) == port:
                    yield fields[9]


def _processes() -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir("/proc") if name.isdecimal()]
    return []


def _descriptors(process: str) -> Iterator[str]:
    folder = f"/proc/{process}/fd"
    for name in os.listdir(folder):
        with suppress(OSError):  # closed meanwhile
            yield os.readlink(f"{folder}/{name}")
