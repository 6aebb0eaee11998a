"""The rollback journal beside a database, and the transaction that it may take back.

https://www.sqlite.org/lockingv3.html#how_to_find_hot_journals,
https://www.sqlite.org/fileformat2.html#the_rollback_journal
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

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = struct.Struct(">8s5I")  # magic, records, nonce, pages before, sector size, page size
_TAIL = struct.Struct(">II8s")  # length and checksum of the super-journal's name, then the magic
_MAX_NAME = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Journal:
    """A rollback journal beside a database; its size in bytes.

    A hot journal belongs to a transaction that nobody will end: SQLite takes it back at the next
    opening. It drops a stale one, whose super-journal is gone: that transaction was committed.
    """

    path: str
    size: int
    is_hot: bool
    is_stale: bool = False
    pages_before: int = 0
    """The size of the database, in pages, before the transaction."""


def read_journal(database: str, opened: int | None = None) -> Journal | None:
    """Return the journal of the database at a real path; None if there is none to read.

    `opened` is a descriptor of the database, for a process in which SQLite may have it open:
    opening and closing another one would drop SQLite's locks.
    """
    name = database + "-journal"
    try:
        descriptor = open_or_refuse(name)
    except (FileNotFoundError, RefusedError):
        return None
    try:
        size = os.fstat(descriptor).st_size
        raw = read_at(descriptor, _HEADER.size, 0)
        if len(raw) < _HEADER.size or raw[:8] != _MAGIC or _has_no_content(database):
            return Journal(name, size, is_hot=False)
        super_journal = _super_journal(descriptor, size)
        is_stale = super_journal is not None and not os.path.lexists(super_journal)
        is_hot = not is_stale and not _is_reserved(database, opened)
        return Journal(name, size, is_hot, is_stale, pages_before=_HEADER.unpack(raw)[3])
    finally:
        os.close(descriptor)


def _super_journal(descriptor: int, size: int) -> str | None:
    """Return the path of the super-journal that the end of a journal names; None without one."""
    if size < _TAIL.size:
        return None
    length, checksum, magic = _TAIL.unpack(read_at(descriptor, _TAIL.size, size - _TAIL.size))
    if magic != _MAGIC or not 0 < length <= min(_MAX_NAME, size - _TAIL.size):
        return None
    name = read_at(descriptor, length, size - _TAIL.size - length)
    # SQLite sums the bytes of the name as signed characters, modulo 2^32.
    total = sum(byte - 256 if byte >= 128 else byte for byte in name)
    if checksum not in (total % (1 << 32), sum(name)) or b"\0" in name:
        return None
    return os.fsdecode(name)


def _has_no_content(database: str) -> bool:
    try:
        return os.stat(database).st_size == 0
    except OSError:
        return True


def _is_reserved(path: str, opened: int | None) -> bool:
    """Return True if a writer is at work on a rollback-mode database: it owns the journal."""
    if not sys.platform.startswith("linux"):
        return False
    if opened is not None:
        return conflicting_lock(opened, RESERVED_BYTE) is not None
    try:
        descriptor = open_or_refuse(path)
    except FileNotFoundError:
        return False
    try:
        return conflicting_lock(descriptor, RESERVED_BYTE) is not None
    finally:
        os.close(descriptor)
