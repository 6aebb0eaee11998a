"""Copying a database's files byte by byte, and telling whether they held still meanwhile."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from modelstore.store.durability import sync_file
from modelstore.wal.files import read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

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
