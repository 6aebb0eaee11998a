"""Raw descriptors on a database's files that outlive every connection of this process.

Closing any descriptor on the database or its -shm drops all POSIX locks that the process holds on
that file, SQLite's own among them; another process then deletes a live log and acknowledged rows
are gone (sqlite.org/howtocorrupt.html, section 2.2). So whatever was opened here is closed only
when nobody in this process uses that database any more.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from modelstore.wal.files import open_regular

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
        return known if known is not None else self.adopt(open_regular(path))

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
            self.db = known.open(path) if known is not None else open_regular(path)
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
