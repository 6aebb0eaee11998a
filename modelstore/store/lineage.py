"""Whether the -wal beside a database is its own log.

SQLite asks only whether the log's checksums hold: one left over from before a backup was
restored, or copied beside the wrong database, is replayed in silence.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from modelstore.errors import RefusedError
from modelstore.wal.files import read_at
from modelstore.wal.header import WalHeader, WalHeaderError
from modelstore.wal.index import read_index
from modelstore.wal.layout import DATABASE_HEADER_SIZE, WAL_HEADER_SIZE, DatabaseHeader
from modelstore.wal.locks import attached

if TYPE_CHECKING:
    from modelstore.store.descriptors import HeldFiles
    from modelstore.wal.frames import WalScan

_LOOKS = 3
_PAUSE = 0.005  # seconds; a restart of the log takes microseconds


def why_foreign(header: DatabaseHeader | None, log: WalScan, wal: int) -> str | None:
    """Return why a log cannot be that of the database with `header`, None where it may be.

    Each reason is certain, not a guess: the change counter of page 1 only grows, a transaction
    that changes the number of pages writes page 1, and whatever leaves WAL mode removes the log
    (sqlite.org/fileformat2.html#file_change_counter).
    """
    if header is None or not log.committed:
        return None
    if not header.is_wal:
        return "the database is not in WAL mode, yet there are commits in its log"
    frame = log.latest().get(1)
    if frame is None:
        if header.has_valid_page_count and header.page_count != log.page_count:
            return (
                f"the log is of a database of {log.page_count:,} pages, "
                f"this one has {header.page_count:,}"
            )
        return None
    try:
        logged = DatabaseHeader.parse(read_at(wal, DATABASE_HEADER_SIZE, log.offset(frame)))
    except RefusedError as error:
        return f"page 1 in the log is no database header: {error.message}"
    for field in ("page_size", "reserved", "text_encoding"):
        before, after = getattr(header, field), getattr(logged, field)
        if before != after and before:
            return f"the log has another {field.replace('_', ' ')}: {after}, not {before}"
    if (logged.change_counter - header.change_counter) % (1 << 32) >= 1 << 31:
        return (
            f"the log is older than the database: it ends with change {logged.change_counter:,}, "
            f"the database has seen change {header.change_counter:,}"
        )
    return None


def log_is_gone(held: HeldFiles, shm: int) -> bool:
    """Tell whether the -wal was deleted, emptied or replaced while processes have it open.

    SQLite keeps a -wal as long as a process is attached, writes frames to the file before it
    enters them in the wal-index, and on a restart changes the index before the file; what
    contradicts that, look after look, was done by somebody else.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        if not _contradicts(held, shm):
            return False
    return bool(attached(shm))


def _contradicts(held: HeldFiles, shm: int) -> bool:
    if not os.path.lexists(held.path + "-wal"):
        return True
    index = read_index(shm)
    if index is None or not index.is_settled or not index.max_frame:
        return False
    wal = held.open("-wal")
    if wal is None:
        return True
    try:
        salt = WalHeader.parse(read_at(wal, WAL_HEADER_SIZE, 0)).salt
    except WalHeaderError:
        salt = None
    again = read_index(shm)  # restarted meanwhile?
    return salt != index.salt and again is not None and again.salt == index.salt
