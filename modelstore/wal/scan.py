"""Reading a ``-wal``: what SQLite's recovery would make of it, and what it would not tell.

The file is read from front to back in pieces of bounded size. Writers may be at work: what a look
found is looked at again where it does not hold together, and `changed_while_reading` says so where
it never does.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.wal.files import open_or_refuse, read_at, read_into, require_regular
from modelstore.wal.format import (
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    PAGE_SIZES,
    WAL_HEADER,
    WAL_HEADER_SIZE,
    WalFault,
    WalHeader,
    WalHeaderError,
    checksum,
    frame_size,
)
from modelstore.wal.frames import (
    BLANK,
    BROKEN,
    COMMIT,
    COMMITS,
    ELSEWHERE,
    GOOD,
    INTACT,
    PAGE_ZERO,
    Chunk,
    Frame,
    FrameState,
    Geometry,
    StopReason,
    Transaction,
    WalScan,
    check_frames,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future, ThreadPoolExecutor


_FRAMES_TRIED = 64

Checksum = tuple[int, int]


def guess_geometry(fd: int, header: WalHeader) -> tuple[Geometry, Checksum] | None:
    """Return the geometry with which frames hang together, if any do, and the header's checksum.

    Two neighbours with the same salts, of which the second follows from the first, prove
    themselves; so does a first frame that follows from the header, or from what the checksum of
    its fields would be. Only the first frames are tried.
    """
    for page_size in PAGE_SIZES:
        for number, starts in _candidates(fd, page_size, header):
            offset = WAL_HEADER_SIZE + number * frame_size(page_size)
            frame = bytearray(read_at(fd, frame_size(page_size), offset))
            if len(frame) < frame_size(page_size):
                break
            salt = FRAME_HEADER.unpack_from(frame)[2:4]
            for big_endian in (False, True):
                geometry = Geometry(page_size, big_endian, salt)
                for start in starts:
                    if check_frames(frame, 1, geometry, start).marks[0] & ~COMMIT == INTACT:
                        return geometry, header.checksum if number else start
    return None


def _candidates(
    fd: int, page_size: int, header: WalHeader
) -> Iterator[tuple[int, tuple[Checksum, ...]]]:
    """Yield which frames, from 0, are worth a checksum, and from which ones they may follow."""
    last: tuple[int, ...] = ()
    for number in range(_FRAMES_TRIED):
        offset = WAL_HEADER_SIZE + number * frame_size(page_size)
        raw = read_at(fd, FRAME_HEADER_SIZE, offset)
        if len(raw) < FRAME_HEADER_SIZE:
            return
        fields = FRAME_HEADER.unpack(raw)
        if number == 0:
            yield number, (header.checksum, *_recomputed(header))
        elif fields[0] and fields[2:4] == last[2:4] and any(fields[2:4]):
            yield number, ((last[4], last[5]),)
        last = fields


def _recomputed(header: WalHeader) -> Iterator[Checksum]:
    """Yield what the header's checksum should be: it may itself be what is wrong."""
    raw = WAL_HEADER.pack(
        header.magic,
        header.version,
        header.page_size,
        header.sequence,
        *header.salt,
        *header.checksum,
    )
    for big_endian in (False, True):
        yield checksum(raw[:-8], big_endian=big_endian)


_LARGE = 64 << 20  # bytes; what is gained in less is less than it costs to load the threads' module

Examine = Callable[[bytearray, int, Geometry, tuple[int, int]], Chunk]

_MAX_GAP = 1 << 20  # blank frames between written ones; SQLite leaves none, a crash leaves few


class FrameColumns:
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

    def classify(self, *, is_header_sound: bool) -> WalScan:
        """Return what SQLite would make of the frames, and what it would leave out."""
        marks = bytes(self.marks)
        valid = len(marks) - len(marks.lstrip(GOOD)) if is_header_sound else 0
        max_frame = marks.rfind(INTACT | COMMIT, 0, valid) + 1
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
            max_frame=max_frame,
            page_count=self.commit_sizes[max_frame - 1] if max_frame else 0,
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
) -> FrameColumns:
    """Return the first `slots` frames of the log open at `fd`, `chunk_size` bytes at a time.

    `last` is the header's checksum, from which the first frame's follows.
    """
    stride = frame_size(geometry.page_size)
    per_chunk = min(max(1, chunk_size // stride), slots)
    columns = FrameColumns(geometry.page_size)
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


__all__ = [
    "Frame",
    "FrameState",
    "StopReason",
    "Transaction",
    "WalFault",
    "WalHeader",
    "WalHeaderError",
    "WalScan",
    "scan_wal",
]

_PLAIN_LIMIT = 2 << 20  # bytes that plain Python checks in less time than numpy takes to load
_CHUNK_SIZE = 2 << 20  # larger ones leave the processor's cache, smaller ones cost more calls
_ATTEMPTS = 10


def scan_wal(source: str | int) -> WalScan:
    """Return what the ``-wal`` at a path, or open at a descriptor, holds.

    Takes a few megabytes and 9 bytes a frame of memory. Reads again while the file changes under
    it, and believes in damage only when two looks agree, as a writer that takes back a transaction
    overwrites frames in place. Raises `RefusedError` for what is no regular file or cannot be
    read; a missing file is an answer: `WalFault.ABSENT`.
    """
    evidence: object = None
    attempt = 0
    while True:
        attempt += 1
        found = _look(source)
        before, evidence = evidence, (found.header, found.valid, found.later_commits)
        is_doubtful = found.is_damaged or (found.fault is not None and found.fault.is_damage)
        if not found.changed_while_reading and (not is_doubtful or evidence == before):
            return found
        if attempt == _ATTEMPTS:
            return replace(found, changed_while_reading=True)
        del found  # so that a million frames are not held twice


def _look(source: str | int) -> WalScan:
    """Read the log once, noting whether it changed meanwhile."""
    if isinstance(source, int):
        require_regular(source, "the -wal file")
        return _read(source)
    try:
        fd = open_or_refuse(source)
    except FileNotFoundError:
        return WalScan(size=0, fault=WalFault.ABSENT)
    try:
        found = _read(fd)
        if not _is_still(source, fd):
            return replace(found, changed_while_reading=True)
        return found
    finally:
        os.close(fd)


def _is_still(path: str, fd: int) -> bool:
    """Return whether `path` still names the file open at `fd`."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False


def _read(fd: int) -> WalScan:
    size = os.fstat(fd).st_size
    raw = read_at(fd, WAL_HEADER_SIZE, 0)
    try:
        header = WalHeader.unpack(raw)
    except WalHeaderError as error:
        return WalScan(size=size, fault=error.fault, changed_while_reading=len(raw) != size)
    geometry = Geometry(header.page_size, header.big_endian, header.salt)
    start = header.checksum
    if header.fault is not None:
        guessed = guess_geometry(fd, header) if header.fault.is_damage else None
        if guessed is None:
            return WalScan(size=size, fault=header.fault, header=header)
        geometry, start = guessed
    slots, tail = divmod(max(0, size - WAL_HEADER_SIZE), frame_size(geometry.page_size))
    columns = gather(fd, geometry, slots, start, _CHUNK_SIZE, _examiner(size))
    found = columns.classify(is_header_sound=header.fault is None)
    changed = read_at(fd, WAL_HEADER_SIZE, 0) != raw or os.fstat(fd).st_size < size
    return replace(
        found,
        size=size,
        fault=header.fault,
        header=header,
        frame_slots=slots,
        tail_bytes=tail,
        changed_while_reading=changed or columns.was_cut,
    )


def _examiner(size: int) -> Examine:
    """Return the function that checks frames of a log of `size` bytes in the least time."""
    if size <= _PLAIN_LIMIT:
        return check_frames
    from modelstore.wal import vector

    return vector.check_frames
