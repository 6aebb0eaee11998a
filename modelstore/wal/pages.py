"""Pages of a database seen through its log: page versions, b-trees, cells, overflow chains.

Nothing here trusts a byte. Every page number, cell pointer, length and chain is checked, and a walk
meets each page once at most: the file's size bounds the work, whatever the file holds.
https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from modelstore.errors import DamageError
from modelstore.wal.files import read_at
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeader, page_offset
from modelstore.wal.record import read_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_CHUNK_BITS = 13  # one chunk of 1 KiB holds 2^13 pages
_FEW = 1 << 17  # page numbers in a Python set: some 10 MB


class PageSet:
    """A set of page numbers.

    A few are a Python set, which takes ten of them in the time that the bits take one. Many have
    one bit each, in chunks that exist only if they hold a number.
    """

    __slots__ = ("_chunks", "_few")

    def __init__(self) -> None:
        self._few: set[int] = set()
        self._chunks: dict[int, bytearray] = {}

    def add(self, number: int) -> bool:
        """Add `number`; return False if the set had it already."""
        if self._chunks:
            return self._set_bit(number)
        before = len(self._few)
        self._few.add(number)
        is_new = len(self._few) > before
        self._bound()
        return is_new

    def add_all(self, numbers: Sequence[int]) -> bool:
        """Add `numbers`; return False if the set had one of them already, or one is there twice."""
        if self._chunks:
            were_new = [self._set_bit(number) for number in numbers]
            return all(were_new)
        before = len(self._few)
        self._few.update(numbers)
        are_new = len(self._few) == before + len(numbers)
        self._bound()
        return are_new

    def _bound(self) -> None:
        """Go over to bits once the numbers are many."""
        if len(self._few) > _FEW:
            few, self._few = self._few, set()
            for number in few:
                self._set_bit(number)

    def _set_bit(self, number: int) -> bool:
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[number >> _CHUNK_BITS] = bytearray(1 << (_CHUNK_BITS - 3))
        at = (number >> 3) & ((1 << (_CHUNK_BITS - 3)) - 1)
        bit = 1 << (number & 7)
        if chunk[at] & bit:
            return False
        chunk[at] |= bit
        return True

    def isdisjoint(self, numbers: Iterable[int]) -> bool:
        """Return True if the set has none of `numbers`."""
        return not any(map(self.fastest_test(), numbers))

    def __contains__(self, number: int) -> bool:
        if not self._chunks:
            return number in self._few
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            return False
        return bool(chunk[(number >> 3) & ((1 << (_CHUNK_BITS - 3)) - 1)] & 1 << (number & 7))

    def fastest_test(self) -> Callable[[int], bool]:
        """Return the fastest membership test, which holds until more is added."""
        return self.__contains__ if self._chunks else self._few.__contains__

    def __bool__(self) -> bool:
        return bool(self._few or self._chunks)


class PageVersions:
    """The distinct pages of the committed frames, ascending, and the frames that hold each.

    `numbers` are the page numbers; `index(page_number)` is the position in it, and in every column
    that runs along with it. `contains` is the fastest test for membership. Takes four bytes for
    each frame and eight for each page, so that the log of a million small frames fits in memory.
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
        """Return the fastest membership test: callers ask it for every page of the database."""
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
        """Return the position of page `number` in `numbers`, which must have it."""
        return bisect_left(self.numbers, number)

    def frames(self, index: int) -> Sequence[int]:
        """Return the frames, ascending, that hold the page at `index`."""
        return self._order[self._starts[index] : self._starts[index + 1]]

    def frame_count(self, index: int) -> int:
        """Return the number of frames that hold the page at `index`."""
        return self._starts[index + 1] - self._starts[index]

    def last_frame(self, index: int) -> int:
        """Return the frame with the newest version of the page at `index`."""
        return self._order[self._starts[index + 1] - 1]

    def offset(self, number: int) -> int | None:
        """Return the offset in the log of the newest version of page `number`; None if absent."""
        if not self.contains(number):
            return None
        return page_offset(self.last_frame(self.index(number)), self.page_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)


INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
INTERIORS = (INDEX_INTERIOR, TABLE_INTERIOR)
TREE_KINDS = bytes((*INTERIORS, INDEX_LEAF, TABLE_LEAF))
_MAX_DEPTH = 20  # SQLite's own bound, BTCURSOR_MAX_DEPTH
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")


class CorruptPageError(DamageError):
    """A page breaks a rule of the file format; the message names the page."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="run an integrity check on a copy of the database")


class Cell(NamedTuple):
    """A row or an index entry: `size` bytes of payload, which `local` begins.

    `overflow` is the page with the rest, 0 if there is none. `rowid` is None in an index.
    """

    rowid: int | None
    size: int
    local: bytes
    overflow: int


@dataclass(frozen=True, slots=True)
class BtreePage:
    """A parsed b-tree page: `cells` are offsets into `data`, `right` is the right-most child."""

    number: int
    kind: int
    data: bytes
    cells: tuple[int, ...]
    right: int

    @property
    def is_leaf(self) -> bool:
        """True if it has no children."""
        return self.kind not in INTERIORS

    def children(self) -> list[int]:
        """Return the children of an interior page, from left to right, unchecked."""
        data = self.data
        number_at = _U32.unpack_from
        return [*[number_at(data, at)[0] for at in self.cells], self.right]


@dataclass(frozen=True, slots=True)
class Tree:
    """The pages of one b-tree: interior pages from the root down, leaves in key order.

    Nothing but the interior pages and the left-most leaf was read to find them. `ends` has, for
    each interior page, the place behind its last child among all pages but the root, level by
    level.
    """

    root: int
    has_rowids: bool
    interiors: array[int]
    leaves: array[int]
    ends: array[int]


@dataclass(frozen=True, slots=True)
class CopiedMain:
    """A main file with its `size` in bytes, and the pages that were copied from it at one moment.

    Other pages are read from the `descriptor` when they are needed: later than the copies.
    """

    descriptor: int
    size: int
    pages: Mapping[int, bytes]


MainSource = int | CopiedMain
"""A descriptor of the main file, or copies of its pages."""


def main_size(main: MainSource) -> int:
    """Return the size of a main file in bytes."""
    return main.size if isinstance(main, CopiedMain) else os.fstat(main).st_size


def read_main_page(main: MainSource, page_size: int, number: int) -> bytes:
    """Return a page of a main file; fewer bytes only at its end."""
    if isinstance(main, CopiedMain):
        copied = main.pages.get(number)
        if copied is not None:
            return copied
        main = main.descriptor
    return read_at(main, page_size, (number - 1) * page_size)


class DatabaseView:
    """A database as of one moment: the main file, with a log's pages laid over it.

    `log` is a descriptor. Without `log_pages` the view is the main file alone; without
    `main` only the log is read. `main` may end within `cut_page`, its last page: SQLite reads zeros
    for the rest (https://www.sqlite.org/c3ref/io_methods.html). `reads` counts the pages read,
    `from_main` has the numbers of those from the main file; `problem` keeps the first fault found
    in them. Raises `CorruptPageError`; the constructor raises `DatabaseHeaderError` if page 1 does
    not begin with a database header.
    """

    def __init__(
        self,
        main: MainSource | None,
        page_size: int,
        page_count: int,
        log: int | None = None,
        log_pages: PageVersions | None = None,
        cut_page: int = 0,
    ) -> None:
        self.page_size = page_size
        self.page_count = page_count
        self.reads = 0
        self.from_main = array("I")
        self.problem: str | None = None
        self._main = main
        self._log = log
        self._log_pages = log_pages
        self._cut_page = cut_page
        self._main_pages = 0 if main is None else main_size(main) // page_size + bool(cut_page)
        self.header = DatabaseHeader.parse(self.page(1)[:DATABASE_HEADER_SIZE])
        if self.header.page_size != page_size:
            raise self.corrupt(
                f"page 1 says that pages have {self.header.page_size} bytes, not {page_size}"
            )
        self.usable = self.header.usable_size
        self._chained = self.usable - 4
        self._max_leaf = self.usable - 35
        self._max_index = (self.usable - 12) * 64 // 255 - 23
        self.min_local = (self.usable - 12) * 32 // 255 - 23

    def corrupt(self, message: str) -> CorruptPageError:
        """Return the error to raise; keep the first message in `problem`."""
        self.problem = self.problem or message
        return CorruptPageError(message)

    def page(self, number: int) -> bytes:
        """Return the bytes of page `number`, its newest version in this view."""
        if not 1 <= number <= self.page_count:
            raise self.corrupt(f"page {number} is not one of 1 to {self.page_count}")
        self.reads += 1
        data = b""
        offset = None if self._log_pages is None else self._log_pages.offset(number)
        if offset is not None and self._log is not None:
            data = read_at(self._log, self.page_size, offset)
        elif self._main is not None:
            self.from_main.append(number)
            data = read_main_page(self._main, self.page_size, number)
            if data and number == self._cut_page:
                data = data.ljust(self.page_size, b"\0")
        if len(data) < self.page_size:
            fault = "cut short in" if data else "missing from"
            raise self.corrupt(f"page {number} is {fault} the file")
        return data

    def btree_page(self, number: int) -> BtreePage:
        """Return page `number` parsed as a b-tree page."""
        data = self.page(number)
        start = DATABASE_HEADER_SIZE if number == 1 else 0
        kind = data[start]
        if kind not in TREE_KINDS:
            raise self.corrupt(f"page {number} is no b-tree page (type {kind})")
        interior = kind in INTERIORS
        (count,) = _U16.unpack_from(data, start + 3)
        array_start = start + (12 if interior else 8)
        array_end = array_start + 2 * count
        # A cell takes 4 bytes at least, its pointer 2: this bounds the count (MX_CELL in SQLite).
        if count > (self.page_size - 8) // 6 or array_end > self.usable:
            raise self.corrupt(f"page {number} cannot have {count} cells")
        cells: tuple[int, ...] = struct.unpack_from(f">{count}H", data, array_start)
        if cells and (min(cells) < array_end or max(cells) > self.usable - 4):
            raise self.corrupt(f"page {number} has a cell outside of its content")
        right = _U32.unpack_from(data, start + 8)[0] if interior else 0
        return BtreePage(number, kind, data, cells, right)

    def _exists(self, number: int) -> bool:
        """Return True if a file holds page `number`: a false page count must not cost memory."""
        is_in_log = self._log_pages is not None and number in self._log_pages
        return 1 <= number <= self.page_count and (number <= self._main_pages or is_in_log)

    def tree_page(self, number: int, kind: int, root: int) -> BtreePage:
        """Return a page of the b-tree at `root`; it must have type `kind` and must not be empty."""
        page = self.btree_page(number)
        if page.kind != kind:
            raise self.corrupt(f"page {number} is of another kind than its siblings")
        if not page.cells and number != root:
            raise self.corrupt(f"page {number} is empty, and not the root of its b-tree")
        return page

    def tree(
        self, root: int, seen: PageSet, known: Mapping[int, Sequence[int]] | None = None
    ) -> Tree:
        """Return the pages of the b-tree at `root`, and add them to `seen`, which has none yet.

        `known` has the children of interior pages that were read and found sound already.
        """
        level = array("I", [root])
        interiors, ends = array("I"), array("I")
        known = known or {}
        if not seen.add(root):
            raise self.corrupt(f"page {root} is part of two b-trees")
        for _ in range(_MAX_DEPTH):
            first = self.btree_page(level[0])
            if first.is_leaf:
                return Tree(root, first.kind == TABLE_LEAF, interiors, level, ends)
            below = array("I")
            before = ends[-1] if ends else 0
            for number in level:
                children = known.get(number)
                if children is None:
                    children = self.tree_page(number, first.kind, root).children()
                self._enter(number, children, seen)
                below.extend(children)
                ends.append(before + len(below))
            interiors.extend(level)
            level = below
        raise self.corrupt(f"the b-tree at page {root} is deeper than {_MAX_DEPTH} levels")

    def _enter(self, parent: int, children: Sequence[int], seen: PageSet) -> None:
        is_plain = min(children) > 0 and max(children) <= min(self.page_count, self._main_pages)
        if not is_plain and not all(map(self._exists, children)):
            raise self.corrupt(f"page {parent} has a child that is no page of the database")
        if not seen.add_all(children):
            raise self.corrupt(f"page {parent} has a child that is part of a b-tree already")

    def cells(self, page: BtreePage) -> Iterator[Cell]:
        """Yield the cells of a page that holds rows or index entries, in the order of their keys.

        The interior pages of a rowid table hold none.
        """
        if page.kind == TABLE_INTERIOR:
            return
        room = self.usable
        for at in page.cells:
            cell, end = self._cell(page, at)
            room -= end - at
            if room < 0:
                raise self.corrupt(f"page {page.number} has cells that overlap")
            yield cell

    def cell(self, page: BtreePage, index: int) -> Cell:
        """Return the cell at `index` of a page, in the order of the keys."""
        return self._cell(page, page.cells[index])[0]

    def cell_and_end(self, page: BtreePage, index: int) -> tuple[Cell, int]:
        """Return the cell at `index` of a page, and the offset in the page behind it."""
        return self._cell(page, page.cells[index])

    def rowid(self, page: BtreePage, index: int) -> int:
        """Return the rowid of the cell at `index` of a table leaf."""
        try:
            _, at = read_varint(page.data, page.cells[index])
            rowid, _ = read_varint(page.data, at)
        except IndexError:
            raise self.corrupt(f"page {page.number} has a cell that is cut off") from None
        return rowid - (1 << 64) if rowid >> 63 else rowid

    def _cell(self, page: BtreePage, at: int) -> tuple[Cell, int]:
        """Return the cell at offset `at`, and its end."""
        data = page.data
        rowid = None
        most = self._max_index
        try:
            size, start = read_varint(data, at + 4 if page.kind == INDEX_INTERIOR else at)
            if page.kind == TABLE_LEAF:
                rowid, start = read_varint(data, start)
                rowid = rowid - (1 << 64) if rowid >> 63 else rowid
                most = self._max_leaf
        except IndexError:
            raise self.corrupt(f"page {page.number} has a cell that is cut off") from None
        local = size if size <= most else self._local_size(size, most)
        end = start + local
        overflow = 0
        if local < size:
            if size - local > self.page_count * self._chained:
                raise self.corrupt(f"page {page.number} has a cell larger than the database")
            if end + 4 <= self.usable:
                (overflow,) = _U32.unpack_from(data, end)
            end += 4
        if end > self.usable:
            raise self.corrupt(f"page {page.number} has a cell that is cut off")
        return Cell(rowid, size, data[start : start + local], overflow), max(end, at + 4)

    def _local_size(self, size: int, most: int) -> int:
        least = self.min_local
        wanted = least + (size - least) % self._chained
        return wanted if wanted <= most else least

    def chain(self, cell: Cell, seen: PageSet) -> Iterator[tuple[int, bytes]]:
        """Yield number and content of each overflow page of `cell`; `seen` must not have any."""
        left = cell.size - len(cell.local)
        number = cell.overflow
        while left > 0:
            data = self.page(number)
            if not seen.add(number):
                raise self.corrupt(f"page {number} is part of two overflow chains")
            yield number, data[4 : 4 + min(left, self._chained)]
            left -= self._chained
            (number,) = _U32.unpack_from(data, 0)

    def payload(self, cell: Cell, limit: int | None = None, *, seen: PageSet) -> bytes:
        """Return the payload of `cell`, or at least its first `limit` bytes; see `chain`."""
        wanted = cell.size if limit is None else min(limit, cell.size)
        if wanted <= len(cell.local):
            return cell.local
        content = bytearray(cell.local)
        for _, part in self.chain(cell, seen):
            content += part
            if len(content) >= wanted:
                break
        return bytes(content)
