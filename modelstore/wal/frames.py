"""Frames of a log: their check in plain Python, their states, and the scan that holds them.

`vector` does the same check with numpy, 100 times faster.
https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.wal.files import read_at
from modelstore.wal.format import (
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    PAGE_SIZES,
    WAL_HEADER,
    WAL_HEADER_SIZE,
    checksum,
    frame_size,
    page_offset,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.format import WalFault, WalHeader
    from modelstore.wal.index import WalIndex

# The mark of a frame is one byte, so that bytes methods count and search a million of them fast.
FOREIGN = 0  # its salt is not the header's
BROKEN = 1  # its salt is right; its checksum does not follow from the frame before
PAGE_ZERO = 2  # its salt is right; page 0 does not exist
INTACT = 3
BLANK = 4  # the whole header is zero: never written
PENDING = 5  # salt and checksum are zero: SQLite fills them in when the transaction commits
COMMIT = 8  # added to the mark of a frame that ends a transaction

GOOD = bytes((INTACT, INTACT | COMMIT))
ELSEWHERE = bytes((FOREIGN, FOREIGN | COMMIT, BLANK))
COMMITS = bytes((BROKEN | COMMIT, PAGE_ZERO | COMMIT, INTACT | COMMIT))

_FRAMES_TRIED = 64

Checksum = tuple[int, int]
"""The two 32-bit words of a running checksum."""


class FrameState(Enum):
    """The state of a frame to SQLite; the value is the word in reports."""

    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"  # valid, but no commit follows
    DAMAGED = "damaged"  # invalid, and a commit of this generation follows
    IGNORED = "ignored"  # intact and committed, but beyond a damaged frame
    TORN = "torn"  # of a transaction that never ended: under way, rolled back, or cut by a crash
    STALE = "stale"  # left from before the log restarted
    BLANK = "blank"  # zeros


class StopReason(Enum):
    """The reason why SQLite stops after the last valid frame; the value is the phrase for it."""

    EOF = "end of the file"
    SALT = "a frame with other salts"
    PAGE_ZERO = "a frame for page 0"
    CHECKSUM = "a frame whose checksum is wrong"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `number` counts from 1; its page image begins at byte `offset` of the file.

    `page_count` is the size of the database in pages after a commit, 0 in every other frame.
    """

    number: int
    page_number: int
    page_count: int
    state: FrameState
    offset: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """One commit: frames `first` to `last`, and the size of the database in pages after it."""

    number: int
    first: int
    last: int
    page_count: int
    state: FrameState

    @property
    def frames(self) -> int:
        """The number of frames."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WalScan:
    """The content of a ``-wal``. Sizes are in bytes; other numbers count frames.

    `valid` counts the valid frames at the start; `max_frame` (SQLite's mxFrame) is the last commit
    among them. `page_numbers`, `commit_sizes` (pages after the commit, or 0) and `marks` hold one
    item for each frame: frame 1 at index 0. They may omit blank frames at the end.
    https://www.sqlite.org/fileformat2.html#walformat
    """

    size: int
    fault: WalFault | None
    header: WalHeader | None = None
    """The header as it is in the file, even if it has a `fault`."""
    page_size: int = 0
    """Bytes of a page: from the header, or from the frames if the header is damaged."""
    frame_slots: int = 0
    tail_bytes: int = 0
    """Bytes after the last whole frame."""
    unexamined: int = 0
    """Frames behind the last commit that nothing read: after a long run of zeros, or in a race."""
    valid: int = 0
    max_frame: int = 0
    page_count: int = 0
    """The size of the database in pages after frame `max_frame`."""
    frame_checksum: Checksum = (0, 0)
    """The checksum stored in frame `max_frame`."""
    commit_count: int = 0
    stop_reason: StopReason = StopReason.EOF
    torn: int = 0
    stale: int = 0
    blank: int = 0
    damaged: int = 0
    ignored_frames: int = 0
    """Intact frames of commits that SQLite silently drops."""
    ignored_commits: int = 0
    later_commits: int = 0
    """Commits of this generation beyond the first invalid frame, intact or not."""
    damage_end: int = 0
    """The last frame of these commits; `valid` if there are none."""
    torn_end: int = 0
    """The last frame of this generation, valid or not; stale frames come after it."""
    page_numbers: array[int] = field(default_factory=lambda: array("I"), repr=False)
    commit_sizes: array[int] = field(default_factory=lambda: array("I"), repr=False)
    marks: bytes = field(default=b"", repr=False)
    changed_while_reading: bool = False
    """True if the log restarted, or was replaced or cut, during every attempt to read it."""

    @property
    def written(self) -> int:
        """All frames but blank ones; each is counted in exactly one of the other figures."""
        return self.valid + self.damaged + self.ignored_frames + self.torn + self.stale

    @property
    def uncommitted(self) -> int:
        """Valid frames after the last commit."""
        return self.valid - self.max_frame

    @property
    def fault_hides_frames(self) -> bool:
        """True if the header has a fault and frames may lie behind it."""
        return self.header is not None and self.fault is not None and self.size > WAL_HEADER_SIZE

    @property
    def is_damaged(self) -> bool:
        """True if SQLite would silently drop commits that are in the file.

        A commit of this generation follows the first invalid frame, or follows a damaged header.
        Any crash leaves a stale tail, or an invalid tail without commits: neither is damage.
        If processes have the log open, `is_damaged_for` is more exact.
        """
        return self.later_commits > 0

    def ends_at(self, index: WalIndex | None) -> bool:
        """Return True if `index` confirms that the last valid commit is the last one of all.

        The frames behind it then belong to a commit that nobody ever saw: its writer was killed
        first, and another one overwrote its first frames. The index may be one that no process
        holds: its checksum is that of the very frame.
        """
        return (
            index is not None
            and self.header is not None
            and index.is_settled
            and index.salt == self.header.salt
            and 0 < index.max_frame == self.max_frame == self.valid
            and index.frame_checksum == self.frame_checksum
        )

    def is_damaged_for(self, index: WalIndex | None) -> bool:
        """Return `is_damaged` for the processes that share the wal-index `index`.

        Read `index` *before* the scan. Every frame up to its max_frame must be valid; later frames
        may belong to a transaction under way. Pass None if no process has the log open: the index
        then proves nothing.
        """
        if index is None or self.header is None or self.fault or not index.is_settled:
            return self.is_damaged
        if index.salt == self.header.salt:
            return self.valid < index.max_frame
        # A restart of the log changes the index at once, the file with the next frame.
        return self.is_damaged and index.max_frame > 0

    def state(self, number: int) -> FrameState:
        """Return the state of frame `number`, 1 to len(marks)."""
        if number <= self.valid:
            return FrameState.COMMITTED if number <= self.max_frame else FrameState.UNCOMMITTED
        mark = self.marks[number - 1]
        if number <= self.damage_end:
            return FrameState.IGNORED if mark in GOOD else FrameState.DAMAGED
        if number <= self.torn_end:
            return FrameState.TORN
        return FrameState.BLANK if mark == BLANK else FrameState.STALE

    def offset(self, number: int) -> int:
        """Return the offset in the file of the page image in frame `number`."""
        return page_offset(number, self.page_size)

    def latest(self, upto: int | None = None) -> dict[int, int]:
        """Return the last frame of each page number in frames 1 to `upto` (default `max_frame`)."""
        end = self.max_frame if upto is None else min(upto, len(self.page_numbers))
        return dict(zip(self.page_numbers[:end], range(1, end + 1), strict=True))

    def frames(self, first: int = 1, last: int | None = None) -> Iterator[Frame]:
        """Yield frames `first` to `last`; blank frames at the end of the log are omitted."""
        end = len(self.marks) if last is None else min(last, len(self.marks))
        for number in range(max(first, 1), end + 1):
            yield Frame(
                number,
                self.page_numbers[number - 1],
                self.commit_sizes[number - 1],
                self.state(number),
                self.offset(number),
            )

    def transactions(self) -> Iterator[Transaction]:
        """Yield the commits that SQLite sees, then the commits that it ignores."""
        first = 1
        numbers = (
            frame
            for frame, mark in enumerate(islice(self.marks, self.damage_end), 1)
            if mark in COMMITS
        )
        for number, last in enumerate(numbers, 1):
            yield Transaction(number, first, last, self.commit_sizes[last - 1], self.state(last))
            first = last + 1


@dataclass(frozen=True, slots=True)
class Geometry:
    """The facts needed to check frames: page size, byte order of checksums, and salt."""

    page_size: int
    big_endian: bool
    salt: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Checked frames as columns of `WalScan`; `last` is the stored checksum of the last frame."""

    page_numbers: array[int]
    commit_sizes: array[int]
    marks: bytes
    last: Checksum

    @property
    def is_blank(self) -> bool:
        """True if no frame here was ever written."""
        return self.marks.count(BLANK) == len(self.marks)


def check_frames(buffer: bytearray, count: int, geometry: Geometry, last: Checksum) -> Chunk:
    """Check the first `count` frames in `buffer` and return their columns.

    The checksum of a frame goes on from the one stored in the frame before, so that frames behind
    damage can be checked too; `last` is the stored checksum before the first frame.
    """
    view = memoryview(buffer)
    stride = frame_size(geometry.page_size)
    page_numbers, commit_sizes = array("I"), array("I")
    marks = bytearray()
    for start in range(0, count * stride, stride):
        header = view[start : start + FRAME_HEADER_SIZE]
        page = view[start + FRAME_HEADER_SIZE : start + stride]
        number, commit, *rest = FRAME_HEADER.unpack(header)
        if (rest[0], rest[1]) != geometry.salt:
            mark = FOREIGN if any(rest) else PENDING if number or commit else BLANK
        elif number == 0:
            mark = PAGE_ZERO
        else:
            state = checksum(header[:8], *last, big_endian=geometry.big_endian)
            state = checksum(page, *state, big_endian=geometry.big_endian)
            mark = INTACT if state == (rest[2], rest[3]) else BROKEN
        last = (rest[2], rest[3])
        page_numbers.append(number)
        commit_sizes.append(commit)
        marks.append(mark | COMMIT if commit else mark)
    return Chunk(page_numbers, commit_sizes, bytes(marks), last)


def guess_geometry(fd: int, header: WalHeader) -> tuple[Geometry, Checksum] | None:
    """Find the geometry of a log with a damaged header; return it with the checksum before frame 1.

    Two neighbouring frames with one salt prove it if the second checksum follows from the first.
    So does a first frame that follows from the header's stored or recomputed checksum. Only the
    first 64 frames are tried. Returns None if nothing fits.
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
    """Yield indexes of frames (from 0) to check, each with the checksums that may precede it."""
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
    """Yield the checksum of the header's fields in both byte orders."""
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
