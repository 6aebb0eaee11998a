"""Copying a database's files byte by byte, and telling whether they held still meanwhile."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.wal.files import open_or_refuse, read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    _FULL_SYNC: int | None = None
else:
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.ENOSYS)


def sync_file(descriptor: int | None, path: str) -> None:
    """Bring the bytes of the file at `path`, open at `descriptor`, to the disk. Raises OSError.

    A macOS fsync leaves them in the drive's cache; F_FULLFSYNC does not
    (developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html).
    Windows syncs only what is open to be written, and knows no lock trap.
    """
    if os.name == "nt":
        writable = os.open(path, os.O_RDWR)
        try:
            os.fsync(writable)
        finally:
            os.close(writable)
        return
    if descriptor is None:
        raise FileNotFoundError(errno.ENOENT, "it is gone", path)
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
        except OSError:
            pass  # a network volume cannot; an ordinary sync is what there is
        else:
            return
    os.fsync(descriptor)


def sync_directory(path: str) -> None:
    """Bring a directory's entries to the disk, where its file system can. Raises OSError.

    One that may be searched but not listed cannot be synced but with everything else: SQLite
    leaves it, and a database that was just created in it may be gone after a power cut.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        os.sync()
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_directories(path: str) -> None:
    """Create a directory and its missing parents, and sync each entry. Raises OSError."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.makedirs(directory, exist_ok=True)
        sync_directory(os.path.dirname(directory))


KEEPS_DESCRIPTORS = os.name != "nt"
"""Windows has no such trap, but an open descriptor there keeps SQLite from deleting its files."""

Identity = tuple[int, int]
"""st_dev and st_ino of a file."""


@dataclass(slots=True)
class _Group:
    users: int = 0
    descriptors: dict[Identity, int] = field(default_factory=dict)

    def open(self, path: str) -> int:
        known = self.descriptors.get(identity_of(os.stat(path)))
        return known if known is not None else self.adopt(open_or_refuse(path))

    def adopt(self, descriptor: int) -> int:
        """Keep a descriptor; where the file is open already, a second one must stay open too."""
        known = self.descriptors.setdefault(identity_of(os.fstat(descriptor)), descriptor)
        if known != descriptor:
            self.descriptors[(-1, descriptor)] = descriptor
        return known


_groups: dict[Identity, _Group] = {}
_guard = threading.RLock()


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells a file from every other one: its device and inode."""
    return status.st_dev, status.st_ino


class HeldFiles:
    """A database, and on demand its -wal and -shm, opened to read until `release`.

    `path` must be a real path. Raises FileNotFoundError where there is none, `RefusedError` where
    it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._released = False
        with _guard:
            known = _groups.get(identity_of(os.stat(path)))
            self.db = known.open(path) if known is not None else open_or_refuse(path)
            self.identity = identity_of(os.fstat(self.db))
            self._group = _groups.setdefault(self.identity, _Group())
            self._group.users += 1
            self.db = self._group.adopt(self.db)

    def open(self, suffix: str) -> int | None:
        """Return a descriptor on the path with ``-wal`` or ``-shm`` appended; None if absent.

        Each call looks the path up again: a file that replaced another gets a new descriptor.
        Raises `RefusedError` where it is there and cannot be read.
        """
        try:
            with _guard:
                return self._group.open(self.path + suffix)
        except FileNotFoundError:
            return None

    def knows(self, descriptor: int) -> bool:
        """Tell whether a descriptor is one that is held here, not one of SQLite's."""
        return descriptor in self._group.descriptors.values()

    @property
    def shared(self) -> bool:
        """Whether something else in this process uses the same database now."""
        return self._group.users > 1

    def let_go(self, descriptor: int | None) -> None:
        """Close one descriptor early, where that is harmless and keeping it is not: Windows."""
        if descriptor is None or KEEPS_DESCRIPTORS:
            return
        with _guard:
            for identity, known in list(self._group.descriptors.items()):
                if known == descriptor:
                    del self._group.descriptors[identity]
                    os.close(descriptor)

    def release(self) -> None:
        """Say that this user is done, *after* its connection was closed; harmless to repeat."""
        with _guard:
            if self._released:
                return
            self._released = True
            self._group.users -= 1
            if self._group.users:
                return
            del _groups[self.identity]
            for descriptor in self._group.descriptors.values():
                os.close(descriptor)
            self._group.descriptors.clear()


_CHUNK = 1 << 20

State = list[tuple[int, int, int, int] | None]


def state_of(path: str) -> State:
    """Return what changes when somebody writes to a database or its log, or replaces one."""
    states: State = []
    for name in (path, path + "-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            states.append(None)
        else:
            states.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return states


def copy_to(source: int, target: str) -> None:
    """Copy the file open at `source` to a path that must not exist yet, of mode 0600.

    Raises OSError; what was written by then is removed.
    """
    with _new_copy(source, target):
        return


def save_to(source: int, target: str, like: os.stat_result) -> None:
    """Copy as `copy_to` does, and sync it; it gets the mode of `like`, from root its owner too."""
    with _new_copy(source, target) as copy:
        if os.name != "nt":
            if os.geteuid() == 0:
                os.fchown(copy, like.st_uid, like.st_gid)
            os.fchmod(copy, stat.S_IMODE(like.st_mode) & 0o666)
        sync_file(copy, target)


@contextmanager
def _new_copy(source: int, target: str) -> Iterator[int]:
    """Give the descriptor of a copy just made: by its name, another file could be found later."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    copy = os.open(target, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _copy_bytes(source, copy)
        yield copy
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise
    finally:
        os.close(copy)


def _copy_bytes(source: int, output: int) -> None:
    offset = 0
    while chunk := read_at(source, _CHUNK, offset):
        offset += len(chunk)
        while chunk:
            chunk = chunk[os.write(output, chunk) :]
