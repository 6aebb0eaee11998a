"""Rollback journals: tell a hot one, which SQLite plays back at the next opening, from the others.

https://www.sqlite.org/fileformat2.html#the_rollback_journal,
https://www.sqlite.org/lockingv3.html#how_to_find_hot_journals
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass

from modelstore.errors import RefusedError
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.format import RESERVED_BYTE
from modelstore.wal.locks import conflicting_lock

MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = struct.Struct(">8s5I")  # magic, records, nonce, pages before, sector size, page size
_TAIL = struct.Struct(">II8s")  # length and checksum of the super-journal's name, magic
_MAX_NAME = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Journal:
    """A rollback journal beside a database; its size in bytes.

    A hot journal belongs to a transaction that nobody will end. `pages_before` is the size of the
    database before that transaction.
    """

    path: str
    size: int
    is_hot: bool
    pages_before: int = 0


def look_at_journal(path: str, database: int) -> Journal | None:
    """Return the journal of the database at `path`, which is open at `database`; None if absent.

    Use the descriptor of a database that this process has open: closing another one drops locks.
    """
    name = path + "-journal"
    try:
        descriptor = open_or_refuse(name)
    except (FileNotFoundError, RefusedError):
        return None
    try:
        size = os.fstat(descriptor).st_size
        raw = read_at(descriptor, _HEADER.size, 0)
        if len(raw) < _HEADER.size or not raw.startswith(MAGIC):
            return Journal(name, size, is_hot=False)
        is_hot = (
            os.fstat(database).st_size > 0  # else SQLite deletes the journal
            and not _is_reserved(database)
            and not _is_committed(descriptor, size)
        )
        return Journal(name, size, is_hot, pages_before=_HEADER.unpack(raw)[3])
    finally:
        os.close(descriptor)


def _is_reserved(database: int) -> bool:
    """Tell whether a writer is at work: it owns the journal."""
    if not sys.platform.startswith("linux"):
        return False
    return conflicting_lock(database, RESERVED_BYTE) is not None


def _is_committed(journal: int, size: int) -> bool:
    """Tell whether a journal names a super-journal that is gone: its transaction was committed."""
    if size < _TAIL.size:
        return False
    length, checksum, magic = _TAIL.unpack(read_at(journal, _TAIL.size, size - _TAIL.size))
    if magic != MAGIC or not 0 < length <= min(_MAX_NAME, size - _TAIL.size):
        return False
    name = read_at(journal, length, size - _TAIL.size - length)
    # SQLite adds signed characters up; sums agree modulo 2^32.
    total = sum(byte - 256 if byte > 127 else byte for byte in name) % (1 << 32)
    return total == checksum and not os.path.lexists(name)
