"""What would be lost if the ``-wal`` vanished now, and what the main file would be without it.

The newest committed version of each page in the log is laid over the main file; interior b-tree
pages tell which table each page belongs to; the rows of the pages that differ are compared. That
costs as much as the log and the interior pages, however large the tables are.

`analyse` opens descriptors of its own on the database, its ``-wal`` and its ``-shm``, and closes
them. A process that does so while its own SQLite has the database open drops SQLite's locks and
can lose data (sqlite.org/howtocorrupt.html, section 2.2): call it **before** SQLite opens the
database in this process, or in another process.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from modelstore.errors import RefusedError
from modelstore.text import visible
from modelstore.wal.analysis import Analysis
from modelstore.wal.files import open_regular, read_at
from modelstore.wal.index import WalIndex, read_index
from modelstore.wal.layout import WAL_HEADER_SIZE
from modelstore.wal.lossreport import (
    Fate,
    LossReport,
    ObjectPages,
    RowSet,
    SchemaChange,
    TableLoss,
)
from modelstore.wal.mainfile import MainFile, MainState
from modelstore.wal.reader import scan

__all__ = [
    "Fate",
    "LossReport",
    "MainFile",
    "MainState",
    "ObjectPages",
    "RowSet",
    "SchemaChange",
    "TableLoss",
    "analyse",
]

_ATTEMPTS = 12
_PATIENCE = 5.0  # seconds after which a look that was disturbed is the last
_PAUSE = 0.002  # seconds before another look, longer each time
_CLOCK_TICK = 0.02  # seconds; file times are no finer than the kernel's clock tick


def analyse(
    db_path: str,
    *,
    wal_path: str | None = None,
    deep: bool = False,
    names: tuple[str, str] | None = None,
    limit: int = 10,
) -> LossReport:
    """Return what would be lost if the ``-wal`` of the database at `db_path` vanished now.

    `names` is a table and a column whose text values are wanted of lost and reverted rows, such
    as ``("models", "name")``; `limit` is how many keys and texts to keep of each kind. `deep`
    reads as much of the database as exact figures may take; otherwise figures that would cost
    more than some 65,000 pages beyond the log are lower bounds, marked as such. A missing
    database, ``-wal`` or ``-shm`` is an answer; `RefusedError` is raised where both files are
    missing, and for what is no regular file or cannot be read. Read the module's warning first.
    """
    path = os.path.realpath(db_path)
    log_path = wal_path or path + "-wal"
    deadline = time.monotonic() + _PATIENCE
    attempt = 0
    while True:
        attempt += 1
        with ExitStack() as stack:
            files = _Files.open(path, log_path, stack)
            before = files.stamp()
            found = scan(log_path if files.log is None else files.log)
            analysis = Analysis(files.main, files.log, found, before.index)
            report = analysis.report(attempt, deep=deep, names=names, limit=limit)
            settled = before.settles(files.stamp()) and not found.changed_while_reading
        if settled or attempt == _ATTEMPTS or time.monotonic() > deadline:
            return replace(report, raced=not settled)
        time.sleep(_PAUSE * attempt)


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes when a checkpoint writes the main file, or the log starts anew.

    New commits change nothing here and do no harm: frames that are committed stay as they are.
    https://www.sqlite.org/walformat.html#the_checkpoint_algorithm
    """

    index: WalIndex | None
    header: bytes
    main: tuple[int, int, int, int] | None
    log: tuple[int, int] | None
    age: float  # seconds since the main file was written

    def settles(self, after: _Stamp) -> bool:
        """Return whether nothing that matters happened between this stamp and `after`."""
        if self._key() != after._key():
            return False
        if self.index is not None and self.index.backfill == self.index.backfill_attempted:
            return True  # the attempt is noted before the main file is written
        return self.age > _CLOCK_TICK  # else a later write may have left the time as it was

    def _key(self) -> object:
        index = self.index
        return (
            self.header,
            self.main,
            self.log,
            index and (index.salt, index.backfill, index.backfill_attempted),
        )


@dataclass(frozen=True, slots=True)
class _Files:
    """The open files of one look; None where there is none."""

    paths: tuple[str, str]
    main: int | None
    log: int | None
    index: int | None

    @classmethod
    def open(cls, path: str, log_path: str, stack: ExitStack) -> _Files:
        """Open them until `stack` ends."""

        def opened(name: str) -> int | None:
            try:
                fd = open_regular(name)
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

    def stamp(self) -> _Stamp:
        """Return the state of the files now."""
        header = b"" if self.log is None else read_at(self.log, WAL_HEADER_SIZE, 0)
        main, log = (_stat(path) for path in self.paths)
        index = None if self.index is None else read_index(self.index)
        if index and (not index.is_settled or index.salt != _salt(header)):
            index = None
        age = float("inf") if main is None else time.time() - main.st_mtime
        return _Stamp(
            index=index,
            header=header,
            main=main and (main.st_dev, main.st_ino, main.st_mtime_ns, main.st_size),
            log=log and (log.st_dev, log.st_ino),
            age=age,
        )


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _salt(header: bytes) -> tuple[int, int]:
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
