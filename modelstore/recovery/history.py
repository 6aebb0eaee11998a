"""The history in a log: its generations, their commits, and each sound frame.

A restarted log keeps the frames of older generations behind its end, until it overwrites them. Each
frame carries the checksum that the next one builds on, so frames behind a damaged one can be
checked too, and a frame with one wrong byte can be mended.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from modelstore.recovery.damage import SECTOR
from modelstore.recovery.free_space import PageImage, layout_of
from modelstore.wal.files import read_at
from modelstore.wal.format import (
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    WAL_HEADER_SIZE,
    frame_size,
    page_offset,
)
from modelstore.wal.frames import (
    COMMIT,
    GOOD,
    INTACT,
    Geometry,
    check_frames,
    guess_geometry,
)
from modelstore.wal.mend import Mend, frame_checksum, possible_mends
from modelstore.wal.scan import scan_wal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.frames import WalScan

Salt = tuple[int, int]
_MAX_MENDS = 256  # frames that are tried; each costs a millisecond
_NEAR = 64  # frames before and after one that are compared with it
_CONTEXT = 24  # bytes around a word that are compared
_MAX_OLD_FRAMES = 1 << 20  # frames of older generations to read


@dataclass(frozen=True, slots=True)
class Generation:
    """The frames of one generation, from frame `first` on, in columns.

    `sound` has 1 for a frame that follows from the frame before it, mended ones included.
    `likely` frames cannot be proved: the header of the frame before them is destroyed, the file
    ends within them, a sector of them is lost, or one byte is wrong and it is not known which.
    `exact_end` is the last commit that no unsound frame comes before, `end` the last sound commit.
    """

    salt: Salt
    first: int
    page_numbers: array[int]
    commit_sizes: array[int]
    sound: bytearray
    is_current: bool
    likely: frozenset[int] = frozenset()

    def sizes_until(self, last: int) -> int:
        """Return the pages of the database after the commit in frame `last`; 0 without one."""
        return self.commit_sizes[last - self.first] if last >= self.first else 0

    @property
    def end(self) -> int:
        """The frame of the last sound commit; the frame before `first` if there is none."""
        for index in range(len(self.sound) - 1, -1, -1):
            if self.sound[index] and self.commit_sizes[index]:
                return self.first + index
        return self.first - 1

    @property
    def exact_end(self) -> int:
        """The last commit of the unbroken run of sound frames at the start."""
        run = self.sound.find(0)
        for index in range((len(self.sound) if run < 0 else run) - 1, -1, -1):
            if self.commit_sizes[index]:
                return self.first + index
        return self.first - 1

    def commits(self) -> Iterator[int]:
        """Yield the frames of the sound commits, ascending."""
        for index, size in enumerate(self.commit_sizes):
            if size and self.sound[index]:
                yield self.first + index

    def unsound(self) -> list[int]:
        """Return the frames up to `end` that nothing can prove or mend."""
        return [
            self.first + index
            for index in range(self.end - self.first + 1)
            if not self.sound[index]
        ]

    def latest(self, upto: int) -> dict[int, int]:
        """Return the last sound frame of each page in the frames up to `upto`."""
        stop = upto - self.first + 1
        return {
            number: self.first + index
            for index, number in enumerate(self.page_numbers[:stop])
            if self.sound[index]
        }


@dataclass(frozen=True, slots=True)
class LogHistory:
    """All that one log holds; `fd` stays the caller's. `mended` has the frames put right.

    `doubtful` has the frames with one wrong byte that may be in several words, or with a lost
    sector: the offsets of these words in the page. All other bytes are proved, or likely.
    """

    fd: int
    scan: WalScan
    page_size: int
    generations: tuple[Generation, ...]
    mended: dict[int, bytes] = field(default_factory=dict)
    doubtful: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def image(self, frame: int) -> bytes:
        """Return the page in `frame`; fewer bytes if the file was cut."""
        if frame in self.mended:
            return self.mended[frame]
        return read_at(self.fd, self.page_size, page_offset(frame, self.page_size))

    @property
    def current(self) -> Generation | None:
        """The generation that the log's header names."""
        return next((one for one in self.generations if one.is_current), None)


def read_history(fd: int) -> LogHistory | None:
    """Return the history in the log open at `fd`; None if it holds no frame at all."""
    scan = scan_wal(fd)
    if scan.header is None or not scan.marks:
        return None
    reader = _Reader(fd, scan)
    current = reader.current_generation()
    older = tuple(reader.older_generations(scan.torn_end + 1))
    generations = (current, *older) if current is not None else older
    if not any(one.page_numbers for one in generations):
        return None
    return LogHistory(fd, scan, scan.page_size, generations, reader.mended, reader.doubtful)


class _Reader:
    """Reads the frames of one log."""

    def __init__(self, fd: int, scan: WalScan) -> None:
        self.fd = fd
        self.scan = scan
        self.stride = frame_size(scan.page_size)
        self.mended: dict[int, bytes] = {}
        self.doubtful: dict[int, tuple[int, ...]] = {}

    @cached_property
    def geometry(self) -> tuple[Geometry, tuple[int, int]]:
        header = self.scan.header
        assert header is not None  # noqa: S101  # read_history has looked
        if header.fault is not None and header.fault.is_damage:
            guessed = guess_geometry(self.fd, header)
            if guessed is not None:
                return guessed
        return Geometry(self.scan.page_size, header.big_endian, header.salt), header.checksum

    def frame(self, number: int) -> bytes:
        return read_at(self.fd, self.stride, WAL_HEADER_SIZE + (number - 1) * self.stride)

    def stored_checksum(self, number: int) -> tuple[int, int]:
        if number == 0:
            return self.geometry[1]
        raw = read_at(self.fd, FRAME_HEADER_SIZE, WAL_HEADER_SIZE + (number - 1) * self.stride)
        fields = FRAME_HEADER.unpack(raw) if len(raw) == FRAME_HEADER_SIZE else (0,) * 6
        return fields[4], fields[5]

    def current_generation(self) -> Generation | None:
        scan = self.scan
        count = max(scan.valid, scan.damage_end, scan.torn_end)
        if not count:
            return None
        sound = bytearray(mark in GOOD for mark in scan.marks[:count])
        found = Generation(
            self.geometry[0].salt,
            1,
            scan.page_numbers[:count],
            scan.commit_sizes[:count],
            sound,
            is_current=True,
        )
        likely: set[int] = set()
        if 0 in sound or scan.fault is not None:
            self._mend(found)
            likely.update(self._likely(found), self.doubtful)
        if self._add_torn_frame(found):
            likely.add(len(found.sound))
        return replace(found, likely=frozenset(likely)) if likely else found

    def _add_torn_frame(self, found: Generation) -> bool:
        """Add the frame in which the file ends, if it has the header of one; no commit is in it."""
        raw = self.frame(len(found.sound) + 1)
        if not FRAME_HEADER_SIZE < len(raw) < self.stride:
            return False
        number, _, *salt = FRAME_HEADER.unpack_from(raw)[:4]
        if tuple(salt) != found.salt or not number:
            return False
        found.page_numbers.append(number)
        found.commit_sizes.append(0)
        found.sound.append(0)
        return True

    def _likely(self, found: Generation) -> Iterator[int]:
        """Yield the frames with the right salt behind one whose header is destroyed."""
        was_destroyed = False
        for index, is_sound in enumerate(found.sound):
            if is_sound:
                was_destroyed = False
                continue
            fields = FRAME_HEADER.unpack_from(self.frame(index + 1).ljust(FRAME_HEADER_SIZE, b"\0"))
            is_ours = fields[2:4] == found.salt and fields[0] > 0
            if is_ours and was_destroyed:
                yield index + 1
            was_destroyed = not is_ours

    def _mend(self, found: Generation) -> None:
        """Mend the unsound frames that have one wrong byte, a wrong salt or a wrong checksum."""
        bad = [index for index, is_sound in enumerate(found.sound) if not is_sound]
        before = (-1, (0, 0))
        for index in bad[:_MAX_MENDS]:
            last = before[1] if before[0] == index else self.stored_checksum(index)
            frame = self.frame(index + 1)
            if len(frame) < self.stride:
                break
            before = self._mend_one(found, index, frame, last) or before

    def _mend_one(
        self, found: Generation, index: int, frame: bytes, last: tuple[int, int]
    ) -> tuple[int, tuple[int, int]] | None:
        """Mend one frame; return the checksum for the next if the stored one is wrong."""
        big_endian = self.geometry[0].big_endian
        computed = frame_checksum(frame, last, big_endian=big_endian)
        if computed == FRAME_HEADER.unpack_from(frame)[4:6]:
            self._accept(found, index, frame)  # the salt is wrong, and no checksum covers it
            return None
        following = self.frame(index + 2)
        if len(following) == self.stride:
            stored = FRAME_HEADER.unpack_from(following)[4:6]
            if frame_checksum(following, computed, big_endian=big_endian) == stored:
                self._accept(found, index, frame)  # its stored checksum is wrong
                return index + 1, computed
        mends = possible_mends(frame, last, big_endian=big_endian)
        if len(mends) > 1:
            mends = self._not_elsewhere(found, index, mends)
        likely = mends if len(mends) == 1 else self._like_neighbours(found, index, mends)
        if len(likely) == 1:
            self._accept(found, index, likely[0].apply(frame))
        elif mends and all(mend.at > FRAME_HEADER_SIZE for mend in mends):
            self.doubtful[index + 1] = tuple(mend.at - FRAME_HEADER_SIZE for mend in mends)
        elif not mends and (words := self._zeroed_words(index, frame)):
            self.doubtful[index + 1] = words
        return None

    def _zeroed_words(self, index: int, frame: bytes) -> tuple[int, ...]:
        """Return the offsets in the page of the words in lost sectors, which read as zeros.

        Free space is zeros too: only a sector behind the start of the page's content, which takes
        bytes of a row, is lost.
        """
        number = FRAME_HEADER.unpack_from(frame)[0]
        first = page_offset(index + 1, self.scan.page_size)
        page = frame[FRAME_HEADER_SIZE:]
        image = PageImage(number, page, "", len(page))
        spans = layout_of(image).spans
        content = int.from_bytes(page[image.start + 5 : image.start + 7], "big") or len(page)
        words: list[int] = []
        for sector in range(-(first % SECTOR), len(page), SECTOR):
            start, end = max(sector, 0), min(sector + SECTOR, len(page))
            is_used = any(span.start < end and span.end > start for span in spans)
            if is_used and content <= start and not any(page[start:end]):
                words += range(start, end, 4)
        return tuple(words)

    def _not_elsewhere(self, found: Generation, index: int, mends: list[Mend]) -> list[Mend]:
        """Return the mends of bytes that no sound frame near has just so: SQLite copies pages."""
        first = max(0, index - _NEAR)
        others = [
            self.frame(n + 1)
            for n in range(first, min(len(found.sound), index + _NEAR))
            if found.sound[n] and n != index
        ]
        frame = self.frame(index + 1)

        def is_elsewhere(mend: Mend) -> bool:
            begin = max(FRAME_HEADER_SIZE, mend.at - _CONTEXT)
            part = frame[begin : mend.at + _CONTEXT]
            is_telling = len(part) - part.count(0) >= _CONTEXT // 2
            return is_telling and any(other.startswith(part, begin) for other in others)

        return [mend for mend in mends if not is_elsewhere(mend)]

    def _like_neighbours(self, found: Generation, index: int, mends: list[Mend]) -> list[Mend]:
        """Return the mends that give the word that the page has in the frames before and after."""
        number = found.page_numbers[index]
        same = [n for n, page in enumerate(found.page_numbers) if page == number and n != index]
        place = bisect_left(same, index)
        near = [self.frame(n + 1) for n in same[max(0, place - 1) : place + 1]]
        return [
            mend
            for mend in mends
            if any(other[mend.at : mend.at + 4] == mend.word for other in near)
        ]

    def _accept(self, found: Generation, index: int, frame: bytes) -> None:
        number, size, *_ = FRAME_HEADER.unpack_from(frame)
        if not number:
            return
        found.page_numbers[index], found.commit_sizes[index] = number, size
        found.sound[index] = 1
        self.mended[index + 1] = frame[FRAME_HEADER_SIZE:]

    def older_generations(self, first: int) -> Iterator[Generation]:
        """Yield the generations behind the end of the current one, the newest first."""
        run: list[int] = []
        salt: Salt = (0, 0)
        last = min(len(self.scan.marks), first + _MAX_OLD_FRAMES - 1)
        for number in range(first, last + 1):
            raw = read_at(self.fd, FRAME_HEADER_SIZE, WAL_HEADER_SIZE + (number - 1) * self.stride)
            if len(raw) < FRAME_HEADER_SIZE:
                break
            fields = FRAME_HEADER.unpack(raw)
            is_frame = any(fields[2:4]) and fields[0] != 0
            if run and (fields[2:4] != salt or not is_frame):
                yield self._older(salt, run)
                run = []
            salt = (fields[2], fields[3])
            if is_frame:
                run.append(number)
        if run:
            yield self._older(salt, run)

    def _older(self, salt: Salt, run: list[int]) -> Generation:
        """Check the frames of one older generation, which the current one has begun to overwrite.

        Nothing proves the first of them: the frame before it is gone.
        """
        geometry = Geometry(self.scan.page_size, self.geometry[0].big_endian, salt)
        numbers, sizes, sound = array("I"), array("I"), bytearray()
        last = (0, 0)
        for number in run:
            frame = bytearray(self.frame(number))
            if len(frame) < self.stride:
                break
            chunk = check_frames(frame, 1, geometry, last)
            numbers.append(chunk.page_numbers[0])
            sizes.append(chunk.commit_sizes[0])
            sound.append(chunk.marks[0] & ~COMMIT == INTACT)
            last = chunk.last
        return Generation(salt, run[0], numbers, sizes, sound, is_current=False)
