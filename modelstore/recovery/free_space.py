"""The free space of a page: between its cells, in its freeblocks, or all of a free page.

Nothing here trusts a byte: a pointer that cannot be true is left out.
https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelstore.wal.format import DATABASE_HEADER_SIZE
from modelstore.wal.pages import INDEX_INTERIOR, INDEX_LEAF, TABLE_INTERIOR, TABLE_LEAF, TREE_KINDS
from modelstore.wal.record import read_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

FREEBLOCK_HEADER = 4
_MAX_HEADERS = 20_000  # in one page: a page of 64 KiB has room for 16,384


@dataclass(frozen=True, slots=True)
class PageImage:
    """A b-tree page or a free page: `usable` bytes of `data` count.

    `owner` is the table whose tree has the page. A page with `is_free` belongs to no tree, so that
    all rows in it are deleted. `origin` and `frame` say where the bytes come from. `cut_cells` are
    offsets of cells of which the first bytes are lost.
    """

    number: int
    data: bytes
    origin: str
    usable: int
    frame: int | None = None
    owner: str | None = None
    is_free: bool = False
    cut_cells: tuple[int, ...] = ()

    @property
    def start(self) -> int:
        """Offset of the page's own header: page 1 begins with that of the database."""
        return DATABASE_HEADER_SIZE if self.number == 1 else 0

    @property
    def kind(self) -> int:
        """The type that a b-tree page has."""
        return self.data[self.start]

    @property
    def is_index(self) -> bool:
        """True if it has the type of an index's page, which a WITHOUT ROWID table has too."""
        return self.kind in (INDEX_LEAF, INDEX_INTERIOR)


class Span(NamedTuple):
    """A cell in use from `start` to `end`."""

    start: int
    end: int
    rowid: int | None


@dataclass(slots=True)
class Layout:
    """A page's cells in use, its free regions, the starts of its freeblocks, and known borders."""

    spans: list[Span] = field(default_factory=list)
    regions: list[tuple[int, int]] = field(default_factory=list)
    freeblocks: dict[int, int] = field(default_factory=dict)
    borders: set[int] = field(default_factory=set)


def layout_of(image: PageImage) -> Layout:
    """Return the layout of a page; in a free page everything is free."""
    layout = Layout()
    start, kind = image.start, image.kind
    if image.is_free:
        layout.regions = [(0, image.usable)]
        if kind == TABLE_LEAF:
            layout.borders.update(_pointers(image, start)[1])
        return layout
    if kind not in TREE_KINDS:
        return layout
    end, pointers = _pointers(image, start)
    layout.spans = sorted(span for at in pointers if (span := _span(image, kind, at)))
    layout.freeblocks = _freeblocks(image, start)
    at = end
    for span in layout.spans:
        if span.start > at:
            layout.regions.append((at, span.start))
        layout.borders.add(span.start)
        at = max(at, span.end)
    if at < image.usable:
        layout.regions.append((at, image.usable))
    return layout


def _pointers(image: PageImage, start: int) -> tuple[int, tuple[int, ...]]:
    """Return the end of the array of cell pointers, and the pointers that can be true."""
    count = int.from_bytes(image.data[start + 3 : start + 5], "big")
    begin = start + (12 if image.data[start] in (INDEX_INTERIOR, TABLE_INTERIOR) else 8)
    count = min(count, (image.usable - begin) // 2)
    pointers = struct.unpack_from(f">{count}H", image.data, begin)
    end = begin + 2 * count
    return end, tuple(at for at in pointers if end <= at <= image.usable - 4)


def _span(image: PageImage, kind: int, at: int) -> Span | None:
    data = image.data
    rowid: int | None = None
    try:
        if kind == TABLE_INTERIOR:
            return Span(at, read_varint(data, at + 4)[1], None)
        size, begin = read_varint(data, at + 4 if kind == INDEX_INTERIOR else at)
        if kind == TABLE_LEAF:
            rowid, begin = read_varint(data, begin)
            rowid = rowid - (1 << 64) if rowid >> 63 else rowid
    except IndexError:
        return None
    local = local_size(size, image.usable, has_rowid=kind == TABLE_LEAF)
    end = begin + local + (4 if local < size else 0)
    return Span(at, min(max(end, at + 4), image.usable), rowid)


def payloads(image: PageImage) -> Iterator[tuple[Span, bytes]]:
    """Yield the cells in use of a page with rows, and what the page holds of their payloads."""
    start, kind = image.start, image.kind
    if kind not in (TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR):
        return
    for at in _pointers(image, start)[1]:
        span = _span(image, kind, at)
        if span is None:
            continue
        size, begin = read_varint(image.data, at + 4 if kind == INDEX_INTERIOR else at)
        if kind == TABLE_LEAF:
            begin = read_varint(image.data, begin)[1]
        local = local_size(size, image.usable, has_rowid=kind == TABLE_LEAF)
        yield span, image.data[begin : begin + local]


def local_size(size: int, usable: int, *, has_rowid: bool) -> int:
    """Return how much of a payload its page holds."""
    most = usable - 35 if has_rowid else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (usable - 4)
    return wanted if wanted <= most else least


def _freeblocks(image: PageImage, start: int) -> dict[int, int]:
    """Return start and size of the freeblocks in the page's chain, which ascends."""
    found: dict[int, int] = {}
    at = int.from_bytes(image.data[start + 1 : start + 3], "big")
    last = start
    while last < at <= image.usable - FREEBLOCK_HEADER:
        following, size = struct.unpack_from(">HH", image.data, at)
        found[at] = size
        last, at = at, following
    return found


def freeblock_headers(image: PageImage, start: int, end: int) -> list[tuple[int, int]]:
    """Return offset and size of all that may be, or have been, a freeblock's header.

    The next freeblock is behind it, or there is none; the size stays within the page.
    """
    most = bytes([min(255, image.usable >> 8)])
    high = b"[\\x00-" + re.escape(most) + b"]"
    search = re.compile(
        b"(?=" + high + b"." + b"(?:[\\x01-" + re.escape(most) + b"].|\\x00[\\x04-\\xff]))",
        re.DOTALL,
    )
    found = []
    for match in search.finditer(image.data, start, end):
        at = match.start()
        following, size = struct.unpack_from(">HH", image.data, at)
        is_next = following == 0 or at + FREEBLOCK_HEADER <= following <= image.usable - 4
        if is_next and at + size <= image.usable:
            found.append((at, size))
    return found[:_MAX_HEADERS]
