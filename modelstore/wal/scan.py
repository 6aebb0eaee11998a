"""Scan of a whole ``-wal``: the frames SQLite would recover, and the ones it would drop.

Reads from front to back in pieces of bounded size. Writers may change the file meanwhile: the scan
repeats until two looks agree, or reports `changed_while_reading`.
"""

from __future__ import annotations

import errno
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.later import load
from modelstore.wal.files import open_or_refuse, read_at, read_into, require_regular
from modelstore.wal.format import (
    WAL_HEADER_SIZE,
    WalFault,
    WalHeader,
    WalHeaderError,
    frame_size,
    page_offset,
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
    Checksum,
    Chunk,
    Geometry,
    StopReason,
    WalScan,
    check_frames,
    guess_geometry,
)

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from modelstore.progress import Progress


_PLAIN_LIMIT = 2 << 20  # bytes that plain Python checks in less time than numpy takes to load
_CHUNK_SIZE = 2 << 20  # larger ones leave the processor's cache, smaller ones cost more calls
_THREAD_LIMIT = 64 << 20  # bytes; below it, loading the thread module costs more than it saves
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # numpy.org/doc/stable/reference/global_state.html
_NUMPY_PUT_OFF: dict[str, tuple[str, ...] | None] = {
    "ctypes": None,
    "numpy._core._add_newdocs": (),
    "numpy._core._add_newdocs_scalars": (),
    "numpy.linalg": ("eigvals", "inv", "lstsq", "matrix_power"),
    "pickle": (),
    "platform": (),
    "textwrap": (),
}
_ATTEMPTS = 10
_VECTOR = "modelstore.wal.vector"
_SECTOR = 4096  # bytes: SQLite's own value (SQLITE_DEFAULT_SECTOR_SIZE)
_MAX_GAP = 1 << 20  # blank frames between written ones; SQLite leaves none, a crash leaves few

FrameCheck = Callable[[bytearray, int, Geometry, Checksum], Chunk]
"""The signature of `frames.check_frames` and `vector.check_frames`."""


def scan_wal(source: str | int, progress: Progress | None = None) -> WalScan:
    """Scan the ``-wal`` at a path, or open at a descriptor.

    Takes a few megabytes of memory, and 9 bytes for each frame. Reads again while the file changes,
    and reports damage only if two looks agree: a writer that rolls back overwrites frames in place.
    A missing file gives a scan with `WalFault.ABSENT`. Raises `RefusedError` if `source` is not a
    regular file or cannot be read.
    """
    evidence: object = None
    attempt = 0
    while True:
        attempt += 1
        found = _look(source, progress)
        before, evidence = evidence, (found.header, found.valid, found.later_commits)
        is_doubtful = found.is_damaged or (found.fault is not None and found.fault.is_damage)
        if not found.changed_while_reading and (not is_doubtful or evidence == before):
            return found
        if attempt == _ATTEMPTS:
            return replace(found, changed_while_reading=True)
        del found  # free a million frames before the next look allocates as many


def _look(source: str | int, progress: Progress | None) -> WalScan:
    """Scan the log once; note if it changed meanwhile."""
    if isinstance(source, int):
        require_regular(source, "the -wal file")
        return _read(source, progress)
    try:
        fd = open_or_refuse(source)
    except FileNotFoundError:
        return WalScan(size=0, fault=WalFault.ABSENT)
    try:
        found = _read(fd, progress)
        if not _is_still(source, fd):
            return replace(found, changed_while_reading=True)
        return found
    finally:
        os.close(fd)


def _is_still(path: str, fd: int) -> bool:
    """Return True if `path` still names the file open at `fd`."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False


def _read(fd: int, progress: Progress | None) -> WalScan:
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
    columns = _read_frames(fd, geometry, slots, start, size, progress)
    columns.join_padding(fd)
    found = columns.classify(is_header_sound=header.fault is None)
    if found.max_frame:
        place = page_offset(found.max_frame, geometry.page_size)
        stored = read_at(fd, 8, place - 8)
        pair = int.from_bytes(stored[:4], "big"), int.from_bytes(stored[4:], "big")
        found = replace(found, frame_checksum=pair)
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


# -- from frames to a scan -----------------------------------------------------------------------


class FrameColumns:
    """The frames of a log in columns that grow as the file is read."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.page_numbers = array("I")
        self.commit_sizes = array("I")
        self.marks = bytearray()
        self.blank_tail = 0  # blank frames that nothing follows so far; the columns omit them
        self.unexamined = 0
        self.was_cut = False

    def add(self, chunk: Chunk) -> None:
        """Append the blank frames seen so far, then the frames of `chunk`."""
        if self.blank_tail:
            for column in (self.page_numbers, self.commit_sizes):
                column.frombytes(bytes(self.blank_tail * column.itemsize))
            self.marks += bytes((BLANK,)) * self.blank_tail
            self.blank_tail = 0
        self.page_numbers += chunk.page_numbers
        self.commit_sizes += chunk.commit_sizes
        self.marks += chunk.marks

    def join_padding(self, fd: int) -> None:
        """Let copies of a commit frame that fill up a disk sector end that commit, not others.

        SQLite writes them if the device may damage bytes beside those it writes (psow=0). A log is
        taken for padded only if every commit in it is, so that commits which write the same page
        again still count. https://www.sqlite.org/psow.html
        """
        padded = list(self._padded_commits())
        if not padded or not all(self._is_copy(fd, frame) for frame in padded):
            return
        for frame in padded:
            self.commit_sizes[frame - 1] = 0
            self.marks[frame - 1] &= ~COMMIT

    def _padded_commits(self) -> Iterator[int]:
        """Yield each commit frame that the next one repeats; none if a commit lacks its padding."""
        found = []
        stride = frame_size(self.page_size)
        sector = 0  # the end of the sector that the commit fills up
        for frame, mark in enumerate(self.marks, 1):
            if not mark & COMMIT:
                continue
            if mark != INTACT | COMMIT:
                return
            begin = WAL_HEADER_SIZE + (frame - 1) * stride
            if begin >= sector:
                sector = -(-(begin + stride) // _SECTOR) * _SECTOR
            if begin + stride >= sector:
                continue
            if frame == len(self.marks):
                return
            same = slice(frame - 1, frame + 1)
            if len({*self.page_numbers[same]}) > 1 or len({*self.commit_sizes[same]}) > 1:
                return
            found.append(frame)
        yield from found

    def _is_copy(self, fd: int, frame: int) -> bool:
        first, second = (page_offset(number, self.page_size) for number in (frame, frame + 1))
        return read_at(fd, self.page_size, first) == read_at(fd, self.page_size, second)

    def classify(self, *, is_header_sound: bool) -> WalScan:
        """Count the frames that SQLite would recover, and those that it would drop."""
        marks = bytes(self.marks)
        valid = len(marks) - len(marks.lstrip(GOOD)) if is_header_sound else 0
        max_frame = marks.rfind(INTACT | COMMIT, 0, valid) + 1
        # The first invalid frame may be a torn commit: nobody was promised that one.
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


# -- from the file to frames ---------------------------------------------------------------------


def _read_frames(
    fd: int,
    geometry: Geometry,
    slots: int,
    last: Checksum,
    size: int,
    progress: Progress | None,
) -> FrameColumns:
    """Read the first `slots` frames of a log of `size` bytes; `last` is the header's checksum."""
    stride = frame_size(geometry.page_size)
    per_chunk = min(max(1, _CHUNK_SIZE // stride), slots)
    check = _fastest_check(size)
    columns = FrameColumns(geometry.page_size)
    done = 0
    with closing(_Reader(fd, per_chunk * stride, slots * stride)) as reader:
        while done < slots and not columns.was_cut:
            if progress is not None:
                progress("checking the log", done * stride, size, "bytes")
            count = min(per_chunk, slots - done)
            buffer, filled = reader.read(WAL_HEADER_SIZE + done * stride)
            whole = min(count, filled // stride)
            columns.was_cut = whole < count
            if not whole:
                break
            chunk = check(buffer, whole, geometry, last)
            done += whole
            last = chunk.last
            if chunk.is_blank:
                skipped = _frames_in_hole(fd, done, slots, stride)
                columns.blank_tail += whole + skipped
                done += skipped
            elif columns.blank_tail > _MAX_GAP:
                columns.unexamined = slots - done + whole
                break
            else:
                columns.add(chunk)
    return columns


def _fastest_check(size: int) -> FrameCheck:
    """Return the function that checks the frames of a log of `size` bytes in the least time."""
    if size <= _PLAIN_LIMIT and _VECTOR not in sys.modules:
        return check_frames
    # Half of the time that numpy takes to load is for what nothing here uses: a thread for each
    # core for its linear algebra, that algebra, the texts of its help, and modules of Python's own
    # for files and for C (which it does without, if there are none).
    given = os.environ.get(_BLAS_THREADS)
    os.environ[_BLAS_THREADS] = "1"
    try:
        load("numpy", _NUMPY_PUT_OFF)
        from modelstore.wal import vector
    finally:
        if given is None:
            del os.environ[_BLAS_THREADS]
        else:
            os.environ[_BLAS_THREADS] = given

    return vector.check_frames


class _Reader:
    """Pieces of a file, one after another. A thread reads ahead if the file is large."""

    def __init__(self, fd: int, piece: int, size: int) -> None:
        self._fd = fd
        self._full, self._spare = bytearray(piece), bytearray(piece)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[int] | None] = (-1, None)
        if size >= _THREAD_LIMIT:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1)

    def read(self, offset: int) -> tuple[bytearray, int]:
        """Return a buffer with the bytes from `offset` on, and their count.

        The second call after this one overwrites the buffer.
        """
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
        """Wait for the thread: the descriptor's number may soon belong to another file."""
        if self._pool is not None:
            self._pool.shutdown()


def _frames_in_hole(fd: int, done: int, slots: int, stride: int) -> int:
    """Count the whole frames after the first `done` that lie in a hole of a sparse file."""
    if not hasattr(os, "SEEK_DATA"):
        return 0
    try:
        data = os.lseek(fd, WAL_HEADER_SIZE + done * stride, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: the rest of the file is a hole. Any other error: read on.
        return slots - done if error.errno == errno.ENXIO else 0
    return min(max(0, (data - WAL_HEADER_SIZE) // stride - done), slots - done)
