"""Deleted rows out of the free space of pages.

A free page may still hold the cells that it had. In a page in use the space between its cells may
hold freed cells: whole ones, or ones whose first four bytes became the header of a freeblock. Each
possible cell gets a weight in bits: how unlikely it is that chance made these bytes. The heaviest
cells that do not overlap are taken (https://www.sqlite.org/fileformat2.html#b_tree_pages).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from modelstore.recovery.free_space import (
    FREEBLOCK_HEADER,
    Layout,
    PageImage,
    Span,
    freeblock_headers,
    layout_of,
    local_size,
    payloads,
)
from modelstore.recovery.record_forms import Forms, Header, encode_varint
from modelstore.wal.pages import TREE_KINDS
from modelstore.wal.record import read_varint

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from modelstore.recovery.tables import Table
    from modelstore.wal.record import Value

    PageReader = Callable[[int], bytes]

_WHOLE = 14.0  # bits: the sizes of payload and header agree with the record
_IN_CHAIN = 12.0  # the cell begins at a freeblock of the page's chain
_AT_BOUNDARY = 10.0  # the cell ends where another begins, or where its freeblock ends
_NEAR_BOUNDARY = 5.0  # one to three bytes before it: SQLite leaves such fragments
_AT_HEADER = 6.0  # it ends at what looks like the header of a former freeblock
_NEAR_HEADER = 2.0
_OWN_TABLE = 6.0  # the page belongs to the table
_ENOUGH_WHOLE = 24.0
_NEEDED = 20.0  # each cell's weight counts from here on where cells compete
_ENOUGH_HEADLESS = 29.0
_ENOUGH_CONTENT = 6.0  # of a headless cell: its place alone is not enough
_CLEARLY = 1.5  # the likelier of two readings of the same bytes must be so by this
_FEW_ROWS = 50  # tables with fewer live rows learn from whole deleted rows too
_MAX_CANDIDATES = 20_000  # in one page: a page of 64 KiB holds 10,922 cells at most
_MAX_TABLES = 64  # tables that are tried on a page whose owner is not known
_MAX_PAYLOAD = 1 << 26  # bytes: a larger deleted row is not followed through its pages
_FILTER_BITS = 28


@dataclass(frozen=True, slots=True)
class CarvedRow:
    """A deleted row: `values` in the order of the table's columns, `offset` that of its cell.

    `rowid` is None if its bytes are overwritten and the cells around do not tell it. `confidence`
    runs from 0 to 1; `note` says what was inferred.
    """

    table: Table
    rowid: int | None
    values: tuple[Value, ...]
    page: int
    offset: int
    origin: str
    frame: int | None
    confidence: float
    note: str


class RowFilter:
    """Remembers rows in 32 MiB. At a million rows it takes one new row in 5,000 for known."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(1 << (_FILTER_BITS - 3))

    def add(self, key: object) -> bool:
        """Add a hashable key; return False if it was there."""
        is_new = False
        for place in self._places(key):
            bit = 1 << (place & 7)
            is_new |= not self._bits[place >> 3] & bit
            self._bits[place >> 3] |= bit
        return is_new

    def __contains__(self, key: object) -> bool:
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in self._places(key))

    @staticmethod
    def _places(key: object) -> tuple[int, int]:
        value = hash((key, _FILTER_BITS))
        mask = (1 << _FILTER_BITS) - 1
        return value & mask, (value >> _FILTER_BITS) & mask


@dataclass(frozen=True, slots=True)
class _Cell:
    """A possible cell: `whole` if its first four bytes are there."""

    start: int
    end: int
    forms: Forms
    rowid: int | None
    values: list[Value]
    payload: bytes
    weight: float
    whole: bool
    lost: int


class Carver:
    """Finds the deleted rows of `tables`; `read_page` returns a page for overflow chains.

    First `learn` every page in use, then `settle`, then ask for the `rows` of every page.
    """

    def __init__(self, tables: Sequence[Table], encoding: int, read_page: PageReader) -> None:
        self.read_page = read_page
        self.forms = [form for t in tables if (form := Forms(t, encoding)).is_usable]
        self._by_name = {forms.table.name: forms for forms in self.forms}
        self._known = RowFilter()
        self._searches: list[tuple[Forms, re.Pattern[bytes]]] = []

    def learn(self, image: PageImage) -> None:
        """Remember the rows in use of a page, and the serial types that they have."""
        forms = None if image.owner is None else self._by_name.get(image.owner)
        if forms is None or image.is_free:
            return
        for span, payload in payloads(image):
            self._known.add(payload)
            self._known.add((span.rowid, payload))
            forms.learn(payload)

    def learn_example(self, table: str, payload: bytes) -> None:
        """Take a deleted row of `table` for usual."""
        if table in self._by_name:
            self._by_name[table].learn(payload)

    def learn_whole_rows(self, image: PageImage) -> None:
        """Learn from the deleted rows of a page that lost no byte."""
        for start, end in layout_of(image).regions:
            for cell in _choose(list(self._whole_cells(image, start, end, {end}))):
                cell.forms.learn(cell.payload)

    def settle(self) -> None:
        """Draw the conclusions from what was learned."""
        for forms in self.forms:
            forms.settle()
        patterns = ((forms, forms.pattern()) for forms in self.forms)
        self._searches = [(forms, pattern) for forms, pattern in patterns if pattern is not None]

    def rows(self, image: PageImage) -> Iterator[CarvedRow]:
        """Yield the deleted rows in the free space of a page, each row once."""
        if not any(image.data):
            return
        layout = layout_of(image)
        chosen: list[_Cell] = []
        for start, end in layout.regions:
            if end - start > FREEBLOCK_HEADER and any(image.data[start:end]):
                chosen += self._region(image, layout, start, end)
        for cell, rowid, is_told in _with_rowids(chosen, layout.spans):
            key = cell.payload if rowid is None else (rowid, cell.payload)
            if key not in self._known:
                self._known.add((rowid, cell.payload))
                self._known.add(cell.payload)
                yield _row(image, cell, rowid, is_told=is_told)

    # -- one region --------------------------------------------------------------------------------

    def _region(self, image: PageImage, layout: Layout, start: int, end: int) -> list[_Cell]:
        borders = layout.borders | {end}
        borders.update(at + size for at, size in layout.freeblocks.items())
        found = [
            cell
            for cell in self._whole_cells(image, start, end, borders)
            if not any(cell.start < block < cell.end for block in layout.freeblocks)
        ]
        borders.update(cell.start for cell in found)
        found += self._headless_cells(image, layout, start, end, borders)
        return _choose(found)

    def _tried(self, image: PageImage) -> list[tuple[Forms, re.Pattern[bytes]]]:
        """Return the tables that may have had the page: its owner first."""
        own = [pair for pair in self._searches if pair[0].table.name == image.owner]
        others = [pair for pair in self._searches if pair[0].table.name != image.owner]
        return own + others[:_MAX_TABLES]

    def _tried_headless(self, image: PageImage) -> list[Forms]:
        """Return the tables to try where a cell's head is gone: entries of indexes look alike."""
        if image.owner is not None:
            return [self._by_name[image.owner]] if image.owner in self._by_name else []
        if image.is_index and not image.is_free:
            return []
        tried = [forms for forms, _ in self._searches[:_MAX_TABLES]]
        if image.kind not in TREE_KINDS:  # a list of free pages was written over its type
            return tried
        return [forms for forms in tried if forms.table.has_rowid is not image.is_index]

    def _whole_cells(
        self, image: PageImage, start: int, end: int, borders: set[int]
    ) -> Iterator[_Cell]:
        count = 0
        for forms, pattern in self._tried(image):
            for match in pattern.finditer(image.data, start, end):
                header = forms.whole_header(image.data, match.start())
                if header is None or header.end > end:
                    continue
                count += 1
                if count > _MAX_CANDIDATES:
                    return
                for at, rowid in _heads(image.data, start, match.start(), header, forms.table):
                    cell = self._cell(image, forms, header, at, rowid, end)
                    if cell is None:
                        continue
                    weight = cell.weight + _edge(cell.end, borders, 0, ()) + _own(forms, image)
                    if weight >= _ENOUGH_WHOLE:
                        yield replace(cell, weight=weight)

    def _headless_cells(
        self, image: PageImage, layout: Layout, start: int, end: int, borders: set[int]
    ) -> list[_Cell]:
        """Return cells behind the headers of freeblocks, and of former freeblocks, the last first.

        A cell that ends where a later one begins is the more likely.
        """
        found: list[_Cell] = []
        tried = self._tried_headless(image)
        cut = [(at, 0) for at in image.cut_cells if start <= at < end]
        headers = sorted({*freeblock_headers(image, start, end), *cut})
        later = {at for at, _ in headers} | self._heads_of_cells(image, start, end)
        for at, size in headers[::-1]:
            best: list[_Cell] = []
            for forms in tried:
                for header in forms.lost_headers(image.data, at, end):
                    cell = self._cell(image, forms, header, at, None, end)
                    if cell is None:
                        continue
                    in_chain = at in layout.freeblocks or at in image.cut_cells
                    edge = _edge(cell.end, borders, at + size, later)
                    weight = cell.weight + edge + _own(forms, image)
                    is_exact = edge > 0
                    weight += _IN_CHAIN if in_chain else 0.0
                    is_likely = cell.weight >= _ENOUGH_CONTENT and weight >= _ENOUGH_HEADLESS
                    if is_likely and (is_exact or in_chain):
                        best.append(replace(cell, weight=weight))
            if best := _clear(best):
                found += best
                borders.add(at)
            if len(found) > _MAX_CANDIDATES:
                break
        return found

    def _heads_of_cells(self, image: PageImage, start: int, end: int) -> set[int]:
        """Return the offsets of cells whose heads are whole: their ends may be overwritten."""
        return {
            at
            for forms, pattern in self._tried(image)
            for match in islice(pattern.finditer(image.data, start, end), _MAX_CANDIDATES)
            if (header := forms.whole_header(image.data, match.start())) is not None
            and header.end <= end
            for at, _ in _heads(image.data, start, match.start(), header, forms.table)
        }

    def _cell(
        self,
        image: PageImage,
        forms: Forms,
        header: Header,
        start: int,
        rowid: int | None,
        region_end: int,
    ) -> _Cell | None:
        """Return the cell that begins at `start` and has this header; None if it cannot be one."""
        size = header.size + header.values
        if size > _MAX_PAYLOAD:
            return None
        local = local_size(size, image.usable, has_rowid=forms.table.has_rowid)
        begin = header.end - header.size
        end = begin + local + (4 if local < size else 0)
        if max(end, start + 4) > region_end:
            return None
        body = image.data[header.end : begin + local]
        if local < size:
            body += self._chain(image, begin + local, size - local)
        if len(body) < header.values:
            return None
        decoded = forms.decode(header, body)
        if decoded is None:
            return None
        types = b"".join(map(encode_varint, header.serials))
        payload = (encode_varint(header.size) + types + body)[:local]
        is_whole = rowid is not None or (not forms.table.has_rowid and header.lost == 0)
        weight = decoded.evidence + (_WHOLE if is_whole else 0.0)
        return _Cell(
            start, max(end, start + 4), forms, rowid, decoded.values, payload, weight,
            is_whole, header.lost,
        )  # fmt: skip

    def _chain(self, image: PageImage, at: int, left: int) -> bytes:
        """Return the bytes that a chain of overflow pages still holds; fewer if it is broken.

        The last page of a chain has no next one.
        """
        content = bytearray()
        number = int.from_bytes(image.data[at : at + 4], "big")
        seen = {image.number}
        while left > len(content) and number and number not in seen:
            seen.add(number)
            page = self.read_page(number)
            if len(page) < image.usable:
                break
            content += page[4 : image.usable]
            number = int.from_bytes(page[:4], "big")
        return b"" if number else bytes(content[:left])


def carve(
    pages: Iterable[PageImage],
    tables: Sequence[Table],
    encoding: int,
    read_page: PageReader,
    examples: Iterable[tuple[str, bytes]] = (),
) -> Iterator[CarvedRow]:
    """Yield the deleted rows of `tables` in `pages`, which is read up to three times.

    `examples` are payloads of rows of tables that no page in use belongs to.
    """
    carver = Carver(tables, encoding, read_page)
    for image in pages:
        carver.learn(image)
    for name, payload in examples:
        carver.learn_example(name, payload)
    carver.settle()
    if any(forms.rows < _FEW_ROWS for forms in carver.forms):
        for image in pages:
            carver.learn_whole_rows(image)
        carver.settle()
    for image in pages:
        yield from carver.rows(image)


# -- cells -----------------------------------------------------------------------------------------


def _heads(
    data: bytes, start: int, at: int, header: Header, table: Table
) -> Iterator[tuple[int, int | None]]:
    """Yield start and rowid of the cells that may have the record header at `at`."""
    size = encode_varint(header.size + header.values)
    if not table.has_rowid:
        if at - len(size) >= start and data.endswith(size, start, at):
            yield at - len(size), None
        return
    for length in range(1, 10):
        rowid_at = at - length
        if rowid_at - len(size) < start or (length > 1 and data[rowid_at] < 0x80):
            return
        is_rowid = data[at - 1] < 0x80 or length == 9
        if is_rowid and data[rowid_at] != 0x80 and data.endswith(size, start, rowid_at):
            rowid, end = read_varint(data, rowid_at)
            if end == at:
                yield rowid_at - len(size), rowid - (1 << 64) if rowid >> 63 else rowid


def _own(forms: Forms, image: PageImage) -> float:
    return _OWN_TABLE if forms.table.name == image.owner else 0.0


def _edge(end: int, borders: set[int], block_end: int, headers: Collection[int]) -> float:
    """Return the evidence in the end of a cell: something else begins there."""
    if end in borders or end == block_end:
        return _AT_BOUNDARY
    if end in headers:
        return _AT_HEADER
    if any(end + gap in borders or end + gap == block_end for gap in (1, 2, 3)):
        return _NEAR_BOUNDARY
    return _NEAR_HEADER if any(end + gap in headers for gap in (1, 2, 3)) else 0.0


def _choose(cells: list[_Cell]) -> list[_Cell]:
    """Return the cells that do not overlap and weigh most together, in the order of their offsets.

    Each must outweigh what a cell needs at least: two doubtful cells do not replace a sure one.
    """
    ordered = sorted(cells, key=lambda cell: (cell.end, cell.start, -cell.weight))
    ends = [cell.end for cell in ordered]
    best = [0.0]  # the most that the first n cells can weigh
    before = []  # how many of them end before each cell begins
    for n, cell in enumerate(ordered):
        before.append(bisect_right(ends, cell.start, 0, n))
        best.append(max(best[n], best[before[n]] + cell.weight - _NEEDED))
    taken = []
    n = len(ordered)
    while n:
        if best[n] == best[n - 1]:
            n -= 1
            continue
        taken.append(ordered[n - 1])
        n = before[n - 1]
    return taken[::-1]


def _clear(cells: list[_Cell]) -> list[_Cell]:
    """Return the heaviest cells of one offset; none if two with other values weigh the same."""
    best = sorted(cells, key=lambda cell: -cell.weight)[:4]
    is_unclear = (
        len(best) > 1
        and best[0].lost > 0
        and best[1].weight > best[0].weight - _CLEARLY
        and best[1].values != best[0].values
    )
    return [] if is_unclear else best


def _row(image: PageImage, cell: _Cell, rowid: int | None, *, is_told: bool) -> CarvedRow:
    notes = []
    confidence = 0.95
    if not cell.whole:
        confidence = 0.7 if cell.lost else 0.8
        notes.append("its first four bytes are overwritten")
    if is_told:
        confidence -= 0.05
        notes.append("its rowid is told from the rows beside it")
    values = cell.forms.table.values(rowid, cell.values)
    return CarvedRow(
        cell.forms.table, rowid, values, image.number, cell.start, image.origin, image.frame,
        round(confidence, 2), "; ".join(notes),
    )  # fmt: skip


def _with_rowids(
    cells: Sequence[_Cell], spans: Sequence[Span]
) -> Iterator[tuple[_Cell, int | None, bool]]:
    """Yield each cell with its rowid, and True if the cells beside it tell the rowid.

    Rows that were appended lie one before the other in the page: if all known rowids do, and the
    two known neighbours of n cells differ by n + 1, there is one rowid for each.
    """
    items: list[_Cell | Span] = sorted([*cells, *spans], key=lambda item: item.start)
    known = [(n, item.rowid) for n, item in enumerate(items) if item.rowid is not None]
    told: dict[int, int] = {}
    is_appended = all(first > last for (_, first), (_, last) in pairwise(known))
    for (low, first), (high, last) in pairwise(known if is_appended else ()):
        is_tiled = all(items[n].end == items[n + 1].start for n in range(low, high))
        if first - last == high - low and is_tiled:
            told.update({n: first - (n - low) for n in range(low + 1, high)})
    for n, item in enumerate(items):
        if isinstance(item, _Cell):
            yield item, told.get(n, item.rowid), n in told
