"""Owners of the pages in a log: the table, index, freelist or pointer map of each page.

Reads interior pages, and the pages in the log. Finds an overflow page whose row is not in the log
through the pointer map of an auto-vacuum database, else by reading rows within a budget.
"""

from __future__ import annotations

import struct
from array import array
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from modelstore.wal.format import PENDING_BYTE
from modelstore.wal.freelist import freelist
from modelstore.wal.pages import (
    BtreePage,
    CorruptPageError,
    DatabaseView,
    PageSet,
    PageVersions,
    Tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.wal.schema import SchemaObject

# Types in a pointer map; 2 is a page of the freelist.
# https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages
ROOT, FIRST_OVERFLOW, LATER_OVERFLOW, BTREE = 1, 3, 4, 5
_ENTRY = struct.Struct(">BI")


def pointer_map_page(view: DatabaseView, number: int) -> int:
    """Return the pointer-map page with the entry of page `number`; 0 if there is none."""
    if not view.header.largest_root or number < 2:
        return 0
    span = view.usable // 5 + 1
    page = (number - 2) // span * span + 2
    return page + 1 if page == PENDING_BYTE // view.page_size + 1 else page


def pointer_map_entry(view: DatabaseView, number: int) -> tuple[int, int]:
    """Return type and parent of page `number` from the pointer map; 0, 0 without an entry."""
    map_page = pointer_map_page(view, number)
    at = _ENTRY.size * (number - map_page - 1)
    if map_page == 0 or not 0 <= at <= view.usable - _ENTRY.size:
        return 0, 0
    kind, page = _ENTRY.unpack_from(view.page(map_page), at)
    return kind, page


_OF_NOBODY = -1


class PageRole(IntEnum):
    """The role of a page; reports use the name in lower case."""

    UNKNOWN = 0
    LEAF = 1
    INTERIOR = 2
    OVERFLOW = 3
    TRUNK = 4  # of the freelist
    FREE = 5
    POINTER_MAP = 6
    BEYOND = 7  # after the end of the database

    @property
    def text(self) -> str:
        """The word in reports."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class PageOwner:
    """The owner of a page: an object of the schema, or None, and the page's role in it."""

    object: SchemaObject | None
    role: PageRole


class ReadBudget:
    """The number of pages to read beyond the log and the interior pages; None is no limit."""

    def __init__(self, limit: int | None) -> None:
        self._left = limit

    def spend(self) -> bool:
        """Spend one page; return False if none is left."""
        if self._left is not None:
            if self._left <= 0:
                return False
            self._left -= 1
        return True


class PageOwners:
    """The owners of the pages in `log`, found in `view`, the database with its log.

    `differing` are the pages whose newest version the main file lacks. `find` collects in
    `pages_with_changed_overflow` the pages whose rows differ from the main file in an overflow page
    alone, and counts in `remaining` the pages without an owner. `unlike_trees` are the pages that
    do not begin like b-tree pages: most of them are overflow pages.
    """

    def __init__(
        self,
        view: DatabaseView,
        log: PageVersions,
        objects: Iterable[SchemaObject],
        differing: PageSet,
        unlike_trees: PageSet,
    ) -> None:
        self.view = view
        self.log = log
        self.objects = [item for item in objects if item.root > 0]
        self.pages_with_changed_overflow = PageSet()
        self.remaining = len(log)
        self.differing = differing
        self._unlike_trees = unlike_trees
        self._chained_left = sum(map(unlike_trees.__contains__, log))
        self._owners = array("i", [_OF_NOBODY]) * len(log)
        self._roles = bytearray(len(log))
        self._trees: dict[int, Tree] = {}
        self._broken: dict[int, str] = {}

    # -- answers ---------------------------------------------------------------------------------

    def place_and_role(self, index: int) -> tuple[int | None, PageRole]:
        """Return the owner (its index in `objects`) and the role of the log's page at `index`."""
        owner = self._owners[index]
        return None if owner == _OF_NOBODY else owner, PageRole(self._roles[index])

    def owner(self, number: int) -> PageOwner | None:
        """Return the owner of page `number`; None if the page is not in the log."""
        if number not in self.log:
            return None
        place, role = self.place_and_role(self.log.index(number))
        return PageOwner(None if place is None else self.objects[place], role)

    def owners_of_differing(self) -> set[int]:
        """Return the indexes in `objects` of the owners of pages that the main file lacks."""
        return {
            self._owners[index]
            for index, number in enumerate(self.log)
            if number in self.differing and self._owners[index] != _OF_NOBODY
        }

    @property
    def chains_differ(self) -> bool:
        """True if an overflow page, or a page of unknown role, differs from the main file."""
        suspects = (PageRole.OVERFLOW, PageRole.UNKNOWN)
        return any(
            self._roles[index] in suspects and number in self.differing
            for index, number in enumerate(self.log)
        )

    def is_broken(self, place: int) -> bool:
        """Return True if the pages of the object at `place` are corrupt."""
        return place in self._broken

    def tree(self, place: int) -> Tree:
        """Return the b-tree of the object at `place`; raise `CorruptPageError` if it is broken."""
        if place in self._broken:
            raise CorruptPageError(self._broken[place])
        return self._trees.get(place) or self.view.tree(self.objects[place].root, PageSet())

    # -- the search ------------------------------------------------------------------------------

    def find(self, budget: ReadBudget) -> None:
        """Find the owners, cheapest first, and stop as soon as every page has one."""
        self._claim_by_number()
        with suppress(CorruptPageError):  # the view keeps the reason; the trees may be sound
            self._claim_freelist()
        seen = PageSet()
        places = range(len(self.objects))
        for place in sorted(places, key=lambda at: self.objects[at].root not in self.log):
            if not self.remaining:
                return
            self._claim_tree(place, seen)
        if self.remaining and self.view.header.largest_root:
            self._claim_by_pointer_map()
        for place in tuple(self._trees) if self.remaining else ():
            self._claim_chains(place, budget, in_log=True)
        for place in places if self.remaining else ():
            self._claim_chains(place, budget, in_log=False)

    def _claim(self, number: int, place: int, role: PageRole) -> bool:
        """Record the owner of page `number`; return False if the page is not in the log."""
        if number not in self.log:
            return False
        index = self.log.index(number)
        if self._roles[index] == PageRole.UNKNOWN:
            self._owners[index] = place
            self._roles[index] = role
            self.remaining -= 1
            self._chained_left -= number in self._unlike_trees
        return True

    def _claim_by_number(self) -> None:
        for number in self.log:
            if number > self.view.page_count:
                self._claim(number, _OF_NOBODY, PageRole.BEYOND)
            elif pointer_map_page(self.view, number) == number:
                self._claim(number, _OF_NOBODY, PageRole.POINTER_MAP)

    def _claim_freelist(self) -> None:
        for trunk, leaves in freelist(self.view):
            self._claim(trunk, _OF_NOBODY, PageRole.TRUNK)
            for leaf in filter(self.log.contains, leaves):
                self._claim(leaf, _OF_NOBODY, PageRole.FREE)

    def _claim_tree(self, place: int, seen: PageSet) -> None:
        """Claim the pages of a b-tree, and the new overflow pages of its rows in the log."""
        item = self.objects[place]
        before = self.remaining
        try:
            tree = self.view.tree(item.root, seen)
            for number in filter(self.log.contains, tree.interiors):
                self._claim(number, place, PageRole.INTERIOR)
            for number in filter(self.log.contains, tree.leaves):
                self._claim(number, place, PageRole.LEAF)
            if self.remaining == before:
                return
            self._trees[place] = tree
            self._claim_new_chains(place, tree)
        except CorruptPageError as error:
            self._broken[place] = error.message

    def _claim_new_chains(self, place: int, tree: Tree) -> None:
        """Claim the overflow pages of new rows: the log holds their whole chains."""
        chains = PageSet()
        for page in self._pages(tree, in_log=True) if self._chained_left else ():
            for cell in self.view.cells(page):
                if cell.overflow not in self.log:
                    continue
                for number, _ in self.view.chain(cell, chains):
                    if not self._claim(number, place, PageRole.OVERFLOW):
                        break
                    self._note_changed_overflow(page.number, number)
            if not self._chained_left:
                return

    def _pages(self, tree: Tree, *, in_log: bool) -> Iterator[BtreePage]:
        """Yield the pages of a b-tree that hold payload: those in the log, or the others."""
        for number in (*(() if tree.has_rowids else tree.interiors), *tree.leaves):
            if (number in self.log) == in_log:
                yield self.view.btree_page(number)

    def _claim_chains(self, place: int, budget: ReadBudget, *, in_log: bool) -> None:
        """Follow the overflow chains of an object from its pages in the log, or from the others."""
        chains = PageSet()
        try:
            for page in self._pages(self.tree(place), in_log=in_log):
                if not in_log and not budget.spend():
                    return
                for cell in self.view.cells(page):
                    for number, _ in self.view.chain(cell, chains):
                        if self._claim(number, place, PageRole.OVERFLOW):
                            self._note_changed_overflow(page.number, number)
                        elif not budget.spend():
                            return
                    if not self.remaining:
                        return
        except CorruptPageError as error:
            self._broken[place] = error.message

    def _note_changed_overflow(self, page: int, overflow: int) -> None:
        if overflow in self.differing and page not in self.differing:
            self.pages_with_changed_overflow.add(page)

    def _claim_by_pointer_map(self) -> None:
        """Climb from each page without an owner to the root of its b-tree."""
        roots = {item.root: place for place, item in enumerate(self.objects)}
        hops = 2 * self.view.page_count + 1000  # in all: each page of a chain climbs it
        for index, number in enumerate(self.log):
            if self._roles[index] != PageRole.UNKNOWN:
                continue
            at, holder = number, 0
            with suppress(CorruptPageError):
                kind, above = pointer_map_entry(self.view, at)
                while kind in (FIRST_OVERFLOW, LATER_OVERFLOW, BTREE) and hops:
                    hops -= 1
                    holder = above if kind == FIRST_OVERFLOW else holder
                    at = above
                    kind, above = pointer_map_entry(self.view, at)
                if kind == ROOT and holder and at in roots:
                    self._claim(number, roots[at], PageRole.OVERFLOW)
                    self._note_changed_overflow(holder, number)
