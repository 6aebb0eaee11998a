"""The files of a database on the disk: sync them, hold them open, copy them.

POSIX drops all locks of a process on a file when the process closes any descriptor of that file
(sqlite.org/howtocorrupt.html, section 2.2). So a raw look at a database that SQLite may have open
in this process must keep its descriptors until SQLite is done: `HeldFiles` sees to that.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self, TypeVar

from modelstore.errors import RefusedError
from modelstore.text import human_bytes, visible
from modelstore.wal.files import open_or_refuse, read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import fcntl
except ImportError:  # Windows
    _FULL_SYNC: int | None = None
else:
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

# Linux: a lock that belongs to an open file description, and struct flock (fcntl(2)).
_F_OFD_GETLK, _F_OFD_SETLK = 36, 37
_FLOCK = struct.Struct("@hhqqi4x")  # type, whence, start, length, pid
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510  # sqlite.org/lockingv3.html, os_unix.c

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.ENOSYS)


def sync_file(descriptor: int | None, path: str) -> None:
    """Sync the file at `path`, which is open at `descriptor`. Raises OSError.

    A macOS fsync leaves the bytes in the drive's cache; F_FULLFSYNC does not
    (developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html).
    Windows syncs only a file that is open for writing, and has no lock trap.
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
            pass  # a network volume cannot; fall back to an ordinary sync
        else:
            return
    os.fsync(descriptor)


def sync_directory(path: str) -> None:
    """Sync the entries of a directory, where its file system can. Raises OSError.

    A directory that may be searched but not listed can only be synced together with everything
    else. SQLite does not do that: a database just created there may be gone after a power cut.
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


def unwritable(path: str) -> str | None:
    """Return the file or directory that keeps SQLite from writing a database; None if none does.

    The directory counts where SQLite must create a log or an index in it.
    """
    for name in (path, path + "-wal", path + "-shm"):
        if os.path.lexists(name) and not os.access(name, os.W_OK):
            return name
    directory = os.path.dirname(path)
    if not (os.path.lexists(path + "-wal") and os.path.lexists(path + "-shm")) and not os.access(
        directory, os.W_OK | os.X_OK
    ):
        return directory
    return None


KEEPS_DESCRIPTORS = os.name != "nt"
"""False on Windows: it has no lock trap, and cannot delete a file that has an open descriptor."""

Identity = tuple[int, int]
"""st_dev and st_ino of a file."""


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file: its device and inode."""
    return status.st_dev, status.st_ino


class _Group:
    """The descriptors of one database, shared by everything in this process that holds it."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.users = 0
        self.guards = 0
        self.descriptors: dict[Identity, int] = {}

    def open(self, path: str) -> int:
        known = self.descriptors.get(identity_of(os.stat(path)))
        return known if known is not None else self.adopt(open_or_refuse(path))

    def adopt(self, descriptor: int) -> int:
        """Keep a descriptor; where the file is open already, a second one must stay open too."""
        known = self.descriptors.setdefault(identity_of(os.fstat(descriptor)), descriptor)
        if known != descriptor:
            self.descriptors[(-1, descriptor)] = descriptor
        return known

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()


_groups: dict[Identity, _Group] = {}
_guard = threading.RLock()


class HeldFiles:
    """A database, and on demand its -wal and -shm, open for raw reads during a ``with`` block.

    `path` is a real path; `db` the database's descriptor, `identity` its device and inode.
    """

    def __init__(self, path: str, db: int, group: _Group) -> None:
        self.path = path
        self.db = db
        self.identity = group.identity
        self._group = group

    @classmethod
    @contextmanager
    def hold(cls, path: str) -> Iterator[Self]:
        """Open the database at a real path; the block must outlast every connection to it.

        Raises FileNotFoundError if it is absent, `RefusedError` if it cannot be read.
        """
        with _guard:
            known = _groups.get(identity_of(os.stat(path)))
            db = known.open(path) if known is not None else open_or_refuse(path)
            identity = identity_of(os.fstat(db))
            group = _groups.setdefault(identity, _Group(identity))
            group.users += 1
            db = group.adopt(db)
        try:
            yield cls(path, db, group)
        finally:
            with _guard:
                group.users -= 1
                if not group.users:
                    del _groups[identity]
                    group.close()

    def open(self, suffix: str) -> int | None:
        """Return a descriptor on the path with ``-wal`` or ``-shm`` appended; None if absent.

        Each call looks the path up again: a file that replaced another gets a new descriptor.
        Raises `RefusedError` for a file that cannot be read.
        """
        try:
            with _guard:
                return self._group.open(self.path + suffix)
        except FileNotFoundError:
            return None

    def guard(self) -> bool:
        """Keep SQLite from checkpointing and deleting the log when it closes as the last one.

        For that, SQLite needs an exclusive lock on the database. A shared lock of our own, on our
        own open file description, stands in its way; to others it looks like one more reader.
        Lasts until `unguard`, or until the files are closed. Returns False where it cannot be had.
        """
        with _guard:
            if not self._lock_shared(acquire=True):
                return False
            self._group.guards += 1
            return True

    def unguard(self) -> None:
        """Take one guard away; the last one lets SQLite delete the log when it closes."""
        with _guard:
            self._group.guards -= 1
            if not self._group.guards:
                self._lock_shared(acquire=False)

    def is_locked(self) -> bool:
        """Tell whether another process has a lock on the database; False if the system hides it."""
        if not sys.platform.startswith("linux"):
            return False
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
        try:
            answer = fcntl.fcntl(self.db, _F_OFD_GETLK, question)
        except OSError:  # an old kernel, or a file system without locks
            return False
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def _lock_shared(self, *, acquire: bool) -> bool:
        if not sys.platform.startswith("linux"):
            return False
        kind = fcntl.F_RDLCK if acquire else fcntl.F_UNLCK
        lock = _FLOCK.pack(kind, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
        try:
            fcntl.fcntl(self.db, _F_OFD_SETLK, lock)
        except OSError:  # an old kernel, or a file system without locks
            return False
        return True

    def knows(self, descriptor: int) -> bool:
        """Tell whether a descriptor is one of these, and not one of SQLite's."""
        return descriptor in self._group.descriptors.values()

    def let_go(self, descriptor: int | None) -> None:
        """Close one descriptor early on Windows, where keeping it does harm; elsewhere keep it."""
        if descriptor is None or KEEPS_DESCRIPTORS:
            return
        with _guard:
            for identity, known in list(self._group.descriptors.items()):
                if known == descriptor:
                    del self._group.descriptors[identity]
                    os.close(descriptor)


_CHUNK = 1 << 20  # bytes
_COPY_ATTEMPTS = 3
_PAUSES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.04)  # seconds before each look

_Found = TypeVar("_Found")

State = list[tuple[int, int, int, int] | None]


def state_of(path: str) -> State:
    """Return numbers that change when somebody writes to, or replaces, a database or its log."""
    states: State = []
    for name in (path, path + "-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            states.append(None)
        else:
            states.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return states


def when_still(
    path: str, look: Callable[[], _Found], is_sure: Callable[[_Found], bool]
) -> tuple[_Found, bool]:
    """Look until the files at `path` do not change meanwhile, or the look is sure without that.

    Return what the last look found, and whether it counts. A program that opens and closes the
    database all the time folds its log between two halves of a look.
    """
    for pause in _PAUSES:
        time.sleep(pause)
        before = state_of(path)
        try:
            found = look()
        except (RefusedError, OSError):
            if state_of(path) == before:
                raise
            continue
        if is_sure(found) or state_of(path) == before:
            return found, True
    return look(), False


@contextmanager
def private_copy(held: HeldFiles, *, with_journal: bool = False) -> Iterator[str]:
    """Copy a database and its log into a directory that nobody else can enter; yield the path.

    `with_journal` copies its rollback journal instead, which SQLite then plays back in the copy.

    Removes the copy after the block. Raises `RefusedError` if there is no room for it, or if the
    files change during each of three attempts.
    """
    import tempfile  # late: few databases are read from a copy

    name = visible(held.path, 200)
    _require_room(held.path, name, tempfile.gettempdir())
    directory = tempfile.mkdtemp(prefix="modelstore-")  # mode 0700
    path = os.path.join(directory, "copy.db")
    try:
        try:
            suffix = "-journal" if with_journal else "-wal"
            is_whole = any(_copy_both(held, path, suffix) for _ in range(_COPY_ATTEMPTS))
        except OSError as error:
            raise RefusedError(
                f"{name} can only be read from a copy, and that failed: {error.strerror}",
                hint="check the disk, and the room in the directory that TMPDIR names",
            ) from error
        if not is_whole:
            raise RefusedError(
                f"{name} changed again and again while it was copied",
                hint="try again when nobody writes to it",
            )
        yield path
    finally:
        from shutil import rmtree

        rmtree(directory, ignore_errors=True)


def _require_room(path: str, name: str, directory: str) -> None:
    needed = sum(status[2] for status in state_of(path) if status is not None)
    from shutil import disk_usage

    free = disk_usage(directory).free
    if needed > free:
        raise RefusedError(
            f"{name} can only be read from a copy of {human_bytes(needed)}, and {directory} has "
            f"{human_bytes(free)} free",
            hint="set TMPDIR to a directory with more room",
        )


def _copy_both(held: HeldFiles, target: str, suffix: str) -> bool:
    """Copy database and log, or journal, to `target`; return whether neither changed meanwhile."""
    for name in (target, target + suffix):
        with suppress(FileNotFoundError):
            os.unlink(name)
    before = state_of(held.path)
    copy_to(held.db, target)
    other = held.open(suffix)
    if other is not None:
        copy_to(other, target + suffix)
        held.let_go(other)
    return state_of(held.path) == before


def copy_to(source: int, target: str) -> None:
    """Copy the file open at `source` to a path that must not exist yet, of mode 0600.

    Removes the part that is written before an error. Raises OSError.
    """
    with _new_copy(source, target):
        return


def save_to(source: int, target: str, like: os.stat_result) -> None:
    """Copy as `copy_to` does, and sync; the copy gets the mode of `like`, from root its owner."""
    with _new_copy(source, target) as copy:
        if os.name != "nt":
            if os.geteuid() == 0:
                os.fchown(copy, like.st_uid, like.st_gid)
            os.fchmod(copy, stat.S_IMODE(like.st_mode) & 0o666)
        sync_file(copy, target)


@contextmanager
def _new_copy(source: int, target: str) -> Iterator[int]:
    """Copy, and yield the copy's descriptor: its name may lead to another file later."""
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
