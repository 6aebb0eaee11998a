"""Sets of page numbers, and which page has which versions in a log."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from modelstore.wal.layout import page_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_CHUNK_BITS = 13  # pages to a chunk of 1 KiB, which is taken for a single one too
_FEW = 1 << 17  # numbers in a set of Python's: some 10 MB


class PageSet:
    """A set of page numbers, one bit each, that takes memory only where there are any."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, number: int) -> bool:
        """Put `number` in; return False if it was there already."""
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[number >> _CHUNK_BITS] = bytearray(1 << (_CHUNK_BITS - 3))
        at = (number >> 3) & ((1 << (_CHUNK_BITS - 3)) - 1)
        bit = 1 << (number & 7)
        if chunk[at] & bit:
            return False
        chunk[at] |= bit
        return True

    def add_all(self, numbers: Iterable[int]) -> bool:
        """Put all of `numbers` in, up to the first that was there already: then return False."""
        return all(map(self.add, numbers))

    def isdisjoint(self, numbers: Iterable[int]) -> bool:
        """Return whether none of `numbers` is in."""
        return not any(map(self.__contains__, numbers))

    def __contains__(self, number: int) -> bool:
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            return False
        return bool(chunk[(number >> 3) & ((1 << (_CHUNK_BITS - 3)) - 1)] & 1 << (number & 7))

    def __bool__(self) -> bool:
        return bool(self._chunks)


class LogPages:
    """The distinct pages of the committed frames, ascending, and the frames that hold each.

    `numbers` are the pages; their position in it, `index(page)`, is how the arrays that run
    along with it are addressed. Four bytes a frame and eight a page, so that the log of a million
    small frames fits in little memory.
    """

    __slots__ = ("_order", "_starts", "contains", "numbers", "page_size")

    def __init__(self, page_numbers: Sequence[int], page_size: int) -> None:
        self.page_size = page_size
        keys = sorted(number << 32 | frame for frame, number in enumerate(page_numbers, 1))
        self._order = array("I", (key & 0xFFFFFFFF for key in keys))
        self.numbers = array("I")
        self._starts = array("I")
        for position, key in enumerate(keys):
            if not self.numbers or self.numbers[-1] != key >> 32:
                self.numbers.append(key >> 32)
                self._starts.append(position)
        self._starts.append(len(keys))
        self.contains = self._fastest_test()

    def _fastest_test(self) -> Callable[[int], bool]:
        """Return what tells whether a page is in the log: it is asked of every page there is."""
        if len(self.numbers) <= _FEW:
            return frozenset(self.numbers).__contains__
        members = PageSet()
        members.add_all(self.numbers)
        return members.__contains__

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, number: int) -> bool:
        return self.contains(number)

    def index(self, number: int) -> int:
        """Return the place of page `number` in `numbers`; it must be there."""
        return bisect_left(self.numbers, number)

    def frames(self, index: int) -> Sequence[int]:
        """Return the frames, ascending, that hold the page at `index` of `numbers`."""
        return self._order[self._starts[index] : self._starts[index + 1]]

    def frame_count(self, index: int) -> int:
        """Return how many frames hold the page at `index` of `numbers`."""
        return self._starts[index + 1] - self._starts[index]

    def last_frame(self, index: int) -> int:
        """Return the frame with the newest version of the page at `index` of `numbers`."""
        return self._order[self._starts[index + 1] - 1]

    def offset(self, number: int) -> int | None:
        """Return where in the log the newest version of page `number` begins; None if nowhere."""
        if not self.contains(number):
            return None
        return page_offset(self.last_frame(self.index(number)), self.page_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)
