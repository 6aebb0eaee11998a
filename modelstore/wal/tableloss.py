"""What each table would lose: the tables of two views are paired, and their rows compared."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from modelstore.wal.difference import compare_rows
from modelstore.wal.lossreport import Fate, RowSet, SchemaChange, TableLoss
from modelstore.wal.overlay import PageSet
from modelstore.wal.pages import CorruptPageError, Tree, View
from modelstore.wal.rows import Found, Side
from modelstore.wal.schema import SCHEMA_TABLE, Schema, SchemaObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.ownership import Budget, Ownership


def schema_changes(live: Schema, main: Schema) -> Iterator[SchemaChange]:
    """Yield the objects that would vanish, return, or revert to an older SQL, by type and name."""
    for key in sorted({**live, **main}):
        ours, theirs = live.get(key), main.get(key)
        if theirs is None and ours is not None:
            yield SchemaChange(ours.type, ours.name, Fate.VANISHES)
        elif ours is None and theirs is not None:
            yield SchemaChange(theirs.type, theirs.name, Fate.RETURNS)
        elif ours and theirs and (ours.sql, ours.table) != (theirs.sql, theirs.table):
            yield SchemaChange(ours.type, ours.name, Fate.REVERTS)


class TableComparison:
    """The tables with the log (`ownership.view`) beside those without it (`main`, or None)."""

    def __init__(
        self, ownership: Ownership, main: View | None, main_schema: Schema, budget: Budget
    ) -> None:
        self._ownership = ownership
        self._main = main
        self._main_tables = {
            name: item for (_, name), item in main_schema.items() if _has_rows(item)
        }
        self._budget = budget
        self._touched = ownership.owners_of_differing()
        self._chains_differ = ownership.chains_differ
        self._seen_in_main = PageSet()

    def tables(self, names: tuple[str, str] | None, limit: int) -> Iterator[TableLoss]:
        """Yield the tables that would not stay exactly as they are."""
        live = {
            item.name.lower(): place
            for place, item in enumerate(self._ownership.objects)
            if _has_rows(item)
        }
        gone = {_shape(item): item for name, item in self._main_tables.items() if name not in live}
        for name, place in live.items():
            item = self._ownership.objects[place]
            former = self._main_tables.get(name)
            fate = Fate.STAYS
            if former is None:
                former = gone.pop(_shape(item), None)
                fate = Fate.VANISHES if former is None else Fate.RENAMED
            if fate is Fate.STAYS and former and self._is_untouched(place, former):
                continue
            loss = self._compare(place, former, fate, _column(item, names), limit)
            if loss.is_loss:
                yield loss
        for former in gone.values():
            yield self._compare(None, former, Fate.RETURNS, _column(former, names), limit)

    def _is_untouched(self, place: int, former: SchemaObject) -> bool:
        """Return whether the table has the same pages, with the same content, in both views.

        A root that is the same in both has the same children, and so on down to the rows.
        """
        root = self._ownership.objects[place].root
        is_known = place not in self._touched and not self._ownership.is_broken(place)
        return is_known and root == former.root

    def _compare(
        self, place: int | None, former: SchemaObject | None, fate: Fate, column: str, limit: int
    ) -> TableLoss:
        ours = None if place is None else self._ownership.objects[place]
        name = ours.name if ours else former.name if former else ""
        renamed_from = former.name if former and fate is Fate.RENAMED else None
        try:
            live_tree = None if place is None else self._ownership.tree(place)
            main_tree = self._main_tree(former, live_tree)
            rows = compare_rows(
                self._side(self._ownership.view, ours, live_tree, main_tree, column),
                self._side(self._main, former, main_tree, live_tree, column),
                chains_differ=self._chains_differ,
                limit=limit,
            )
        except CorruptPageError as error:
            none = RowSet(0)
            return TableLoss(
                name, fate, none, none, none, renamed_from, is_exact=False, problem=error.message
            )
        return TableLoss(
            name,
            fate,
            _row_set(rows.lost),
            _row_set(rows.reverted),
            _row_set(rows.returning),
            renamed_from,
            is_exact=rows.is_exact,
        )

    def _main_tree(self, former: SchemaObject | None, live: Tree | None) -> Tree | None:
        """Return the tree in the main file: the very same where no interior page differs."""
        if former is None or self._main is None:
            return None
        differing = self._ownership.differing
        same_root = live is not None and live.root == former.root
        if live and same_root and live.interiors and differing.isdisjoint(live.interiors):
            return live
        return self._main.tree(former.root, self._seen_in_main)

    def _side(
        self,
        view: View | None,
        item: SchemaObject | None,
        tree: Tree | None,
        other: Tree | None,
        column: str,
    ) -> Side | None:
        if view is None or item is None or tree is None:
            return None
        return Side(
            view=view,
            root=tree.root,
            sql=item.sql,
            has_rowids=tree.has_rowids,
            leaves=self._unshared(tree.leaves, other.leaves if other else None),
            interiors=self._unshared(tree.interiors, other.interiors if other else None),
            column=column,
            in_log=self._ownership.log.contains,
            budget=self._budget,
        )

    def _unshared(self, numbers: array[int], others: array[int] | None) -> array[int]:
        """Return those of the pages of one view that do not hold the same rows in the other."""
        differing, stirred = self._ownership.differing, self._ownership.stirred
        if others is None:
            return numbers
        if others is numbers:
            suspects = numbers if stirred else filter(self._ownership.log.contains, numbers)
            return array("I", (n for n in suspects if n in differing or n in stirred))
        shared = PageSet()
        shared.add_all(others)
        return array("I", (n for n in numbers if n not in shared or n in differing or n in stirred))


def _has_rows(item: SchemaObject) -> bool:
    return item.type == "table" and item.root > 0 and item.name != SCHEMA_TABLE


def _shape(item: SchemaObject) -> tuple[int, str]:
    """Return what a rename leaves as it was: the root page, and the SQL behind the name."""
    return item.root, item.sql[item.sql.find("(") :]


def _column(item: SchemaObject, names: tuple[str, str] | None) -> str:
    """Return the column whose texts are wanted of the table `item`, or nothing."""
    return names[1] if names and names[0].lower() == item.name.lower() else ""


def _row_set(found: Found) -> RowSet:
    return RowSet(found.count, tuple(found.keys), tuple(found.texts))
