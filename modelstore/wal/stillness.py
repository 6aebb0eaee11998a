"""Evidence that nobody wrote a database while it was read, without any lock.

A checkpoint notes its attempt in the wal-index before it writes the main file, and a log that
restarts gets new salts: two equal stamps, before and after, prove that the files stood still.
https://www.sqlite.org/walformat.html#the_checkpoint_algorithm
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.text import visible
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.format import WAL_HEADER_SIZE
from modelstore.wal.index import read_index
from modelstore.wal.locks import attached_processes

if TYPE_CHECKING:
    from contextlib import ExitStack

    from modelstore.wal.index import WalIndex

_CLOCK_TICK = 0.02  # seconds; file times are no finer than the kernel's clock tick


@dataclass(frozen=True, slots=True)
class Stamp:
    """The facts that change when a checkpoint writes the main file or the log restarts.

    New commits change none of them, and do no harm: committed frames stay as they are.
    https://www.sqlite.org/walformat.html#the_checkpoint_algorithm
    """

    index: WalIndex | None
    leftover_index: WalIndex | None
    is_held: bool  # by a process that has the log open
    header: bytes
    main: tuple[int, int, int, int] | None
    log: tuple[int, int] | None
    age: float  # seconds since the last write to the main file

    def settles(self, after: Stamp) -> bool:
        """Return True if nothing that matters happened between this stamp and `after`."""
        if self._key() != after._key():
            return False
        if self.index is not None and self.index.backfill == self.index.backfill_attempted:
            return True  # a checkpoint notes its attempt before it writes the main file
        return self.age > _CLOCK_TICK  # otherwise a later write may have the same time

    def _key(self) -> object:
        index = self.index
        return (
            self.header,
            self.main,
            self.log,
            index and (index.salt, index.backfill, index.backfill_attempted),
        )


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """Descriptors of the main file, the log and the wal-index; None for a missing file."""

    paths: tuple[str, str]
    main: int | None
    log: int | None
    index: int | None

    @classmethod
    def open(cls, path: str, log_path: str, stack: ExitStack) -> OpenFiles:
        """Open the files until `stack` ends."""

        def opened(name: str) -> int | None:
            try:
                fd = open_or_refuse(name)
            except FileNotFoundError:
                return None
            stack.callback(os.close, fd)
            return fd

        main, log = opened(path), opened(log_path)
        if main is None and log is None:
            raise RefusedError(
                f"there is neither a database {visible(path, 200)} nor a log of it",
                hint="check the path",
            )
        return cls((path, log_path), main, log, opened(path + "-shm"))

    def stamp(self, before: Stamp | None = None) -> Stamp:
        """Return the state of the files now, or their state after the stamp `before`."""
        # SQLite discards an index that no process holds: after a crash it may say anything.
        is_held = before.is_held if before else self.are_in_use()
        index = None if self.index is None else read_index(self.index)
        header = b"" if self.log is None else read_at(self.log, WAL_HEADER_SIZE, 0)
        main, log = (_stat(path) for path in self.paths)
        if index and (not index.is_settled or index.salt != _salt(header)):
            index = None
        age = float("inf") if main is None else time.time() - main.st_mtime
        return Stamp(
            index=index if is_held else None,
            leftover_index=None if is_held else index,
            is_held=is_held,
            header=header,
            main=main and (main.st_dev, main.st_ino, main.st_mtime_ns, main.st_size),
            log=log and (log.st_dev, log.st_ino),
            age=age,
        )

    def are_in_use(self) -> bool:
        """Return True if a process has the log open, as far as that can be seen."""
        return self.index is not None and bool(attached_processes(self.index))


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _salt(header: bytes) -> tuple[int, int]:
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
