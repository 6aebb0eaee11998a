"""Whether a database, seen through a log, is one database.

Two databases are each sound in themselves. Where the log of one lies over the file of the other,
what one names meets what the other has there: that is looked at, and little else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.errors import ModelstoreError
from modelstore.text import visible
from modelstore.wal.lists import freelist
from modelstore.wal.overlay import PageSet
from modelstore.wal.pages import INDEX_INTERIOR, INDEX_LEAF, TABLE_LEAF, Tree, View
from modelstore.wal.schema import read_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.wal.overlay import LogPages
    from modelstore.wal.schema import SchemaObject

_MAX_READS = 3_000  # pages, most of them interior ones: of a table of 3 to 5 GB
_MAX_LEAVES = 500  # of one b-tree


class _EnoughError(Exception):
    """As much was read as a look may cost."""


class BoundedView(View):
    """A view that ends the look of `misfit` once it has cost enough."""

    def page(self, number: int) -> bytes:
        """Return the bytes of page `number`."""
        if self.reads >= _MAX_READS:
            raise _EnoughError
        return super().page(number)


def misfit(open_view: Callable[[], BoundedView], pages: LogPages) -> str | None:
    """Return the first thing found wrong with the database that `open_view` returns.

    Its schema, the first page of what that names, the shape of the b-trees, the freelist and the
    order of the rows where `pages` meet others; None too where nothing was found in 3,000 pages.
    """
    seen = PageSet()
    try:
        view = open_view()
        objects = [item for item in read_schema(view).values() if item.root]
        for item in sorted(objects, key=lambda item: item.root not in pages):
            _check_root(view, item)
            tree = view.tree(item.root, seen)
            _check_leaves(view, tree, pages)
        for trunk, leaves in freelist(view):
            for number in (trunk, *leaves):
                if not seen.add(number):
                    return f"page {number} is part of a b-tree and of the freelist"
    except ModelstoreError as error:
        return error.message
    except _EnoughError:
        pass
    return None


def _check_root(view: View, item: SchemaObject) -> None:
    is_index = view.btree_page(item.root).kind in (INDEX_INTERIOR, INDEX_LEAF)
    must_be_index = item.type == "index"
    may_be_index = must_be_index or "ROWID" in item.sql.upper()  # WITHOUT ROWID
    if is_index > may_be_index or is_index < must_be_index:
        name = visible(item.name, 100)
        raise view.corrupt(f"page {item.root} cannot be the first of {item.type} {name}")


def _check_leaves(view: View, tree: Tree, pages: LogPages) -> None:
    """Look at kind and order of the leaves where one of the log is beside one of the file."""
    last = None
    met = list(_meeting(view, tree, pages))
    for number in met[:: len(met) // _MAX_LEAVES + 1]:
        kind = TABLE_LEAF if tree.has_rowids else INDEX_LEAF
        page = view.tree_page(number, kind, tree.root)
        if tree.has_rowids and page.cells:
            if last is not None and view.rowid(page, 0) <= last:
                raise view.corrupt(f"page {number} has rowids out of order")
            last = view.rowid(page, len(page.cells) - 1)


def _meeting(view: View, tree: Tree, pages: LogPages) -> Iterator[int]:
    """Yield, in the order of their keys, leaves beside or below a page of another origin."""
    below = PageSet()
    for number in filter(pages.contains, tree.interiors):
        below.add_all(view.btree_page(number).children())
    before = None
    for place, number in enumerate(tree.leaves):
        in_log = number in pages
        after = tree.leaves[min(place + 1, len(tree.leaves) - 1)]
        is_below = number != tree.root and in_log != (number in below)
        if is_below or before not in (None, in_log) or (after in pages) != in_log:
            yield number
        before = in_log
