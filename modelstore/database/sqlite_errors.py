"""Translate errors of SQLite by their result codes: one sentence, a hint and an exit code.

The codes are those of sqlite.org/rescode.html.
"""

from __future__ import annotations

import os
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

SQLITE_ERROR = 1  # the statement's own fault, such as an unknown collation
SQLITE_LOCKED, SQLITE_INTERRUPT, SQLITE_CORRUPT, SQLITE_FULL = 6, 9, 11, 13
_PERM, _BUSY, _READONLY, _IOERR, _CANTOPEN, _PROTOCOL, _NOTADB = 3, 5, 8, 10, 14, 15, 26
_LEAST_ROOM = 64 << 10  # bytes; a new -shm takes 32 KiB


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code of an error; 0 if it carries none.

    The extended code (sqlite.org/rescode.html#extrc) is out of reach: pysqlite3 does not keep it.
    """
    code = getattr(error, "sqlite_errorcode", None)
    return int(code) & 0xFF if code is not None else 0


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether waiting may help, because another connection holds the lock."""
    return primary_code(error) in {_BUSY, SQLITE_LOCKED, _PROTOCOL}


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether SQLite found the file malformed."""
    return primary_code(error) in {SQLITE_CORRUPT, _NOTADB}


def is_io_error(error: sqlite3.Error) -> bool:
    """Tell whether reading or writing failed, be it because a file ends within a page."""
    return primary_code(error) == _IOERR


def is_read_only(error: sqlite3.Error) -> bool:
    """Tell whether SQLite had to write something on a connection that may not."""
    return primary_code(error) == _READONLY


def is_no_access(error: sqlite3.Error) -> bool:
    """Tell whether another way of opening may succeed: read-only, or on a copy.

    An I/O error may mean that the file system refuses the shared memory that WAL needs.
    """
    return primary_code(error) in {_READONLY, _CANTOPEN, _PERM, _IOERR}


def translate_sqlite_error(
    error: sqlite3.Error, path: str, *, wrote: bool = False
) -> ModelstoreError | None:
    """Translate an error from the database at `path`; return None for a fault of the statement.

    `wrote` tells whether something was committed before the error.
    """
    name = visible(path, 200)
    said = visible(str(error), 200)
    code = primary_code(error)
    if is_busy(error) and wrote:
        return PartlyWrittenError(
            f"{name} is locked by another process, and time ran out: only a part was written",
            hint="the committed part is kept; try again for the rest",
        )
    if is_busy(error):
        return LockedError(
            f"{name} is locked by another process, and time ran out: nothing was written",
            hint="try again, or wait longer with --timeout",
        )
    if code == _IOERR and _ends_within_page(path):
        code, said = SQLITE_CORRUPT, "it ends in the middle of a page"
    free = _room(path) if code == _IOERR else None
    if free is not None and free < _LEAST_ROOM:
        # SQLite reports a full disk for the database and its log, but not for the -shm.
        code, said = SQLITE_FULL, f"{human_bytes(free)} free; {said}"
    if code == SQLITE_FULL:
        said = f"the disk is full ({said})"
    if code in {SQLITE_CORRUPT, _NOTADB}:
        return DamageError(
            f"{name} is damaged: {said}",
            hint="keep its -wal, and a copy of both; "
            f"`modelstore recover {name} --into NEW.db` writes what is left to a new file",
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
    """Return the free bytes on the disk that holds a file; None if unknown."""
    from shutil import disk_usage

    try:
        return disk_usage(os.path.dirname(path) or ".").free
    except OSError:
        return None


def _ends_within_page(path: str) -> bool:
    """Tell whether a database was cut off inside a page; page sizes are multiples of 512."""
    try:
        return os.stat(path).st_size % 512 != 0
    except OSError:
        return False
