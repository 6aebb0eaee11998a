"""The ways to open a database: read-write, read-only, its main file alone, or a private copy."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Literal

from modelstore.database.files import copy_to, state_of
from modelstore.database.sqlite import sqlite3
from modelstore.errors import RefusedError
from modelstore.text import human_bytes, visible

if TYPE_CHECKING:
    from modelstore.database.files import HeldFiles
    from modelstore.database.probe import Probe

Access = Literal["rw", "ro", "immutable", "copy"]
"""rw: as usual; ro: database and log, nothing folded; immutable: the main file alone, without
locks; copy: database and log copied to a private directory."""

_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")
_QUERIES: dict[Access, str] = {
    "rw": "mode=rw",
    "ro": "mode=ro",
    "immutable": "immutable=1&mode=ro",
    "copy": "mode=rw",
}
_COPY_ATTEMPTS = 3


def uri(path: str, access: Access) -> str:
    """Return the URI of a path, whatever bytes it holds (sqlite.org/uri.html)."""
    if os.name == "nt":
        path = "/" + path.replace("\\", "/")
    quoted = "".join(chr(b) if b in _SAFE else f"%{b:02X}" for b in os.fsencode(path))
    return f"file:{quoted}?{_QUERIES[access]}"


def connect(path: str, access: Access) -> sqlite3.Connection:
    """Connect without a transaction of Python's own making; no file is ever created."""
    return sqlite3.connect(uri(path, access), uri=True, isolation_level=None, timeout=0)


def unwritable(path: str) -> str | None:
    """Return the file or directory that keeps SQLite from writing a database; None if none does.

    The directory counts where a log or journal must be created in it.
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


def ways_to_read(found: Probe, *, fold: bool) -> tuple[Access, ...]:
    """Return the ways to open a database for reading, the best first."""
    if found.foreign is not None:
        return ("immutable",)
    if found.damaged:
        return ("copy",)
    last: Access = "copy" if found.wal_size else "immutable"
    blocked = unwritable(found.path)
    if blocked == found.path:
        # A -wal or -shm that we made would be ours, and shut its owner out of the database.
        return ("ro", last) if found.wal_size is not None and found.shm_size else (last,)
    if not fold or blocked == found.path + "-wal":
        return ("ro", last)
    # A log and index that are there can be used in a directory that takes no new files.
    return ("rw", "ro", last)


class PrivateCopy:
    """A copy of a database and its log in a directory that nobody else can enter.

    Raises `RefusedError` where there is no room, or the files never hold still.
    """

    def __init__(self, held: HeldFiles) -> None:
        source = held.path
        name = visible(source, 200)
        needed = sum(_size(source + suffix) for suffix in ("", "-wal"))
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if needed > free:
            raise RefusedError(
                f"{name} can only be read from a copy of {human_bytes(needed)}, and "
                f"{tempfile.gettempdir()} has {human_bytes(free)} free",
                hint="set TMPDIR to a place with more room",
            )
        self.directory = tempfile.mkdtemp(prefix="modelstore-")  # mode 0700
        self.path = os.path.join(self.directory, "copy.db")
        try:
            is_whole = any(self._copy(held) for _ in range(_COPY_ATTEMPTS))
        except OSError as error:
            self.remove()
            raise RefusedError(
                f"{name} can only be read from a copy, and that failed: {error.strerror}",
                hint="check the disk, and the room in the place that TMPDIR names",
            ) from error
        except BaseException:
            self.remove()
            raise
        if not is_whole:
            self.remove()
            raise RefusedError(
                f"{name} changed again and again while it was copied",
                hint="try again when nobody writes to it",
            )

    def _copy(self, held: HeldFiles) -> bool:
        """Copy both files; return whether neither changed meanwhile."""
        for name in os.listdir(self.directory):
            os.unlink(os.path.join(self.directory, name))
        before = state_of(held.path)
        copy_to(held.db, self.path)
        wal = held.open("-wal")
        if wal is not None:
            copy_to(wal, self.path + "-wal")
            held.let_go(wal)
        return state_of(held.path) == before

    def remove(self) -> None:
        """Delete the copy."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
