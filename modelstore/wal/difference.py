"""Difference between two views of a database: the database with its log, and the main file alone.

Pairs the tables of both views; `row_difference` compares their rows. Pages that both views share
are never read.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from itertools import filterfalse
from typing import TYPE_CHECKING

from modelstore.text import ascii_lower
from modelstore.wal.loss_report import Fate, RowSet, SchemaChange, TableLoss
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    CorruptPageError,
    DatabaseView,
    PageSet,
    Tree,
)
from modelstore.wal.row_difference import RowDifference, compare_rows
from modelstore.wal.rows import RowSample, TableView
from modelstore.wal.schema import SCHEMA_TABLE, Schema, SchemaObject
from modelstore.wal.schema_columns import has_other_alias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.page_owners import PageOwners, ReadBudget


def schema_changes(live: Schema, main: Schema) -> Iterator[SchemaChange]:
    """Yield the objects that would vanish, return, or revert to older SQL, by type and name."""
    own = "table", SCHEMA_TABLE
    for key in sorted(key for key in {**live, **main} if key != own):
        ours, theirs = live.get(key), main.get(key)
        if theirs is None and ours is not None:
            yield SchemaChange(ours.type, ours.name, Fate.VANISHES)
        elif ours is None and theirs is not None:
            yield SchemaChange(theirs.type, theirs.name, Fate.RETURNS)
        elif ours and theirs and _definition(ours) != _definition(theirs):
            yield SchemaChange(ours.type, ours.name, Fate.REVERTS)


def _definition(item: SchemaObject) -> tuple[str, str]:
    """Return the SQL, and the name of the table in lower case as SQLite compares names."""
    return item.sql, ascii_lower(item.table)


def check_indexes(owners: PageOwners, main: DatabaseView, main_schema: Schema) -> None:
    """Read the indexes of the main file where the log changes them; keep a fault in the view.

    A checkpoint that was cut short may have written an index in part, or the schema without it.
    SQLite calls that malformed also where no row differs.
    """
    touched = {owners.objects[place].key for place in owners.owners_of_differing()}
    roots = {item.key: item.root for item in owners.objects}
    seen, chains = PageSet(), PageSet()
    with suppress(CorruptPageError):  # the view keeps the reason
        for item in main_schema.values():
            is_index = item.type == "index" and item.root > 0
            if is_index and (item.key in touched or roots.get(item.key) != item.root):
                _check_index(owners, main, item, seen, chains)


def _check_index(
    owners: PageOwners, main: DatabaseView, item: SchemaObject, seen: PageSet, chains: PageSet
) -> None:
    """Read the pages and overflow chains of an index that may be others than with the log."""
    tree = main.tree(item.root, seen)
    for numbers, kind in ((tree.interiors, INDEX_INTERIOR), (tree.leaves, INDEX_LEAF)):
        for number in numbers:
            if _is_same_page(owners, number, item):
                continue
            for cell in main.cells(main.tree_page(number, kind, item.root)):
                for _ in main.chain(cell, chains):
                    pass  # reading it finds the fault


def _is_same_page(owners: PageOwners, number: int, item: SchemaObject) -> bool:
    """Return True if a page of `item` in the main file is its page with the log too, unchanged."""
    if number in owners.differing or number in owners.pages_with_changed_overflow:
        return False
    owner = owners.owner(number)
    return owner is None or (owner.object is not None and owner.object.key == item.key)


# -- tables --------------------------------------------------------------------------------------


class TableComparison:
    """Comparison of the tables with the log (`owners.view`) and without it (`main`, or None)."""

    def __init__(
        self, owners: PageOwners, main: DatabaseView | None, main_schema: Schema, budget: ReadBudget
    ) -> None:
        self._owners = owners
        self._main = main
        self._main_tables = {
            name: item for (_, name), item in main_schema.items() if _has_rows(item)
        }
        self._budget = budget
        self._touched = owners.owners_of_differing()
        self._chains_differ = owners.chains_differ
        self._seen_in_main = PageSet()
        self._main_trees: dict[tuple[str, str], Tree] = {}
        self._decodes = main is not None and main.header.encoding != owners.view.header.encoding

    def tables(self, names: tuple[str, str] | None, limit: int) -> Iterator[TableLoss]:
        """Yield the tables that would not stay exactly as they are; see `loss.analyse_loss`."""
        live = {
            ascii_lower(item.name): place
            for place, item in enumerate(self._owners.objects)
            if _has_rows(item)
        }
        gone = {_shape(item): item for name, item in self._main_tables.items() if name not in live}
        for name, place in live.items():
            item = self._owners.objects[place]
            former = self._main_tables.get(name)
            if former is not None and self._is_untouched(place, former):
                continue
            column = _column(item, names)
            renamed = gone.get(_shape(item)) if former is None else None
            if former is not None:
                loss = self._compare(place, former, Fate.STAYS, column, limit)
            elif renamed is not None and self._has_same_rows(place, renamed):
                del gone[_shape(item)]
                loss = self._compare(place, renamed, Fate.RENAMED, column, limit)
            else:
                loss = self._compare(place, None, Fate.VANISHES, column, limit)
            if loss.is_loss:
                yield loss
        for former in gone.values():
            yield self._compare(None, former, Fate.RETURNS, _column(former, names), limit)

    def _has_same_rows(self, place: int, former: SchemaObject) -> bool:
        """Return True if a table under another name has a row in common with `former`.

        DROP and CREATE of one shape may leave the same root page too, but with other rows.
        """
        if self._is_untouched(place, former):
            return True
        try:
            live_tree = self._owners.tree(place)
            main_tree = self._main_tree(former, live_tree)
            ours = self._table_view(
                self._owners.view, self._owners.objects[place], live_tree, main_tree, ""
            )
            theirs = self._table_view(self._main, former, main_tree, live_tree, "")
            if ours is None or theirs is None or main_tree is None:
                return False
            if len(ours.leaves) < len(live_tree.leaves):
                return True  # whole pages are shared
            rows = compare_rows(ours, theirs, chains_differ=self._chains_differ, limit=0)
        except CorruptPageError:
            return False
        return rows.same > 0 or not any(map(_row_count, (ours, theirs)))

    def _is_untouched(self, place: int, former: SchemaObject) -> bool:
        """Return True if the table has the same pages with the same content in both views.

        A root that is the same in both has the same children, and so on down to the rows.
        """
        item = self._owners.objects[place]
        is_known = place not in self._touched and not self._owners.is_broken(place)
        is_same = is_known and item.root == former.root
        return is_same and not has_other_alias(item.sql, former.sql)

    def _compare(
        self, place: int | None, former: SchemaObject | None, fate: Fate, column: str, limit: int
    ) -> TableLoss:
        ours = None if place is None else self._owners.objects[place]
        name = ours.name if ours else former.name if former else ""
        renamed_from = former.name if former and fate is Fate.RENAMED else None
        try:
            live_tree = None if place is None else self._owners.tree(place)
            main_tree = self._main_tree(former, live_tree)
            is_reread = ours and former and has_other_alias(ours.sql, former.sql)
            shared = (None, None) if is_reread else (main_tree, live_tree)
            live = self._table_view(self._owners.view, ours, live_tree, shared[0], column)
            main = self._table_view(self._main, former, main_tree, shared[1], column)
            rows = compare_rows(live, main, chains_differ=self._chains_differ, limit=limit)
            renumbered = None
            if live is not None and live.has_own_rowids and rows.may_be_renumbered:
                renumbered = compare_rows(
                    self._table_view(self._owners.view, ours, live_tree, None, column),
                    self._table_view(self._main, former, main_tree, None, column),
                    chains_differ=self._chains_differ,
                    limit=limit,
                    renumber=True,
                )
        except CorruptPageError as error:
            none = RowSet(0)
            return TableLoss(
                name, fate, none, none, none, renamed_from, is_exact=False, problem=error.message
            )
        has_new_rowids = renumbered is not None and _explains_more(renumbered, rows)
        if renumbered is not None and has_new_rowids:
            rows = renumbered
        return TableLoss(
            name,
            fate,
            _row_set(rows.lost),
            _row_set(rows.reverted),
            _row_set(rows.returning),
            renamed_from,
            is_exact=rows.is_exact,
            new_rowids=has_new_rowids,
        )

    def _main_tree(self, former: SchemaObject | None, live: Tree | None) -> Tree | None:
        """Return the tree in the main file: `live` itself if no interior page differs."""
        if former is None or self._main is None:
            return None
        differing = self._owners.differing
        same_root = live is not None and live.root == former.root
        if live and same_root and live.interiors and differing.isdisjoint(live.interiors):
            return live
        tree = self._main_trees.get(former.key)
        if tree is None:
            known = dict(_children(live, differing)) if live else {}
            tree = self._main.tree(former.root, self._seen_in_main, known)
            self._main_trees[former.key] = tree
        return tree

    def _table_view(
        self,
        view: DatabaseView | None,
        item: SchemaObject | None,
        tree: Tree | None,
        other: Tree | None,
        column: str,
    ) -> TableView | None:
        if view is None or item is None or tree is None:
            return None
        return TableView(
            view=view,
            root=tree.root,
            sql=item.sql,
            has_rowids=tree.has_rowids,
            leaves=self._unshared(tree.leaves, other.leaves if other else None),
            interiors=self._unshared(tree.interiors, other.interiors if other else None),
            column=column,
            in_log=self._owners.log.contains,
            budget=self._budget,
            decodes=self._decodes,
        )

    def _unshared(self, numbers: array[int], others: array[int] | None) -> array[int]:
        """Return the pages of one view whose rows may differ from those in the other view."""
        if others is None:
            return numbers
        differs = self._owners.differing.fastest_test()
        overflow = self._owners.pages_with_changed_overflow
        if others is numbers:
            suspects = numbers if overflow else filter(self._owners.log.contains, numbers)
            return array("I", [n for n in suspects if differs(n) or n in overflow])
        shared = PageSet()
        rows_stay = filterfalse(overflow.fastest_test(), others) if overflow else others
        shared.add_all(tuple(filterfalse(differs, rows_stay)))
        return array("I", filterfalse(shared.fastest_test(), numbers))


def _children(tree: Tree, differing: PageSet) -> Iterator[tuple[int, array[int]]]:
    """Yield the interior pages that do not differ, and the children of each."""
    below = tree.interiors[1:] + tree.leaves
    start = 0
    for number, end in zip(tree.interiors, tree.ends, strict=True):
        if number not in differing:
            yield number, below[start:end]
        start = end


def _has_rows(item: SchemaObject) -> bool:
    return item.type == "table" and item.root > 0 and item.name != SCHEMA_TABLE


def _shape(item: SchemaObject) -> tuple[int, int, str]:
    """Return the facts that a rename keeps: rowid, root page, and the SQL after the name."""
    return item.rowid, item.root, item.sql[item.sql.find("(") :]


def _row_count(table: TableView) -> int:
    return sum(len(page.cells) for page in table.pages())


def _column(item: SchemaObject, names: tuple[str, str] | None) -> str:
    """Return the column of the table `item` whose texts are requested, or an empty string."""
    return names[1] if names and ascii_lower(names[0]) == ascii_lower(item.name) else ""


def _explains_more(renumbered: RowDifference, by_rowid: RowDifference) -> bool:
    """Return True if a VACUUM that gave the rows new rowids explains half of the changes.

    It may do so to a table without an INTEGER PRIMARY KEY. https://www.sqlite.org/lang_vacuum.html
    """
    return renumbered.is_exact and 2 * renumbered.total <= by_rowid.total


def _row_set(found: RowSample) -> RowSet:
    return RowSet(found.count, tuple(found.keys), tuple(found.texts))
