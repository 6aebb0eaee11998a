"""Open regular files without ever blocking, and read them at an offset.

Uses ``pread``, never ``mmap``: another process may truncate the file at any moment, and then the
touch of a mapped page is a SIGBUS.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO would wait for a writer
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_ATIME = getattr(os, "O_NOATIME", 0)


class NotRegularError(ValueError):
    """The path names something other than a regular file; the message says what it is."""


def open_regular(path: str, *, follow_link: bool = True) -> int:
    """Open the regular file at `path` to read and return the descriptor; the caller closes it.

    Raises OSError if it cannot be opened, `NotRegularError` if it is a directory, a FIFO, a device.
    """
    fd = open_to_look(path, follow_link=follow_link)
    try:
        _require_regular(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_to_look(path: str, *, follow_link: bool = True) -> int:
    """Open anything to read without waiting, and leave the time of its last access as it is.

    Linux allows the latter for one's own files: our look at a model is no use of it.
    """
    flags = _OPEN_FLAGS if follow_link else _OPEN_FLAGS | _NO_FOLLOW
    try:
        return os.open(path, flags | _NO_ATIME)
    except PermissionError:
        if not _NO_ATIME:
            raise
    return os.open(path, flags)  # perhaps it belongs to another user


def _require_regular(fd: int) -> None:
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        raise NotRegularError(f"is {kind_of(mode)}, not a file")


def kind_of(mode: int) -> str:
    """Return the noun for a file of this ``st_mode``, with its article: "a FIFO"."""
    for test, words in (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return words
    return "something special"


def open_or_refuse(path: str) -> int:
    """Open a file of a database as `open_regular` does, without following a symbolic link.

    SQLite does not follow one here either. Raises FileNotFoundError if the file is missing and
    `RefusedError`, with a sentence for the user, if it cannot be opened or is no regular file.
    """
    name = visible(path, 200)
    try:
        return open_regular(path, follow_link=False)
    except FileNotFoundError:
        raise
    except NotRegularError as error:
        raise RefusedError(f"{name} {error}", hint="give the path of a file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ELOOP, errno.EMLINK}:
            raise RefusedError(
                f"{name} is a symbolic link, which SQLite does not follow",
                hint="give the path of the file itself",
            ) from error
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RefusedError(f"cannot open {name}: {reason}", hint="check its permissions") from error


def require_regular(fd: int, name: str) -> None:
    """Raise `RefusedError`, which calls the file `name`, unless `fd` is a regular file."""
    try:
        _require_regular(fd)
    except NotRegularError as error:
        raise RefusedError(f"{name} {error}", hint="give the path of a file") from error


_LOOKS = 3  # a file may be replaced between the two halves of a look


def real_path(path: str) -> str:
    """Return the path that SQLite will use: absolute, symbolic links followed.

    Raises `RefusedError` for a path that leads to another file than its links say, as one below
    ``/proc/PID/root`` does: SQLite follows the links, and opens the file of this side.
    https://man7.org/linux/man-pages/man5/proc_pid_root.5.html
    """
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{visible(path, 200)} is not the path of a file: {reason_of(error)}",
            hint="check the path",
        ) from error
    if any(_identity(path) == _identity(real) for _ in range(_LOOKS)):
        return real
    raise RefusedError(
        f"{visible(path, 200)} is another file than {visible(real, 200)}, which SQLite would open",
        hint="run the command where that file is: nsenter --target PID --mount",
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def reason_of(error: Exception) -> str:
    """Return the system's words for an error."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def refusing_to_read(path: str) -> Iterator[None]:
    """Raise `RefusedError`, which names the database at `path`, for an error of reading."""
    try:
        yield
    except OSError as error:
        raise RefusedError(
            f"{visible(path, 200)} cannot be read: {error.strerror or error}",
            hint="check the disk and the kernel's log; keep copies of what can be read",
        ) from error


class FailedReadError(OSError):
    """A file could not be read; `filename` is its name where the system tells."""


def _failed(fd: int, error: OSError) -> FailedReadError:
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        name = "a file of the database"
    return FailedReadError(error.errno, error.strerror, name)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes from `offset`; fewer only at the end of the file."""
    start = b""
    if hasattr(os, "pread"):  # mostly all of it, in memory that nothing has to clear or to copy
        try:
            start = os.pread(fd, size, offset)
        except OSError as error:
            raise _failed(fd, error) from error
        if len(start) in (0, size):
            return start
    view = memoryview(bytearray(size - len(start)))
    return start + view[: read_into(fd, view, offset + len(start))]


def read_into(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset` and return the bytes read: fewer only at the end of the file."""
    done = 0
    while done < len(view):
        try:
            got = _read_once(fd, view[done:], offset + done)
        except OSError as error:
            raise _failed(fd, error) from error
        if got == 0:
            break
        done += got
    return done


if hasattr(os, "preadv"):

    def _read_once(fd: int, view: memoryview, offset: int) -> int:
        return os.preadv(fd, [view], offset)

elif hasattr(os, "pread"):

    def _read_once(fd: int, view: memoryview, offset: int) -> int:
        data = os.pread(fd, len(view), offset)
        view[: len(data)] = data
        return len(data)

else:  # Windows: nobody else has the descriptor, so nobody else moves its position

    def _read_once(fd: int, view: memoryview, offset: int) -> int:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(view))
        view[: len(data)] = data
        return len(data)
