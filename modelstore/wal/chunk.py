"""Checking a run of frames, in plain Python; `vector` does the same with numpy, 100 × faster."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from modelstore.wal.checksum import checksum
from modelstore.wal.frames import BLANK, BROKEN, COMMIT, FOREIGN, INTACT, PAGE_ZERO, PENDING
from modelstore.wal.layout import FRAME_HEADER, FRAME_HEADER_SIZE, frame_size


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


def examine(buffer: bytearray, count: int, geometry: Geometry, last: tuple[int, int]) -> Chunk:
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
