"""The other processes that have a file open, and the SQLite that each of them runs on.

Only Linux tells. The file itself is never opened: its descriptors elsewhere are compared by stat.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from modelstore.database.holders import Holders, Role, look_at_holders

_MAX_MAPS = 4 << 20  # bytes of a table of mappings
_MAX_BINARY = 64 << 20  # bytes of a binary that are searched, a chunk at a time
_CHUNK = 1 << 20
_NEAR = 1 << 18  # bytes on each side of SQLite's magic text that hold its version too
_MAGIC = b"SQLite format 3\0"  # every SQLite has it among its constants
_VERSION = re.compile(rb"(?<![ -~])(3\.\d{1,2}\.\d{1,2})\0")
_SOURCE_ID = re.compile(rb"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [0-9a-f]{40,64}")

# By device, inode, size and time of the binary: many processes share one library.
_known_versions: dict[tuple[int, int, int, int], str | None] = {}


class User(NamedTuple):
    """A process that has a database open. `command` is outside text; `sqlite` None if unknown."""

    pid: int
    command: str
    sqlite: str | None


def users_of(path: str, holders: Holders | None = None) -> tuple[tuple[User, ...], str | None]:
    """Return the other processes that have a file open, and why these may not be all.

    `holders` is a look at the database that was taken already; without it, one is taken.
    """
    found = holders or look_at_holders(path, certain=False)
    users = tuple(
        User(holder.pid, holder.command, _sqlite_version(holder.task))
        for holder in found.holders
        if any(file.is_current for file in holder.of(Role.DATABASE))
    )
    return users, found.unseen


def _sqlite_version(task: int) -> str | None:
    """Return the version in the library, or else in the program, that a process runs."""
    try:
        with open(f"/proc/{task}/maps", "rb") as table:
            lines = table.read(_MAX_MAPS).splitlines()
        program = os.fsencode(os.readlink(f"/proc/{task}/exe"))
    except OSError:
        return None
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.count(b"/")}
    libraries = sorted(name for name in mapped if b"sqlite" in os.path.basename(name).lower())
    for name in [*libraries, program]:
        version = _version_of(b"/proc/%d/root%s" % (task, name))
        if version is not None:
            return version
    return None


def _version_of(path: bytes) -> str | None:
    """Return the version of the SQLite in a binary; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity not in _known_versions:
            _known_versions[identity] = _search_version(descriptor)
        return _known_versions[identity]
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _search_version(descriptor: int) -> str | None:
    """Search the constants around SQLite's magic text for its version."""
    magic = _find_magic(descriptor)
    if magic is None:
        return None
    begin = max(0, magic - _NEAR)
    near = os.pread(descriptor, magic + _NEAR - begin, begin)
    if _SOURCE_ID.search(near) is None:
        return None
    versions = {match[1].decode() for match in _VERSION.finditer(near)}
    return versions.pop() if len(versions) == 1 else None


def _find_magic(descriptor: int) -> int | None:
    for offset in range(0, _MAX_BINARY, _CHUNK):
        chunk = os.pread(descriptor, _CHUNK + len(_MAGIC), offset)
        place = chunk.find(_MAGIC)
        if place >= 0:
            return offset + place
        if len(chunk) <= _CHUNK:
            return None
    return None
