"""Which table, index or list each page of a log belongs to.

Only interior pages are read to learn it, and the pages that are in the log anyway. An overflow
page whose row is elsewhere is found through the pointer map of an auto-vacuum database, else by
reading rows, as far as the budget goes.
"""

from __future__ import annotations

import struct
from array import array
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

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

    from modelstore.wal.pages import DatabaseView
    from modelstore.wal.schema import SchemaObject

# Types of pages in a pointer map; 2 is a page of the freelist.
ROOT, FIRST_OVERFLOW, LATER_OVERFLOW, BTREE = 1, 3, 4, 5
_PENDING_BYTE = 0x40000000  # the page with this byte is for locks and never holds content
_ENTRY = struct.Struct(">BI")


def freelist(view: DatabaseView) -> Iterator[tuple[int, list[int]]]:
    """Yield each trunk page of the freelist with the leaf pages that it lists."""
    seen = PageSet()
    number = view.header.freelist_trunk
    while number:
        data = view.page(number)
        following, count = struct.unpack_from(">II", data)
        if count > view.usable // 4 - 2:
            raise view.corrupt(f"freelist page {number} cannot list {count} pages")
        if not seen.add(number):
            raise view.corrupt(f"the freelist comes back to page {number}")
        yield number, list(struct.unpack_from(f">{count}I", data, 8))
        number = following


def pointer_map_page(view: DatabaseView, number: int) -> int:
    """Return the pointer-map page that has the entry of page `number`; 0 if there is none."""
    if not view.header.largest_root or number < 2:
        return 0
    span = view.usable // 5 + 1
    page = (number - 2) // span * span + 2
    return page + 1 if page == _PENDING_BYTE // view.page_size + 1 else page


def pointer_map_entry(view: DatabaseView, number: int) -> tuple[int, int]:
    """Return type and parent of page `number`, as its pointer map has it; 0, 0 if it has none."""
    map_page = pointer_map_page(view, number)
    at = _ENTRY.size * (number - map_page - 1)
    if map_page == 0 or not 0 <= at <= view.usable - _ENTRY.size:
        return 0, 0
    kind, page = _ENTRY.unpack_from(view.page(map_page), at)
    return kind, page


_OF_NOBODY = -1


class PageRole(IntEnum):
    """What a page is for. The name in lower case is what reports use."""

    UNKNOWN = 0
    LEAF = 1
    INTERIOR = 2
    OVERFLOW = 3
    TRUNK = 4  # of the freelist
    FREE = 5
    POINTER_MAP = 6
    BEYOND = 7  # the database ends before it

    @property
    def text(self) -> str:
        """The word that reports use."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class PageOwner:
    """What a page belongs to: an object of the schema, or None, and its role there."""

    object: SchemaObject | None
    role: PageRole


class ReadBudget:
    """How many pages may be read beyond those in the log and the interior ones; None: any."""

    def __init__(self, limit: int | None) -> None:
        self._left = limit

    def spend(self) -> bool:
        """Take one page; return False where there is none left."""
        if self._left is not None:
            if self._left <= 0:
                return False
            self._left -= 1
        return True


class PageOwners:
    """The owners of the pages in `log`, as `view`, the database with its log, has them.

    `differing` are the pages whose newest version is not in the main file.
    `pages_with_changed_overflow` collects
    the pages with rows that differ from the main file in nothing but an overflow page. The pages
    `unlike_trees` do not begin as those of b-trees do: overflow pages are most likely among them.
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
        """Return the owner of the page at `index` of the log's pages: its place in `objects`."""
        owner = self._owners[index]
        return None if owner == _OF_NOBODY else owner, PageRole(self._roles[index])

    def owner(self, number: int) -> PageOwner | None:
        """Return the owner of page `number`, None if it is not in the log."""
        if number not in self.log:
            return None
        place, role = self.place_and_role(self.log.index(number))
        return PageOwner(None if place is None else self.objects[place], role)

    def owners_of_differing(self) -> set[int]:
        """Return the places in `objects` of those that own a page the main file does not have."""
        return {
            self._owners[index]
            for index, number in enumerate(self.log)
            if number in self.differing and self._owners[index] != _OF_NOBODY
        }

    @property
    def chains_differ(self) -> bool:
        """Whether an overflow page, or one that may be one, differs from the main file."""
        suspects = (PageRole.OVERFLOW, PageRole.UNKNOWN)
        return any(
            self._roles[index] in suspects and number in self.differing
            for index, number in enumerate(self.log)
        )

    def is_broken(self, place: int) -> bool:
        """Return whether the pages of the object at `place` are corrupt."""
        return place in self._broken

    def tree(self, place: int) -> Tree:
        """Return the b-tree of the object at `place`; raise `CorruptPageError` if it is broken."""
        if place in self._broken:
            raise CorruptPageError(self._broken[place])
        return self._trees.get(place) or self.view.tree(self.objects[place].root, PageSet())

    # -- the work --------------------------------------------------------------------------------

    def attribute(self, budget: ReadBudget) -> None:
        """Find the owners, cheapest first, and stop as soon as every page has one."""
        self._attribute_by_number()
        with suppress(CorruptPageError):  # the view keeps the reason; the rest can still be told
            self._attribute_freelist()
        seen = PageSet()
        places = range(len(self.objects))
        for place in sorted(places, key=lambda at: self.objects[at].root not in self.log):
            if not self.remaining:
                return
            self._attribute_tree(place, seen)
        if self.remaining and self.view.header.largest_root:
            self._attribute_by_pointer_map()
        for place in tuple(self._trees) if self.remaining else ():
            self._attribute_chains(place, budget, in_log=True)
        for place in places if self.remaining else ():
            self._attribute_chains(place, budget, in_log=False)

    def _claim(self, number: int, place: int, role: PageRole) -> bool:
        """Give page `number` its owner; return whether it is in the log."""
        if number not in self.log:
            return False
        index = self.log.index(number)
        if self._roles[index] == PageRole.UNKNOWN:
            self._owners[index] = place
            self._roles[index] = role
            self.remaining -= 1
            self._chained_left -= number in self._unlike_trees
        return True

    def _attribute_by_number(self) -> None:
        for number in self.log:
            if number > self.view.page_count:
                self._claim(number, _OF_NOBODY, PageRole.BEYOND)
            elif pointer_map_page(self.view, number) == number:
                self._claim(number, _OF_NOBODY, PageRole.POINTER_MAP)

    def _attribute_freelist(self) -> None:
        for trunk, leaves in freelist(self.view):
            self._claim(trunk, _OF_NOBODY, PageRole.TRUNK)
            for leaf in leaves:
                self._claim(leaf, _OF_NOBODY, PageRole.FREE)

    def _attribute_tree(self, place: int, seen: PageSet) -> None:
        """Claim the pages of a b-tree, and the new overflow pages of its pages in the log."""
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
            self._attribute_new_chains(place, tree)
        except CorruptPageError as error:
            self._broken[place] = error.message

    def _attribute_new_chains(self, place: int, tree: Tree) -> None:
        """Claim the overflow pages of new rows, whose chains are in the log as a whole."""
        chains = PageSet()
        for page in self._pages(tree, in_log=True) if self._chained_left else ():
            for cell in self.view.cells(page):
                if cell.overflow not in self.log:
                    continue
                for number, _ in self.view.chain(cell, chains):
                    if not self._claim(number, place, PageRole.OVERFLOW):
                        break
                    self._stir(page.number, number)
            if not self._chained_left:
                return

    def _pages(self, tree: Tree, *, in_log: bool) -> Iterator[BtreePage]:
        """Yield the pages of a b-tree that have cells with payload, in the log or else not."""
        for number in (*(() if tree.has_rowids else tree.interiors), *tree.leaves):
            if (number in self.log) == in_log:
                yield self.view.btree_page(number)

    def _attribute_chains(self, place: int, budget: ReadBudget, *, in_log: bool) -> None:
        """Follow every overflow chain of an object, from its pages in the log or its others."""
        chains = PageSet()
        try:
            for page in self._pages(self.tree(place), in_log=in_log):
                if not in_log and not budget.spend():
                    return
                for cell in self.view.cells(page):
                    for number, _ in self.view.chain(cell, chains):
                        if self._claim(number, place, PageRole.OVERFLOW):
                            self._stir(page.number, number)
                        elif not budget.spend():
                            return
                    if not self.remaining:
                        return
        except CorruptPageError as error:
            self._broken[place] = error.message

    def _stir(self, page: int, overflow: int) -> None:
        if overflow in self.differing and page not in self.differing:
            self.pages_with_changed_overflow.add(page)

    def _attribute_by_pointer_map(self) -> None:
        """Climb from each page without an owner to the root of its b-tree."""
        roots = {item.root: place for place, item in enumerate(self.objects)}
        hops = 2 * self.view.page_count + 1000  # a chain is climbed from each of its pages
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
                    self._stir(holder, number)
