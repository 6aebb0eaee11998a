"""Syncing files and directories so that they outlive a power cut."""

from __future__ import annotations

import errno
import os

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
