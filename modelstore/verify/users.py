"""Who else has a database open, and on which SQLite, as far as Linux tells.

https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass

from modelstore.wal.processes import process

_MAX_LIBRARY = 64 << 20  # bytes of a library that are searched for its version
_MAX_MAPS = 4 << 20  # bytes of a table of mappings
_VERSION = re.compile(rb"\0(3\.\d{1,2}\.\d{1,2})\0")
_SOURCE_ID = re.compile(rb"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True)
class User:
    """A process that has a database open. `command` is outside text; `sqlite` None if unknown."""

    pid: int
    command: str
    sqlite: str | None


def users_of(path: str) -> tuple[tuple[User, ...], bool]:
    """Return the other processes that have a file open, and whether these are all.

    Only stats descriptors of others, never opens the file itself.
    """
    if not sys.platform.startswith("linux"):
        return (), False
    try:
        wanted = os.stat(path)
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return (), False
    complete = os.geteuid() == 0
    users = [pid for pid in sorted(pids) if pid != os.getpid() and _has_open(pid, wanted)]
    return tuple(User(pid, process(pid).command, _sqlite_version(pid)) for pid in users), complete


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:  # ended, or another user's
        return False
    for name in names:
        try:
            if os.path.samestat(os.stat(f"{directory}/{name}"), wanted):
                return True
        except OSError:
            continue
    return False


def _sqlite_version(pid: int) -> str | None:
    """Return the version in the library, or the program, that the process has SQLite from."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as table:
            lines = table.read(_MAX_MAPS).splitlines()
        program = os.fsencode(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.count(b"/")}
    libraries = sorted(name for name in mapped if b"sqlite" in os.path.basename(name).lower())
    for name in [*libraries, program]:
        version = _version_in(b"/proc/%d/root%s" % (pid, name))
        if version is not None:
            return version
    return None


def _version_in(path: bytes) -> str | None:
    """Return the version that a binary says it is, if SQLite itself is in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(_MAX_LIBRARY)
    if _SOURCE_ID.search(content) is None:
        return None
    versions = {match[1].decode() for match in _VERSION.finditer(content)}
    return versions.pop() if len(versions) == 1 else None
