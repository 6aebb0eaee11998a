"""An independent reader of a log's bytes, frame by frame, in plain Python.

https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_VERSION = 3007000
_SECTOR = 4096  # bytes of a disk sector, as SQLite takes it
_SIZES = frozenset(1 << power for power in range(9, 17))


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; `commit` is the size of the database in pages after a commit, else 0."""

    page: int
    commit: int
    content: bytes
    has_salt: bool  # of this generation of the log
    follows: bool  # its checksum follows from the one that the frame before stores


@dataclass(frozen=True, slots=True)
class Log:
    """A log. `valid` frames at its start are valid, `committed` of them up to the last commit."""

    size: int
    page_size: int  # 0: the header is damaged, or absent
    frames: tuple[Frame, ...] = ()
    valid: int = 0
    committed: int = 0

    @property
    def commits(self) -> int:
        """Commit frames that SQLite reads."""
        return sum(bool(frame.commit) for frame in self.frames[: self.committed])

    @property
    def padding(self) -> int:
        """Committed frames that fill up a disk sector, as SQLite writes them with psow=0."""
        return sum(at < self.committed for at in self._copies())

    @property
    def later_commits(self) -> int:
        """Commit frames of this generation behind the first invalid frame, itself not counted."""
        return sum(frame.has_salt and bool(frame.commit) for frame in self.frames[self.valid + 1 :])

    @property
    def later_padding(self) -> int:
        """Those of `later_commits` that may be padding."""
        return sum(at > self.valid for at in self._copies())

    @property
    def page_count(self) -> int:
        """The database's size in pages after the last commit; 0 without a commit."""
        return self.frames[self.committed - 1].commit if self.committed else 0

    def newest(self) -> dict[int, bytes]:
        """Return the newest committed content of each page."""
        return {frame.page: frame.content for frame in self.frames[: self.committed]}

    def at_commit(self, number: int) -> tuple[dict[int, bytes], int]:
        """Return the content of each page after commit `number`, and the database's size in pages;
        0 has none."""
        pages: dict[int, bytes] = {}
        pending: dict[int, bytes] = {}
        size = 0
        for frame in self.frames[: self.committed]:
            if not number:
                break
            pending[frame.page] = frame.content
            if frame.commit:
                pages.update(pending)
                pending, size = {}, frame.commit
                number -= 1
        return pages, size

    def _copies(self) -> list[int]:
        """Return the places of the frames that may be padding; none unless each commit has it.

        Commits that write one page again and again look the same: of such a log, both counts are
        allowed. https://www.sqlite.org/psow.html
        """
        found: list[int] = []
        stride = _FRAME.size + self.page_size
        end = 0  # the end of the sector that the last commit began to fill
        last: Frame | None = None  # its frame
        for at, frame in enumerate(self.frames):
            begin = _HEADER.size + at * stride
            if last is not None and begin < end:
                if _said(frame) != _said(last):
                    return []
                found.append(at)
            elif frame.commit:
                last, end = frame, -(-(begin + stride) // _SECTOR) * _SECTOR
        is_cut = last is not None and _HEADER.size + len(self.frames) * stride < end
        return [] if is_cut else found


def _said(frame: Frame) -> tuple[int, int, bytes]:
    return frame.page, frame.commit, frame.content


@lru_cache(maxsize=64)
def read_log(data: bytes) -> Log:
    """Read a whole log."""
    if len(data) < _HEADER.size:
        return Log(len(data), 0)
    magic, version, page_size, _, *salt, one, two = _HEADER.unpack_from(data)
    order = ">" if magic & 1 else "<"
    is_sound = (
        magic & ~1 == _MAGIC
        and version == _VERSION
        and page_size in _SIZES
        and _checksum(data[:24], (0, 0), order) == (one, two)
    )
    if not is_sound:
        return Log(len(data), 0)
    frames: list[Frame] = []
    last = one, two
    valid = committed = 0
    for start in range(_HEADER.size, len(data) - 24 - page_size + 1, 24 + page_size):
        page, commit, *rest = _FRAME.unpack_from(data, start)
        content = data[start + 24 : start + 24 + page_size]
        has_salt = rest[:2] == salt
        follows = False
        if has_salt and page:
            state = _checksum(data[start : start + 8], last, order)
            follows = _checksum(content, state, order) == (rest[2], rest[3])
        last = rest[2], rest[3]
        frames.append(Frame(page, commit, content, has_salt, follows))
        if follows and valid == len(frames) - 1:
            valid += 1
            committed = valid if commit else committed
    return Log(len(data), page_size, tuple(frames), valid, committed)


def _checksum(data: bytes, state: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = state
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
