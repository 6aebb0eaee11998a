"""Rows out of the pages of b-trees that may be damaged.

A damaged tree is read as far as its pages go: a page that cannot be read costs its own rows alone,
and leaves a `Gap`, the range of keys that it may have had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelstore.recovery.damage import PointerMap, lost_stretches, mend_page, mistyped
from modelstore.wal.pages import TABLE_INTERIOR, CorruptPageError, PageSet
from modelstore.wal.record import (
    RecordError,
    Value,
    decode_record,
    decode_value,
    read_varint,
    record_fields,
    serial_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.recovery.states import StateView
    from modelstore.wal.pages import BtreePage, Cell, DatabaseView

_MAX_ROW = 1 << 30  # bytes: SQLite's own bound on a row
_MAX_DEPTH = 20
_MAX_GAPS = 1_000_000  # that are remembered
LEAST, MOST = -(1 << 63), (1 << 63) - 1
_LOST_TEXT = "\ufffd"  # stands for the lost part of a text


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as its page holds it.

    `lost` are the values of which bytes are lost: a text keeps what is left of it, any other value
    is NULL. `doubt` says why a value may be false although nothing of it is known to be lost, and
    `is_doubtful` that it is likely.
    """

    rowid: int | None
    stored: list[Value]
    page: int
    lost: tuple[int, ...] = ()
    doubt: str = ""
    is_doubtful: bool = False


@dataclass(slots=True)
class Gap:
    """The rowids above `above` and up to `upto` that a page or a cell which cannot be read had.

    Without rowids a gap has no bounds. `found` counts the rows that came back from elsewhere.
    """

    page: int
    above: int = LEAST
    upto: int = MOST
    found: int = 0

    def has(self, rowid: int | None) -> bool:
        """Return True if a row with this rowid may have been in the gap."""
        return rowid is None or self.above < rowid <= self.upto

    @property
    def is_closed(self) -> bool:
        """True if no other rowid fits into the gap."""
        return self.found >= self.upto - self.above


class TreePage(NamedTuple):
    """A page of a tree, None if it cannot be read, and the bounds of its rowids."""

    number: int
    page: BtreePage | None
    gap: Gap
    is_sound: bool


@dataclass(slots=True)
class TreeReader:
    """Reads what is left of b-trees, and notes what is not.

    `missing` are pages that no file holds, `unreadable` pages with other content, `mended` those
    whose type was told from their cells. `seen` are the pages that belong to a tree, `chains` the
    overflow pages of rows that were read. `gaps` has one gap for each page and each cell that
    cannot be read; `bad_rows` counts the cells, `bad_cells` has their offsets by page. With `mends`
    the pages may be damaged: rows are looked at more closely, and what is left of one is a row too.
    """

    view: StateView
    mends: bool = False
    seen: PageSet = field(default_factory=PageSet)
    chains: PageSet = field(default_factory=PageSet)
    missing: list[int] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    bad_cells: dict[int, list[int]] = field(default_factory=dict)
    bad_rows: int = 0
    _pointers: PointerMap | None = None

    def rows(self, root: int, *, has_rowid: bool | None = None) -> Iterator[StoredRow]:
        """Yield the rows of the tree at `root`, as far as its pages can be read."""
        for found in self.pages(root, has_rowid=has_rowid):
            yield from self.rows_in(found)

    def pages(self, root: int, *, has_rowid: bool | None = None) -> Iterator[TreePage]:
        """Yield the pages of the tree at `root`, also those that cannot be read, in key order.

        `has_rowid` says what kind of tree it is; None if that is not known.
        """
        levels: list[list[tuple[int, Gap]]] = [[(root, Gap(root))]]
        while levels:
            if not levels[-1]:
                levels.pop()
                continue
            number, gap = levels[-1].pop()
            if not self.seen.add(number):
                self.add_gap(gap)
                continue
            page, is_sound = self._page(number, has_rowid=has_rowid)
            if not is_sound:
                self.add_gap(gap)
            yield TreePage(number, page, gap, is_sound)
            if page is not None and not page.is_leaf and len(levels) <= _MAX_DEPTH:
                levels.append(self._children(page, gap)[::-1])

    def _children(self, page: BtreePage, gap: Gap) -> list[tuple[int, Gap]]:
        """Return the children of a page, each with the bounds of its rowids."""
        if page.kind != TABLE_INTERIOR:
            return [(number, Gap(number)) for number in page.children()]
        found = []
        above = gap.above
        for at, number in zip(page.cells, page.children(), strict=False):
            upto = interior_key(page, at)
            if upto is None or not above < upto <= gap.upto:
                upto = gap.upto  # the key is damaged: the child may have any row behind `above`
                found.append((number, Gap(number, above, upto)))
                continue
            found.append((number, Gap(number, above, upto)))
            above = upto
        return [*found, (page.right, Gap(page.right, above, gap.upto))]

    def add_gap(self, gap: Gap) -> None:
        """Remember a gap."""
        if len(self.gaps) < _MAX_GAPS:
            self.gaps.append(gap)

    def _page(self, number: int, *, has_rowid: bool | None) -> tuple[BtreePage | None, bool]:
        """Return a page and if it is sound; what is left of a damaged page has its good cells."""
        try:
            page: BtreePage | None = self.view.btree_page(number)
        except CorruptPageError:
            page = None
        if page is not None and not (self.mends and mistyped(self.view, page, has_rowid=has_rowid)):
            return page, True
        is_there = 1 <= number <= self.view.page_count and self._has_bytes(number)
        if not is_there:
            self.missing.append(number)
            return None, False
        mended, is_convincing = mend_page(self.view, number, has_rowid=has_rowid)
        (self.mended if is_convincing else self.unreadable).append(number)
        return mended, is_convincing

    def _has_bytes(self, number: int) -> bool:
        try:
            return any(self.view.page(number))
        except CorruptPageError:
            return False

    def rows_in(self, found: TreePage | BtreePage) -> Iterator[StoredRow]:
        """Yield the rows of one page, as far as they can be read."""
        page = found.page if isinstance(found, TreePage) else found
        gap = found.gap if isinstance(found, TreePage) else Gap(found.number)
        if page is None or page.kind == TABLE_INTERIOR:
            return
        for index in range(len(page.cells)):
            try:
                row = self.row(page, index)
            except (CorruptPageError, RecordError):
                self.bad_rows += 1
                self.add_gap(Gap(page.number, gap.above, gap.upto))
                self.bad_cells.setdefault(page.number, []).append(page.cells[index])
                continue
            if row.lost:
                self.bad_rows += 1
                self.add_gap(_gap_of(row))
            yield row

    def row(self, page: BtreePage, index: int) -> StoredRow:
        """Return a cell as a row. Raises `CorruptPageError` or `RecordError`."""
        cell, end = self.view.cell_and_end(page, index)
        if cell.size > _MAX_ROW:
            raise CorruptPageError(f"page {page.number} has a row larger than any that is stored")
        encoding = self.view.header.encoding
        if not self.mends:
            stored = decode_record(whole_payload(self.view, cell), encoding)
            return StoredRow(cell.rowid, stored, page.number)
        if self._is_whole(page, cell, end):
            if stored := decode_record(cell.local, encoding):
                return StoredRow(cell.rowid, stored, page.number)
            raise RecordError("the record has no values")
        remains = _Remains(self)
        remains.add_local(page, cell, end)
        remains.add_chain(page.number, cell)
        return remains.row(cell.rowid, page.number, cell.size, encoding)

    def _is_whole(self, page: BtreePage, cell: Cell, end: int) -> bool:
        """Return True if a row lies in its page alone, and in no sector that is lost."""
        if not 0 < len(cell.local) == cell.size:
            return False
        held = self.view.torn.get(page.number, len(page.data))
        return not any(lost_stretches(page.data, held, end - cell.size, end))

    def next_in_chain(self, number: int) -> int:
        """Return the page that follows an overflow page, by the pointer map; 0 if none says so."""
        if self._pointers is None:
            self._pointers = PointerMap(self.view)
        return self._pointers.after(number)


def _gap_of(row: StoredRow) -> Gap:
    """Return the gap that a row leaves of which bytes are lost."""
    if row.rowid is None or row.rowid == LEAST:
        return Gap(row.page)
    return Gap(row.page, row.rowid - 1, row.rowid)


def interior_key(page: BtreePage, at: int) -> int | None:
    """Return the rowid in a cell of an interior page; None if it is cut off."""
    try:
        key, _ = read_varint(page.data, at + 4)
    except IndexError:
        return None
    return key - (1 << 64) if key >> 63 else key


def whole_payload(view: DatabaseView, cell: Cell, seen: PageSet | None = None) -> bytes:
    """Return the payload of a cell; its last overflow page must say that it is the last.

    Raises `CorruptPageError`: a page that was overwritten rarely begins with four zero bytes.
    """
    content = bytearray(cell.local)
    last = 0
    for number, part in view.chain(cell, PageSet() if seen is None else seen):
        content += part
        last = number
    if last and any(view.page(last)[:4]):
        raise CorruptPageError(f"page {last} ends an overflow chain and names another page")
    return bytes(content)


class _Remains:
    """What is left of one row's payload: its bytes, and the stretches of it that are lost."""

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self._content = bytearray()
        self._lost: list[tuple[int, int]] = []
        self._doubtful: list[tuple[int, int]] = []  # the content of pages with a false link

    def add_local(self, page: BtreePage, cell: Cell, end: int) -> None:
        """Add what the row's own page holds."""
        begin = end - (4 if len(cell.local) < cell.size else 0) - len(cell.local)
        if begin < page.cells[0] and not cell.local:
            raise CorruptPageError(f"page {page.number} has an empty row")
        self._add(page.number, page.data, begin, cell.local)

    def _add(self, number: int, data: bytes, begin: int, part: bytes) -> None:
        """Add `part`, which lies at `begin` in page `number`."""
        shift = len(self._content) - begin
        self._content += part
        held = self._reader.view.torn.get(number, len(data))
        lost = lost_stretches(data, held, begin, begin + len(part))
        self._lost += [(start + shift, stop + shift) for start, stop in lost]

    def add_chain(self, page: int, cell: Cell) -> None:
        """Add what the overflow pages hold, up to the first that cannot be the next one."""
        view = self._reader.view
        number, before = cell.overflow, page
        seen: set[int] = set()
        while len(self._content) < cell.size:
            if not self._may_follow(number, seen):
                number = self._reader.next_in_chain(before)
            if not self._may_follow(number, seen):
                break
            seen.add(number)
            try:
                data = view.page(number)
            except CorruptPageError:
                break
            size = min(cell.size - len(self._content), view.usable - 4)
            begin = len(self._content)
            self._add(number, data, 4, data[4 : 4 + size])
            before, number = number, int.from_bytes(data[:4], "big")
            is_last = len(self._content) >= cell.size
            if number if is_last else not self._may_follow(number, seen):
                self._doubtful.append((begin, len(self._content)))
        if len(self._content) < cell.size:
            self._lost.append((len(self._content), cell.size))
        elif not self._doubtful and not self._lost:
            self._reader.chains.add_all(sorted(seen))

    def _may_follow(self, number: int, seen: set[int]) -> bool:
        reader = self._reader
        is_used = number in seen or number in reader.seen or number in reader.chains
        return 1 < number <= reader.view.page_count and not is_used

    def row(self, rowid: int | None, page: int, size: int, encoding: int) -> StoredRow:
        """Return the row. Raises `RecordError` if its record's header is lost."""
        content = bytes(self._content)
        if not self._may_be_true(content, encoding):
            self._lost += self._doubtful
        values: list[Value] = []
        lost: list[int] = []
        doubt = ""
        for serial, offset in record_fields(content):
            end = offset + serial_size(serial)
            if not values and _overlaps(self._lost, 0, offset):
                raise RecordError("the record's header is lost")
            gone = _cut(self._lost, offset, end)
            if end > size:
                raise RecordError("the record is cut off")
            is_blob = serial >= 12 and serial % 2 == 0
            if gone and is_blob and end <= len(content):
                doubt = (
                    doubt or "a BLOB has 512 zero bytes where a sector begins: it may be damaged"
                )
                gone = []
            value = None if gone else decode_value(serial, content[offset:end], encoding)
            if gone and serial >= 13 and not is_blob:
                value = _left_of_text(content, offset, end, gone, encoding)
            if not gone and _overlaps(self._doubtful, offset, end):
                doubt = "a page of it names a false next page: its bytes may be false"
            if gone:
                lost.append(len(values))
            values.append(value)
        if not values:
            raise RecordError("the record has no values")
        return StoredRow(rowid, values, page, tuple(lost), doubt, bool(self._doubtful))

    def _may_be_true(self, content: bytes, encoding: int) -> bool:
        """Return False if a doubtful page has a text that cannot be one: then it is garbage."""
        for serial, offset in record_fields(content) if self._doubtful else ():
            part = content[offset : offset + serial_size(serial)]
            is_doubtful = _overlaps(self._doubtful, offset, offset + len(part))
            if is_doubtful and serial >= 13 and serial % 2:
                text = decode_value(serial, part, encoding)
                if isinstance(text, str) and not is_text(text):
                    return False
        return True


def _overlaps(stretches: list[tuple[int, int]], start: int, end: int) -> bool:
    return any(begin < end and stop > start for begin, stop in stretches)


def _cut(stretches: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of the stretches between `start` and `end`."""
    return [(max(b, start), min(s, end)) for b, s in stretches if b < end and s > start]


def _left_of_text(
    content: bytes, start: int, end: int, gone: list[tuple[int, int]], encoding: int
) -> str | None:
    """Return a text with U+FFFD for each lost stretch; None if nothing is left of it."""
    width = 1 if encoding == 1 else 2
    name = ("utf-8", "utf-16-le", "utf-16-be")[encoding - 1 if 1 <= encoding <= 3 else 0]
    pieces: list[str] = []
    at = start
    for begin, stop in [*gone, (end, end)]:
        begin -= (begin - start) % width  # noqa: PLW2901  # a piece ends with a whole code unit
        pieces.append(content[at:begin].decode(name, "ignore"))
        at = stop + (stop - start) % width
    text = _LOST_TEXT.join(pieces)
    return None if text == _LOST_TEXT * len(gone) else text


def is_text(value: str) -> bool:
    """Return True for text that its encoding can hold."""
    return "\ufffd" not in value and not any(0xD800 <= ord(char) <= 0xDFFF for char in value)
