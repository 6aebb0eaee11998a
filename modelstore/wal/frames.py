"""Checking a run of frames, in plain Python; `vector` does the same with numpy, 100 × faster."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.wal.format import FRAME_HEADER, FRAME_HEADER_SIZE, checksum, frame_size, page_offset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.format import WalFault, WalHeader
    from modelstore.wal.index import WalIndex

# One byte for each frame, so that a million of them are counted and searched at the speed of C.
FOREIGN = 0  # the salts are not the header's
BROKEN = 1  # the salts are, the checksum does not follow from the frame before
PAGE_ZERO = 2  # the salts are, but page 0 does not exist
INTACT = 3
BLANK = 4  # page number, size, salts and checksum are all zero: never written
PENDING = 5  # salts and checksum are zero: to be filled in when the transaction commits
COMMIT = 8  # added where the frame ends a transaction

GOOD = bytes((INTACT, INTACT | COMMIT))
ELSEWHERE = bytes((FOREIGN, FOREIGN | COMMIT, BLANK))
COMMITS = bytes((BROKEN | COMMIT, PAGE_ZERO | COMMIT, INTACT | COMMIT))


class FrameState(Enum):
    """What SQLite makes of a frame; the value is the word that reports use."""

    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"  # good, but no commit follows
    DAMAGED = "damaged"  # invalid, and a commit of this generation follows
    IGNORED = "ignored"  # intact and part of such a commit, but beyond a damaged frame
    TORN = "torn"  # of a transaction that never ended: under way, rolled back, or cut by a crash
    STALE = "stale"  # left over from before the log restarted
    BLANK = "blank"  # zeros


class StopReason(Enum):
    """Why SQLite reads no further than the last valid frame; the value says it in words."""

    EOF = "end of the file"
    SALT = "a frame with other salts"
    PAGE_ZERO = "a frame for page 0"
    CHECKSUM = "a frame whose checksum is wrong"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `number` is 1-based; `offset` is where its page image begins in the file.

    `page_count` is the size of the database in pages after the commit, 0 where it is no commit.
    """

    number: int
    page_number: int
    page_count: int
    state: FrameState
    offset: int

    @property
    def is_commit(self) -> bool:
        """Whether the frame ends a transaction."""
        return self.page_count != 0


@dataclass(frozen=True, slots=True)
class Transaction:
    """One commit: frames `first` to `last` (1-based), and the database's pages after it."""

    number: int
    first: int
    last: int
    page_count: int
    state: FrameState

    @property
    def frames(self) -> int:
        """How many frames it wrote."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WalScan:
    """What a ``-wal`` holds. Sizes are in bytes, the rest counts frames; frame 1 is the first.

    `valid` is the leading run of good frames, `max_frame` the last commit in it.
    `page_numbers`, `commit_sizes` (pages after the commit, or 0) and `marks` have one item for
    each frame, the first at index 0; a blank tail may be left out.
    https://www.sqlite.org/fileformat2.html#walformat
    """

    size: int
    fault: WalFault | None
    header: WalHeader | None = None
    """As it is in the file, also where `fault` says what is wrong with it."""
    page_size: int = 0
    """The page size of the frames; if the header lies, the one with which they hang together."""
    frame_slots: int = 0
    tail_bytes: int = 0
    """What is left at the end of the file and is no whole frame."""
    unexamined: int = 0
    """Frames beyond a run of zeros too long to be a log of SQLite's."""
    valid: int = 0
    max_frame: int = 0
    page_count: int = 0
    """The size of the database in pages, as of `max_frame`."""
    commit_count: int = 0
    stop_reason: StopReason = StopReason.EOF
    torn: int = 0
    stale: int = 0
    blank: int = 0
    damaged: int = 0
    ignored_frames: int = 0
    """Intact frames of committed transactions that SQLite will silently drop."""
    ignored_commits: int = 0
    later_commits: int = 0
    """Commits of this generation beyond the first invalid frame, intact or not."""
    damage_end: int = 0
    """The last of these commits; `valid` where there is none."""
    torn_end: int = 0
    """The last frame of this generation, good or not; only beyond it can frames be stale."""
    page_numbers: array[int] = field(default_factory=lambda: array("I"), repr=False)
    commit_sizes: array[int] = field(default_factory=lambda: array("I"), repr=False)
    marks: bytes = field(default=b"", repr=False)
    changed_while_reading: bool = False
    """The log was restarted, replaced or cut while it was read, again and again."""

    @property
    def uncommitted(self) -> int:
        """Good frames after the last commit."""
        return self.valid - self.max_frame

    @property
    def is_damaged(self) -> bool:
        """Whether SQLite would silently drop commits that are in the file.

        That is: a commit of this generation lies beyond the first invalid frame, or the header
        is broken and there are commits behind it. A stale tail, or an invalid tail without later
        commits, is what any crash leaves behind. While processes have the log open, ask
        `is_damaged_for`, which knows better.
        """
        return self.later_commits > 0

    def is_damaged_for(self, index: WalIndex | None) -> bool:
        """Return `is_damaged` as the processes attached to the log would have it.

        `index` is the wal-index that they share, read *before* this scan: up to its max_frame
        every frame must be good, and what lies beyond may be under way (or is what a writer left
        that was killed). Without an attached process it proves nothing: pass None.
        """
        if index is None or self.header is None or self.fault or not index.is_settled:
            return self.is_damaged
        if index.salt == self.header.salt:
            return self.valid < index.max_frame
        # A restart of the log changes the index first, the file with the next frame.
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
        """Return where in the file the page image of frame `number` begins."""
        return page_offset(number, self.page_size)

    def latest(self, upto: int | None = None) -> dict[int, int]:
        """Return page number → last frame that holds it, of frames 1 to `upto` (`max_frame`)."""
        end = self.max_frame if upto is None else min(upto, len(self.page_numbers))
        return dict(zip(self.page_numbers[:end], range(1, end + 1), strict=True))

    def frames(self, first: int = 1, last: int | None = None) -> Iterator[Frame]:
        """Yield frames `first` to `last`, one at a time, from memory; a blank tail is left out."""
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
        """Yield every commit of the committed prefix, then those that SQLite will ignore."""
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
    """What it takes to check frames: the page size, how checksums read words, and whose salts."""

    page_size: int
    big_endian: bool
    salt: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames as columns, as in `frames.WalScan`; `last` is the stored checksum of the last one."""

    page_numbers: array[int]
    commit_sizes: array[int]
    marks: bytes
    last: tuple[int, int]

    @property
    def is_blank(self) -> bool:
        """Whether no frame here was ever written."""
        return self.marks.count(BLANK) == len(self.marks)


def check_frames(buffer: bytearray, count: int, geometry: Geometry, last: tuple[int, int]) -> Chunk:
    """Check the first `count` frames in `buffer`; `last` is the stored checksum before them."""
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
