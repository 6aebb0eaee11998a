"""The pages of a main file beside their versions in a log: the cells that each version lacks.

A log of many small changes repeats most cells of the pages that it has. Only the others are worth
reading as rows.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.recovery.states import main_alone
from modelstore.wal.format import DatabaseHeaderError
from modelstore.wal.pages import TABLE_LEAF, CorruptPageError, PageSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.recovery.states import State, StateView
    from modelstore.wal.pages import BtreePage, DatabaseView


@dataclass(slots=True)
class Comparison:
    """A main file compared with a state.

    `gone` has the compared pages; of each the cells, by index, that the state lacks. `same_keys`
    are the leaves that have the same rowids in both.
    """

    gone: dict[int, Sequence[int]] = field(default_factory=dict)
    same_keys: PageSet = field(default_factory=PageSet)

    def add(self, view: StateView, now: StateView, number: int) -> None:
        """Compare a page of the main file with that of the state."""
        page, other = view.btree_page(number), now.btree_page(number)
        gone, new = differing_cells(view, page, other)
        self.gone[number] = gone
        if page.kind == other.kind == TABLE_LEAF:
            before = {view.rowid(page, index) for index in gone}
            if before == {now.rowid(other, index) for index in new}:
                self.same_keys.add(number)


def compare(state: State) -> Comparison:
    """Compare the pages of the main file that the log has; those that can be read."""
    found = Comparison()
    main = main_alone(state.pair)
    with suppress(CorruptPageError, DatabaseHeaderError):
        if main is not None:
            view, now = main.view(), state.view()
            for number in state.frames:
                with suppress(CorruptPageError):
                    found.add(view, now, number)
    return found


def differing_cells(
    view: DatabaseView, page: BtreePage, other: BtreePage
) -> tuple[Sequence[int], Sequence[int]]:
    """Return the cells of two versions of a page, by index, that the other version lacks.

    One version must be sound; `view` has the page size of both. A row with overflow pages may
    differ in these alone: it is among the cells, even if the cell itself is in both.
    """
    if page.kind != other.kind:
        return range(len(page.cells)), range(len(other.cells))
    mine, theirs = stretches(page), stretches(other)
    here = {mine[part] for part in mine.keys() - theirs.keys()}
    there = {theirs[part] for part in theirs.keys() - mine.keys()}
    for at in here & there:
        if _is_same(view, page, other, at):
            here.remove(at)
            there.remove(at)
    if max(map(len, mine), default=0) >= view.min_local:
        for part in mine.keys() & theirs.keys():
            if len(part) >= view.min_local and _has_chain(view, page, mine[part]):
                here.add(mine[part])
                there.add(theirs[part])
    return _indexes(page, here), _indexes(other, there)


def stretches(page: BtreePage) -> dict[bytes, int]:
    """Return the bytes from each cell to the next one in the page, with the cell's offset.

    Equal stretches of sound pages begin with equal cells.
    """
    starts = sorted(page.cells)
    parts = map(page.data.__getitem__, map(slice, starts, [*starts[1:], len(page.data)]))
    return dict(zip(parts, starts, strict=False))


def _is_same(view: DatabaseView, page: BtreePage, other: BtreePage, at: int) -> bool:
    """Return True if two pages have the same cell at an offset, and other free bytes behind it."""
    try:
        cell, end = view.cell_and_end(page, page.cells.index(at))
    except CorruptPageError:
        return False
    return len(cell.local) == cell.size and other.data.startswith(page.data[at:end], at)


def _has_chain(view: DatabaseView, page: BtreePage, at: int) -> bool:
    try:
        cell = view.cell(page, page.cells.index(at))
    except CorruptPageError:
        return False
    return len(cell.local) < cell.size


def _indexes(page: BtreePage, offsets: set[int]) -> Sequence[int]:
    """Return the indexes of the cells at these offsets, ascending."""
    return tuple(sorted(map(page.cells.index, offsets)))
