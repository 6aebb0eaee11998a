"""The wal-index, the shared memory in the ``-shm`` file, as far as it concerns the whole log.

Callers pass a descriptor: a process that opens and closes a ``-shm`` (or the database) while its
own SQLite has the database open loses SQLite's locks on it.
https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from modelstore.wal.files import read_at
from modelstore.wal.format import (
    INDEX_CHECKED_SIZE,
    INDEX_COPY,
    INDEX_COPY_SIZE,
    INDEX_INFO,
    INDEX_SIZE,
    READ_MARK_UNUSED,
    checksum,
)

_TRIES = 50
_PAUSE = 0.001  # seconds; a writer replaces both copies within microseconds


@dataclass(frozen=True, slots=True)
class ReadMark:
    """A read mark: its readers see at least the log up to `frame`; None where it is not in use.

    Whether anyone reads there is told by the lock READ0 to READ4 of its `slot`, not by the mark.
    """

    slot: int
    frame: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalIndex:
    """The header of the wal-index, and what checkpoints and readers note behind it.

    `max_frame` is mxFrame, the last committed frame; `page_count` the size of the database in
    pages; `change_counter` iChange, which every commit changes; `backfill` nBackfill, the frames
    that are already in the database file; `backfill_attempted` is set before the database is
    written. https://www.sqlite.org/walformat.html#the_wal_index_file_format
    """

    version: int
    change_counter: int
    is_init: bool
    big_endian: bool
    page_size: int
    max_frame: int
    page_count: int
    frame_checksum: tuple[int, int]
    salt: tuple[int, int]
    backfill: int
    backfill_attempted: int
    read_marks: tuple[ReadMark, ...]
    is_settled: bool
    """Both copies of the header agree and their checksum is right."""

    @classmethod
    def parse(cls, raw: bytes) -> WalIndex:
        """Return the index in `raw`, at least 136 bytes; raise ValueError if it is shorter."""
        if len(raw) < INDEX_SIZE:
            raise ValueError(f"a wal-index has {INDEX_SIZE} bytes or more, not {len(raw)}")
        fields = INDEX_COPY.unpack_from(raw)
        version, _, change_counter, is_init, big_endian, page_size, max_frame, *rest = fields
        page_count, frame_checksum0, frame_checksum1, salt, *stored = rest
        native = checksum(raw[:INDEX_CHECKED_SIZE], big_endian=sys.byteorder == "big")
        same = raw[:INDEX_COPY_SIZE] == raw[INDEX_COPY_SIZE : 2 * INDEX_COPY_SIZE]
        info = INDEX_INFO.unpack_from(raw, 2 * INDEX_COPY_SIZE)
        return cls(
            version=version,
            change_counter=change_counter,
            is_init=bool(is_init),
            big_endian=bool(big_endian),
            # 16 bits: 65536 is stored as 1
            page_size=(page_size & 0xFE00) | (page_size & 1) << 16,
            max_frame=max_frame,
            page_count=page_count,
            frame_checksum=(frame_checksum0, frame_checksum1),
            salt=(int.from_bytes(salt[:4], "big"), int.from_bytes(salt[4:], "big")),
            backfill=info[0],
            backfill_attempted=info[6],
            read_marks=tuple(
                ReadMark(slot, None if frame == READ_MARK_UNUSED else frame)
                for slot, frame in enumerate(info[1:6])
            ),
            is_settled=same and native == tuple(stored),
        )

    @property
    def pending(self) -> int:
        """Committed frames that no checkpoint has copied into the database file yet."""
        return max(0, self.max_frame - self.backfill)


def read_index(fd: int) -> WalIndex | None:
    """Return the wal-index in the ``-shm`` open at `fd`, or None where none was set up.

    Reads again, for 50 ms at most, until both copies of the header agree; where they never do
    (a process died between the two, or the file is no wal-index), `is_settled` is False.
    """
    index = None
    for attempt in range(_TRIES):
        raw = read_at(fd, INDEX_SIZE, 0)
        if len(raw) < INDEX_SIZE or not any(raw[: 2 * INDEX_COPY_SIZE]):
            return None
        index = WalIndex.parse(raw)
        if index.is_settled:
            return index if index.is_init else None
        if attempt < _TRIES - 1:
            time.sleep(_PAUSE)
    return index
