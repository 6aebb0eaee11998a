"""The header of the wal-index, the shared memory in the ``-shm`` file.

Callers pass a descriptor: closing any descriptor on a ``-shm`` or database drops the locks that
SQLite in the same process holds on it.
https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
"""

from __future__ import annotations

import struct
import sys
import time
from typing import NamedTuple

from modelstore.wal.files import read_at
from modelstore.wal.format import (
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    INDEX_CHECKED_SIZE,
    INDEX_COPY,
    INDEX_COPY_SIZE,
    INDEX_INFO,
    INDEX_SIZE,
    READ_MARK_UNUSED,
    WAL_HEADER_SIZE,
    WalHeader,
    WalHeaderError,
    checksum,
    frame_size,
)

_TRIES = 50
_PAGE_NUMBER = struct.Struct("=I")
_BLOCK_SIZE = 32_768  # bytes of a block of the wal-index
_FRAMES_PER_BLOCK = 4_096
_FRAMES_IN_FIRST = _FRAMES_PER_BLOCK - INDEX_SIZE // 4
_MANY_FRAMES = 500_000
_PAUSE = 0.001  # seconds; a writer replaces both copies in microseconds


class ReadMark(NamedTuple):
    """A read mark: its readers see the log up to `frame` at least; None if it is not in use.

    Only a lock on READ0 to READ4, by the number of the `slot`, proves that somebody reads there.
    """

    slot: int
    frame: int | None


class WalIndex(NamedTuple):
    """The header of the wal-index, with the notes of checkpoints and readers behind it.

    `max_frame` is mxFrame, the last committed frame; `page_count` nPage, the size of the database
    in pages; `change_counter` iChange, which every commit changes; `backfill` nBackfill, the number
    of frames in the database file; a checkpoint sets `backfill_attempted` before it writes. https://www.sqlite.org/walformat.html#the_wal_index_file_format
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
    """True if both copies of the header agree and their checksum is right."""

    @classmethod
    def parse(cls, raw: bytes) -> WalIndex:
        """Return the index in the first 136 bytes of `raw`. Raises ValueError if it is shorter."""
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
        """Committed frames that no checkpoint has copied into the database file."""
        return max(0, self.max_frame - self.backfill)


def pages_to_copy(fd: int, index: WalIndex) -> int:
    """Count the distinct pages of the frames that no checkpoint has copied yet.

    The wal-index has the page number of each frame: 4,062 of them behind the header, then 4,096 at
    the start of each further block of 32 KiB. Counts frames instead of pages beyond half a million.
    https://www.sqlite.org/walformat.html#the_wal_index_file_format
    """
    if index.pending > _MANY_FRAMES:
        return index.pending
    pages: set[int] = set()
    number = index.backfill  # of frames that are done with
    while number < index.max_frame:
        block, place = divmod(number + _FRAMES_PER_BLOCK - _FRAMES_IN_FIRST, _FRAMES_PER_BLOCK)
        count = min(_FRAMES_PER_BLOCK - place, index.max_frame - number)
        raw = read_at(fd, 4 * count, block * _BLOCK_SIZE + 4 * place)
        pages.update(value for (value,) in _PAGE_NUMBER.iter_unpack(raw[: len(raw) // 4 * 4]))
        number += count
    return len(pages)


def read_index(fd: int) -> WalIndex | None:
    """Return the wal-index in the ``-shm`` open at `fd`, or None if the file holds none.

    Reads again, for 50 ms at most, until both copies of the header agree. If they never do, a
    process died between the two writes or the file is no wal-index: `is_settled` is False.
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


def contradicts(fd: int, wal: int | None) -> bool:
    """Tell whether the index open at `fd` counts frames that the log open at `wal` cannot have.

    SQLite writes a frame, and the header of the log, before it enters the frame in the index, and
    empties the index before it changes the header. If salts, or the checksum of the last frame,
    differ, somebody else has emptied or overwritten the log: an older copy of it ends early, and
    leaves a gap of zeros before the frames that come next.
    """
    index = read_index(fd)
    if index is None or not index.is_settled or not index.max_frame:
        return False
    if wal is None:
        return True
    agrees = _has_last_frame(wal, index)
    again = read_index(fd)  # restarted meanwhile?
    return not agrees and again is not None and again.salt == index.salt


def _has_last_frame(wal: int, index: WalIndex) -> bool:
    try:
        header = WalHeader.parse(read_at(wal, WAL_HEADER_SIZE, 0))
    except WalHeaderError:
        return False
    offset = WAL_HEADER_SIZE + (index.max_frame - 1) * frame_size(index.page_size)
    raw = read_at(wal, FRAME_HEADER_SIZE, offset)
    if header.salt != index.salt or len(raw) < FRAME_HEADER_SIZE:
        return False
    return FRAME_HEADER.unpack(raw)[4:] == index.frame_checksum and _is_without_gap(wal, index)


def _is_without_gap(wal: int, index: WalIndex) -> bool:
    """Tell whether each frame that the index counts begins with a page number: 1 µs a frame."""
    stride = frame_size(index.page_size)
    first = WAL_HEADER_SIZE + index.backfill * stride  # what is folded already is read no more
    last = WAL_HEADER_SIZE + index.max_frame * stride
    return all(any(read_at(wal, 4, offset)) for offset in range(first, last, stride))
