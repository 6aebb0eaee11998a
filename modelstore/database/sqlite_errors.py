"""What SQLite's own errors mean to the person: one sentence, a hint, an exit code.

Result codes: sqlite.org/rescode.html.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from modelstore.errors import (
    DamageError,
    LockedError,
    ModelstoreError,
    PartlyWrittenError,
    RefusedError,
)
from modelstore.text import human_bytes, visible

if TYPE_CHECKING:
    from modelstore.database.sqlite import sqlite3

# SQLITE_ERROR is the statement's own fault, such as a collation that is not there.
SQLITE_ERROR, SQLITE_LOCKED, SQLITE_INTERRUPT, SQLITE_FULL = 1, 6, 9, 13
_BUSY, _PROTOCOL = 5, 15
_READONLY, _IOERR, _CORRUPT, _CANTOPEN, _NOTADB, _PERM, _AUTH = 8, 10, 11, 14, 26, 3, 23
_LEAST_ROOM = 64 << 10  # bytes; a new -shm takes 32 KiB


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's result code of an error; 0 where it carries none.

    Without its details (sqlite.org/rescode.html#extrc), for pysqlite3 does not tell them.
    """
    code = getattr(error, "sqlite_errorcode", None)
    return int(code) & 0xFF if code is not None else 0


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether waiting may help: the lock is somebody else's."""
    return primary_code(error) in {_BUSY, SQLITE_LOCKED, _PROTOCOL}


def is_no_access(error: sqlite3.Error) -> bool:
    """Tell whether another way of opening may succeed: read-only, or on a copy.

    An I/O error may be a file system's refusal of the shared memory that WAL needs.
    """
    return primary_code(error) in {_READONLY, _CANTOPEN, _PERM, _IOERR}


def translate_sqlite_error(
    error: sqlite3.Error, path: str, *, wrote: bool = False
) -> ModelstoreError | None:
    """Return what an error from a database means; None where it is a fault of the statement.

    `wrote` is whether something was committed before.
    """
    name = visible(path, 200)
    said = visible(str(error), 200)
    code = primary_code(error)
    if code in {_BUSY, SQLITE_LOCKED, _PROTOCOL} and wrote:
        return PartlyWrittenError(
            f"{name} is locked by another process, and patience ran out: only a part was written",
            hint="what was committed is kept; try again for the rest",
        )
    if code in {_BUSY, SQLITE_LOCKED, _PROTOCOL}:
        return LockedError(
            f"{name} is locked by another process, and patience ran out: nothing was written",
            hint="try again, or wait longer with --timeout",
        )
    if code == _IOERR and _ends_within_page(path):
        code, said = _CORRUPT, "it ends in the middle of a page"
    free = _room(path) if code == _IOERR else None
    if free is not None and free < _LEAST_ROOM:
        # SQLite says "full" of the database and its log, but not of the -shm.
        code, said = SQLITE_FULL, f"{human_bytes(free)} free; {said}"
    if code == SQLITE_FULL:
        said = f"the disk is full ({said})"
    if code in {_CORRUPT, _NOTADB}:
        return DamageError(
            f"{name} is damaged: {said}",
            hint="look first: `modelstore verify`; keep its -wal, and a copy of both",
        )
    hints = {
        SQLITE_FULL: "free some space, then try again; what was committed before is kept",
        _READONLY: "check who owns the database, its -wal and its directory",
        _CANTOPEN: "check who owns the database, its -wal, its -shm and its directory",
        _PERM: "check who owns the database, its -wal and its directory",
        _IOERR: "check the disk, its quota and the kernel's log; what was committed before is kept",
    }
    if code in hints:
        return RefusedError(f"{name}: {said}", hint=hints[code])
    return None


def _room(path: str) -> int | None:
    """Return how many bytes are free where a file lies; None if that cannot be known."""
    try:
        return shutil.disk_usage(os.path.dirname(path) or ".").free
    except OSError:
        return None


def _ends_within_page(path: str) -> bool:
    """Tell whether a database was cut where no page ends; every page is a multiple of 512."""
    try:
        return os.stat(path).st_size % 512 != 0
    except OSError:
        return False
