"""Signs of damage in a page, and what a damaged page still tells of itself.

A lost sector of a disk reads as 512 zero bytes. A page with a wrong type shows its type by its
cells. In a database with auto_vacuum, pointer-map pages say to which tree or chain a page belongs:
https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from modelstore.wal.format import DATABASE_HEADER_SIZE, PENDING_BYTE
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    BtreePage,
    CorruptPageError,
)
from modelstore.wal.record import RecordError, read_varint, record_fields, serial_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.recovery.states import StateView

SECTOR = 512  # bytes
_ZEROS = bytes(SECTOR)
_LEAVES = (TABLE_LEAF, INDEX_LEAF)
_INTERIORS = (TABLE_INTERIOR, INDEX_INTERIOR)
_KINDS = {True: (TABLE_LEAF, TABLE_INTERIOR), False: (INDEX_LEAF, INDEX_INTERIOR)}
_ROOT, _FREE, _FIRST_OVERFLOW, _OVERFLOW, _CHILD = 1, 2, 3, 4, 5  # types in a pointer map
_MAX_CLIMB = 20


def lost_stretches(data: bytes, held: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a page between `start` and `end` that lie in sectors of zeros.

    What lies behind the first `held` bytes is lost too: the file ends there.
    """
    for at in range(start // SECTOR * SECTOR, min(end, held), SECTOR):
        if data.startswith(_ZEROS, at):
            yield max(at, start), min(at + SECTOR, end)
    if end > held:
        yield max(held, start), end


# -- the type of a page ----------------------------------------------------------------------------


def mistyped(view: StateView, page: BtreePage, *, has_rowid: bool | None) -> bool:
    """Return True if a page that can be parsed is of another type than its byte says."""
    if has_rowid is not None and page.kind not in _KINDS[has_rowid]:
        return True
    if not page.cells:
        return False
    if page.is_leaf:
        return not any(_is_record(view, page, index) for index in range(len(page.cells)))
    return not all(1 < child <= view.page_count for child in page.children())


def mend_page(
    view: StateView, number: int, *, has_rowid: bool | None
) -> tuple[BtreePage | None, bool]:
    """Return what a damaged page is likely to be, and if all of its cells agree with that.

    Takes the type in the page if it is possible, and the cell pointers that can be true.
    """
    kinds: tuple[int, ...] = (*_LEAVES, *_INTERIORS)
    if has_rowid is not None:
        kinds = _KINDS[has_rowid]
    data = view.page(number)
    for kind in kinds:
        page, is_all = _as_kind(view, number, kind)
        if page.cells and is_all and _is_convincing(view, page):
            return page, True
    kind = data[DATABASE_HEADER_SIZE if number == 1 else 0]
    if kind not in kinds:
        return None, False
    page, _ = _as_kind(view, number, kind)
    return page, False


def _as_kind(view: StateView, number: int, kind: int) -> tuple[BtreePage, bool]:
    """Return a page read as one of `kind`, and if all of its cell pointers can be true.

    If it counts more cells than can be, its pointers end at the first that is not true.
    """
    data, usable = view.page(number), view.usable
    start = DATABASE_HEADER_SIZE if number == 1 else 0
    begin = start + (8 if kind in _LEAVES else 12)
    count = int.from_bytes(data[start + 3 : start + 5], "big")
    is_possible = count <= (usable - 8) // 6
    cells: dict[int, None] = {}
    is_all = is_possible
    for place in range(begin, min(begin + 2 * count, usable - 2), 2):
        at = int.from_bytes(data[place : place + 2], "big")
        if max(place + 2, begin + 2 * count * is_possible) <= at <= usable - 4 and at not in cells:
            cells[at] = None
        elif is_possible:
            is_all = False
        else:
            break
    right = 0 if kind in _LEAVES else int.from_bytes(data[start + 8 : start + 12], "big")
    page = BtreePage(number, kind, data, tuple(cells), right)
    if is_all or kind not in _LEAVES:
        return page, is_all
    return replace(page, cells=_apart(view, page, stops=not is_possible)), False


def _apart(view: StateView, page: BtreePage, *, stops: bool) -> tuple[int, ...]:
    """Return the cells that no cell before them overlaps, with ascending rowids.

    With `stops`, the first other one ends them: behind the last pointer lie former ones.
    """
    kept: list[int] = []
    taken: list[tuple[int, int]] = []
    last: int | None = None
    for index, at in enumerate(page.cells):
        try:
            cell, end = view.cell_and_end(page, index)
        except CorruptPageError:
            is_good = False
        else:
            is_apart = all(end <= begin or stop <= at for begin, stop in taken)
            is_good = is_apart and (last is None or cell.rowid is None or cell.rowid > last)
        if is_good:
            kept.append(at)
            taken.append((at, end))
            last = cell.rowid
        elif stops:
            break
    return tuple(kept)


def _is_convincing(view: StateView, page: BtreePage) -> bool:
    """Return True if every cell of a page is what its type says."""
    if page.kind in _INTERIORS:
        children = page.children()
        if len(set(children)) < len(children) or not all(
            1 < child <= view.page_count for child in children
        ):
            return False
    if page.kind == TABLE_INTERIOR:
        return _ascends(page)
    return all(_is_record(view, page, index) for index in range(len(page.cells)))


def _ascends(page: BtreePage) -> bool:
    try:
        keys = [read_varint(page.data, at + 4)[0] for at in page.cells]
    except IndexError:
        return False
    signed = [key - (1 << 64) if key >> 63 else key for key in keys]
    return all(a < b for a, b in pairwise(signed))


def _is_record(view: StateView, page: BtreePage, index: int) -> bool:
    """Return True if a cell's size is that of its record; a long header is given the benefit."""
    try:
        cell = view.cell(page, index)
        size, _ = read_varint(cell.local, 0)
        if size > len(cell.local):
            return len(cell.local) < cell.size
        if size < 2:
            return False
        total = size
        for serial, _ in record_fields(cell.local):
            total += serial_size(serial)
    except (CorruptPageError, RecordError, IndexError):
        return False
    return total == cell.size


# -- pointer maps ----------------------------------------------------------------------------------


class PointerMap:
    """The pointer map of a database with auto_vacuum; empty for another."""

    def __init__(self, view: StateView) -> None:
        self._view = view
        self._each = view.usable // 5  # entries in one page of the map
        self._after: dict[int, int] | None = None
        self.exists = view.header.largest_root != 0

    def parent(self, number: int) -> tuple[int, int]:
        """Return type and parent that the map gives for a page; zeros if it gives none."""
        if not self.exists or number < 3:
            return 0, 0
        first = (number - 2) // (self._each + 1) * (self._each + 1) + 2
        if first == PENDING_BYTE // self._view.page_size + 1:
            first += 1
        at = 5 * (number - first - 1)
        if not 0 <= at <= self._view.usable - 5:
            return 0, 0
        try:
            entry = self._view.page(first)[at : at + 5]
        except CorruptPageError:
            return 0, 0
        return entry[0], int.from_bytes(entry[1:], "big")

    def after(self, number: int) -> int:
        """Return the overflow page that the map puts behind page `number`; 0 if there is none."""
        if not self.exists:
            return 0
        if self._after is None:
            self._after = {}
            for page in range(3, self._view.page_count + 1):
                kind, parent = self.parent(page)
                if kind == _OVERFLOW:
                    self._after[parent] = page
        return self._after.get(number, 0)

    def root(self, number: int) -> int:
        """Return the root of the tree that the map puts page `number` into; 0 if unknown."""
        for _ in range(_MAX_CLIMB):
            kind, parent = self.parent(number)
            if kind == _ROOT:
                return number
            if kind != _CHILD:
                return 0
            number = parent
        return 0

    def is_free(self, number: int) -> bool:
        """Return True if the map says that a page is on the freelist."""
        return self.parent(number)[0] == _FREE
