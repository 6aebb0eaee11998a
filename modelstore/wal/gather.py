"""Reading all frames of a log into columns, in bounded memory, and judging them."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from modelstore.wal.chunk import Chunk, Geometry
from modelstore.wal.files import read_into
from modelstore.wal.frames import (
    BLANK,
    BROKEN,
    COMMIT,
    COMMITS,
    ELSEWHERE,
    GOOD,
    INTACT,
    PAGE_ZERO,
    StopReason,
    WalScan,
)
from modelstore.wal.layout import WAL_HEADER_SIZE, frame_size

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_LARGE = 64 << 20  # bytes; what is gained in less is less than it costs to load the threads' module

Examine = Callable[[bytearray, int, Geometry, tuple[int, int]], Chunk]

_MAX_GAP = 1 << 20  # blank frames between written ones; SQLite leaves none, a crash leaves few


class Columns:
    """The frames of a log, growing as they are read."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.page_numbers = array("I")
        self.commit_sizes = array("I")
        self.marks = bytearray()
        self.blank_tail = 0
        self.unexamined = 0
        self.was_cut = False

    def add(self, chunk: Chunk) -> None:
        """Append the frames of `chunk`, after the blank ones that were seen before it."""
        if self.blank_tail:
            for column in (self.page_numbers, self.commit_sizes):
                column.frombytes(bytes(self.blank_tail * column.itemsize))
            self.marks += bytes((BLANK,)) * self.blank_tail
            self.blank_tail = 0
        self.page_numbers += chunk.page_numbers
        self.commit_sizes += chunk.commit_sizes
        self.marks += chunk.marks

    def judge(self, *, is_header_sound: bool) -> WalScan:
        """Return what SQLite would make of the frames, and what it would leave out."""
        marks = bytes(self.marks)
        valid = len(marks) - len(marks.lstrip(GOOD)) if is_header_sound else 0
        committed = marks.rfind(INTACT | COMMIT, 0, valid) + 1
        # The first invalid frame may be a commit that was torn: no loss of what was promised.
        beyond = valid + 1 if is_header_sound else 0
        damage_end = max(valid, *(marks.rfind(mark, beyond) + 1 for mark in COMMITS))
        torn_end = max(damage_end, len(marks.rstrip(ELSEWHERE)))
        ignored = _count(marks, GOOD, valid, damage_end)
        blank = marks.count(BLANK, torn_end)
        return WalScan(
            size=0,
            fault=None,
            page_size=self.page_size,
            unexamined=self.unexamined,
            valid=valid,
            committed=committed,
            page_count=self.commit_sizes[committed - 1] if committed else 0,
            commit_count=marks.count(INTACT | COMMIT, 0, valid),
            stop_reason=self._stop_reason(valid),
            torn=torn_end - damage_end,
            stale=len(marks) - torn_end - blank,
            blank=blank + self.blank_tail,
            damaged=damage_end - valid - ignored,
            ignored_frames=ignored,
            ignored_commits=marks.count(INTACT | COMMIT, valid),
            later_commits=_count(marks, COMMITS, beyond, damage_end),
            damage_end=damage_end,
            torn_end=torn_end,
            page_numbers=self.page_numbers,
            commit_sizes=self.commit_sizes,
            marks=marks,
        )

    def _stop_reason(self, valid: int) -> StopReason:
        if valid < len(self.marks):
            kind = self.marks[valid] & ~COMMIT
            reasons = {BROKEN: StopReason.CHECKSUM, PAGE_ZERO: StopReason.PAGE_ZERO}
            return reasons.get(kind, StopReason.SALT)
        return StopReason.SALT if self.blank_tail else StopReason.EOF


def _count(marks: bytes, wanted: bytes, start: int, end: int) -> int:
    return sum(marks.count(mark, start, end) for mark in wanted)


def gather(
    fd: int,
    geometry: Geometry,
    slots: int,
    last: tuple[int, int],
    chunk_size: int,
    examine: Examine,
) -> Columns:
    """Return the first `slots` frames of the log open at `fd`, `chunk_size` bytes at a time.

    `last` is the header's checksum, from which the first frame's follows.
    """
    stride = frame_size(geometry.page_size)
    per_chunk = min(max(1, chunk_size // stride), slots)
    columns = Columns(geometry.page_size)
    done = 0
    with closing(_Reader(fd, per_chunk * stride, slots * stride)) as reader:
        while done < slots:
            count = min(per_chunk, slots - done)
            buffer, size = reader.read(WAL_HEADER_SIZE + done * stride)
            whole = min(count, size // stride)
            columns.was_cut = whole < count
            if whole:
                chunk = examine(buffer, whole, geometry, last)
                done += whole
                last = chunk.last
                if chunk.is_blank:
                    skipped = _skip_hole(fd, done, slots, stride)
                    columns.blank_tail += whole + skipped
                    done += skipped
                elif columns.blank_tail > _MAX_GAP:
                    columns.unexamined = slots - done + whole
                    break
                else:
                    columns.add(chunk)
            if columns.was_cut:
                break
    return columns


class _Reader:
    """Reads pieces of a file; of a large one, a thread reads the next while one is examined."""

    def __init__(self, fd: int, piece: int, size: int) -> None:
        self._fd = fd
        self._full, self._spare = bytearray(piece), bytearray(piece)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[int] | None] = (-1, None)
        if size >= _LARGE:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1)

    def read(self, offset: int) -> tuple[bytearray, int]:
        """Return the bytes from `offset` on, in a buffer that the next call but one overwrites."""
        at, ahead = self._ahead
        if ahead is not None and at != offset:
            ahead.result()
            ahead = None
        filled = self._fill(offset) if ahead is None else ahead.result()
        self._full, self._spare = self._spare, self._full
        if self._pool is not None:
            following = offset + len(self._spare)
            self._ahead = following, self._pool.submit(self._fill, following)
        return self._full, filled

    def _fill(self, offset: int) -> int:
        return read_into(self._fd, memoryview(self._spare), offset)

    def close(self) -> None:
        """Wait for the thread, which must not read from a descriptor that is somebody else's."""
        if self._pool is not None:
            self._pool.shutdown()


def _skip_hole(fd: int, done: int, slots: int, stride: int) -> int:
    """Return how many whole frames after the first `done` lie in a hole of a sparse file."""
    if not hasattr(os, "SEEK_DATA"):
        return 0
    try:
        data = os.lseek(fd, WAL_HEADER_SIZE + done * stride, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: nothing but a hole up to the end. Anything else: read on, and see.
        return slots - done if error.errno == errno.ENXIO else 0
    return min(max(0, (data - WAL_HEADER_SIZE) // stride - done), slots - done)
