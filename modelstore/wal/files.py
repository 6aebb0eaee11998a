"""Reading at an offset, and opening what may be anything, without ever blocking.

``pread`` and never ``mmap``: another process may truncate the file at any moment, which turns the
touch of a mapped page into a SIGBUS.
"""

from __future__ import annotations

import errno
import os
import stat

from modelstore.errors import RefusedError
from modelstore.text import visible

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO would wait for a writer
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NOFOLLOW", 0)  # SQLite does not follow a link here either
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: str) -> int:
    """Return a read-only descriptor of the regular file at `path`, for the caller to close.

    The last part of the path is not followed if it is a symbolic link. Raises FileNotFoundError
    where there is none, `RefusedError` where it is no regular file or cannot be read.
    """
    name = visible(path, 200)
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ELOOP, errno.EMLINK}:
            raise RefusedError(
                f"{name} is a symbolic link, which SQLite does not follow",
                hint="give the path of the file itself",
            ) from error
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RefusedError(f"cannot open {name}: {reason}", hint="check its permissions") from error
    try:
        require_regular(fd, name)
    except RefusedError:
        os.close(fd)
        raise
    return fd


def require_regular(fd: int, name: str) -> None:
    """Raise `RefusedError`, naming it `name`, unless descriptor `fd` is of a regular file."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise RefusedError(f"{name} is {what}", hint="give the path of a file")


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes from `offset`; fewer only where the file ends."""
    buffer = bytearray(size)
    return bytes(buffer[: read_into(fd, memoryview(buffer), offset)])


def read_into(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` (bytes) from `offset` and return how many bytes there were before the end."""
    done = 0
    while done < len(view):
        got = _read_once(fd, view[done:], offset + done)
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

else:  # Windows: the descriptor's position is ours alone, as nobody else has the descriptor

    def _read_once(fd: int, view: memoryview, offset: int) -> int:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(view))
        view[: len(data)] = data
        return len(data)
