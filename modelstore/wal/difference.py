"""Difference between two views of a database: the database with its log, and the main file alone.

Pairs the tables of both views and compares their rows. Pages that both views share are never read.
Rows of a rowid table arrive in the order of their rowids from both sides and are merged. The order
of a WITHOUT ROWID table depends on collations, so its rows are matched by digests of their keys, in
several passes if there are many. Memory is bounded, and the counts are exact.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.wal.loss_report import Fate, RowSet, SchemaChange, TableLoss
from modelstore.wal.pages import (
    TABLE_LEAF,
    BtreePage,
    Cell,
    CorruptPageError,
    DatabaseView,
    PageSet,
    Tree,
)
from modelstore.wal.rows import OverBudgetError, RowSample, TableView
from modelstore.wal.schema import SCHEMA_TABLE, Schema, SchemaObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.page_owners import PageOwners, ReadBudget

_ROWS_AT_ONCE = 1_000_000  # digests in memory at a time: some 120 MB
_MAX_COLUMNS = 32_767  # SQLite's hard bound
_MAX_COMPARED = 1 << 20  # bytes; a larger row counts as changed if its size differs
_NO_PAGE = BtreePage(0, TABLE_LEAF, b"", (), 0)


def schema_changes(live: Schema, main: Schema) -> Iterator[SchemaChange]:
    """Yield the objects that would vanish, return, or revert to older SQL, by type and name."""
    for key in sorted({**live, **main}):
        ours, theirs = live.get(key), main.get(key)
        if theirs is None and ours is not None:
            yield SchemaChange(ours.type, ours.name, Fate.VANISHES)
        elif ours is None and theirs is not None:
            yield SchemaChange(theirs.type, theirs.name, Fate.RETURNS)
        elif ours and theirs and (ours.sql, ours.table) != (theirs.sql, theirs.table):
            yield SchemaChange(ours.type, ours.name, Fate.REVERTS)


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

    def tables(self, names: tuple[str, str] | None, limit: int) -> Iterator[TableLoss]:
        """Yield the tables that would not stay exactly as they are; see `loss.analyse_loss`."""
        live = {
            item.name.lower(): place
            for place, item in enumerate(self._owners.objects)
            if _has_rows(item)
        }
        gone = {_shape(item): item for name, item in self._main_tables.items() if name not in live}
        for name, place in live.items():
            item = self._owners.objects[place]
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
        """Return True if the table has the same pages with the same content in both views.

        A root that is the same in both has the same children, and so on down to the rows.
        """
        root = self._owners.objects[place].root
        is_known = place not in self._touched and not self._owners.is_broken(place)
        return is_known and root == former.root

    def _compare(
        self, place: int | None, former: SchemaObject | None, fate: Fate, column: str, limit: int
    ) -> TableLoss:
        ours = None if place is None else self._owners.objects[place]
        name = ours.name if ours else former.name if former else ""
        renamed_from = former.name if former and fate is Fate.RENAMED else None
        try:
            live_tree = None if place is None else self._owners.tree(place)
            main_tree = self._main_tree(former, live_tree)
            rows = compare_rows(
                self._table_view(self._owners.view, ours, live_tree, main_tree, column),
                self._table_view(self._main, former, main_tree, live_tree, column),
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
        """Return the tree in the main file: `live` itself if no interior page differs."""
        if former is None or self._main is None:
            return None
        differing = self._owners.differing
        same_root = live is not None and live.root == former.root
        if live and same_root and live.interiors and differing.isdisjoint(live.interiors):
            return live
        return self._main.tree(former.root, self._seen_in_main)

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
        )

    def _unshared(self, numbers: array[int], others: array[int] | None) -> array[int]:
        """Return the pages of one view whose rows may differ from those in the other view."""
        if others is None:
            return numbers
        differing, overflow = self._owners.differing, self._owners.pages_with_changed_overflow
        if others is numbers:
            suspects = numbers if overflow else filter(self._owners.log.contains, numbers)
            return array("I", (n for n in suspects if n in differing or n in overflow))
        shared = PageSet()
        shared.add_all(others)
        return array(
            "I", (n for n in numbers if n not in shared or n in differing or n in overflow)
        )


def _has_rows(item: SchemaObject) -> bool:
    return item.type == "table" and item.root > 0 and item.name != SCHEMA_TABLE


def _shape(item: SchemaObject) -> tuple[int, str]:
    """Return the facts that a rename keeps: the root page, and the SQL after the name."""
    return item.root, item.sql[item.sql.find("(") :]


def _column(item: SchemaObject, names: tuple[str, str] | None) -> str:
    """Return the column of the table `item` whose texts are requested, or an empty string."""
    return names[1] if names and names[0].lower() == item.name.lower() else ""


def _row_set(found: RowSample) -> RowSet:
    return RowSet(found.count, tuple(found.keys), tuple(found.texts))


# -- rows ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class RowDifference:
    """Rows of one table that change if the log goes; the kinds are those of `TableLoss`."""

    lost: RowSample
    reverted: RowSample
    returning: RowSample
    is_exact: bool = True


def compare_rows(
    live: TableView | None, main: TableView | None, *, chains_differ: bool, limit: int
) -> RowDifference:
    """Compare the rows of a table with the log (`live`) and without it (`main`).

    Pass None for a view without this table. Set `chains_differ` if any overflow page may differ.
    Keeps `limit` keys of each kind. If the budget ends, the counts are lower bounds and `is_exact`
    is False. Raises `CorruptPageError`.
    """
    found = RowDifference(RowSample(limit), RowSample(limit), RowSample(limit))
    try:
        if live is None or main is None or live.has_rowids != main.has_rowids:
            _take_all(live, found.lost)
            _take_all(main, found.returning)
        elif live.has_rowids:
            _Merge(live, main, found, chains_differ=chains_differ).run()
        else:
            _match(live, main, found)
    except OverBudgetError:
        found.is_exact = False
    return found


def _take_all(table: TableView | None, found: RowSample) -> None:
    if table is not None and table.has_rowids:
        _Cursor(table).take_rest(found)
    elif table is not None:
        for page in table.pages():
            _take(table, page, 0, found)


def _take(table: TableView, page: BtreePage, start: int, found: RowSample) -> None:
    """Count the rows of a page from index `start` on; decode only the ones to keep."""
    found.count += len(page.cells) - start
    for place in range(start, len(page.cells)):
        if found.is_full:
            break
        found.keep(table, table.view.cell(page, place))


class _Cursor:
    """A position in the rows of a rowid table; `rowid` is None at the end."""

    def __init__(self, table: TableView) -> None:
        self.table = table
        self.rowid: int | None = None
        self.last = 0  # the last rowid of the leaf
        self._numbers = iter(table.leaves)
        self._previous = -(1 << 63) - 1
        self._page = _NO_PAGE
        self._cells: list[Cell] = []  # of the page, parsed with the first use
        self._place = 0
        self.next_leaf()

    def next_leaf(self) -> None:
        """Move to the first row of the next leaf that has rows."""
        self.rowid = None
        for number in self._numbers:
            page = self.table.leaf(number)
            if page.cells:
                self._page, self._cells, self._place = page, [], 0
                self.last = self.table.view.rowid(page, len(page.cells) - 1)
                self._arrive(self.table.view.rowid(page, 0))
                return

    def _arrive(self, rowid: int) -> None:
        if not self._previous < rowid <= self.last:
            raise self.table.view.corrupt(f"page {self._page.number} has rowids out of order")
        self.rowid = self._previous = rowid

    def cell(self) -> Cell:
        """Return the row at this position."""
        if not self._cells:
            self._cells = list(self.table.view.cells(self._page))
        return self._cells[self._place]

    def advance(self) -> None:
        """Move to the next row."""
        self._place += 1
        if self._place < len(self._page.cells):
            self._arrive(self.cell().rowid or 0)
        else:
            self.next_leaf()

    def take_leaf(self, found: RowSample) -> None:
        """Count the rest of this leaf and move to the next one."""
        _take(self.table, self._page, self._place, found)
        self._previous = self.last
        self.next_leaf()

    def take_rest(self, found: RowSample) -> None:
        """Count all rows from this one on."""
        while self.rowid is not None:
            self.take_leaf(found)

    def take(self, found: RowSample) -> None:
        """Count this row and move to the next one."""
        found.add(self.table, self.cell())
        self.advance()


class _Merge:
    """Merge of two rowid tables; takes whole leaves as long as they do not overlap."""

    def __init__(
        self, live: TableView, main: TableView, found: RowDifference, *, chains_differ: bool
    ) -> None:
        self._live = live
        self._main = main
        self._found = found
        self._chains_differ = chains_differ
        self._live_chains = PageSet()
        self._main_chains = PageSet()

    def run(self) -> None:
        """Move both cursors to their ends."""
        live, main, found = _Cursor(self._live), _Cursor(self._main), self._found
        while live.rowid is not None and main.rowid is not None:
            if live.last < main.rowid:
                live.take_leaf(found.lost)
            elif main.last < live.rowid:
                main.take_leaf(found.returning)
            elif live.rowid < main.rowid:
                live.take(found.lost)
            elif live.rowid > main.rowid:
                main.take(found.returning)
            else:
                if not self._is_same(live.cell(), main.cell()):
                    found.reverted.add(self._live, live.cell())
                live.advance()
                main.advance()
        live.take_rest(found.lost)
        main.take_rest(found.returning)

    def _is_same(self, live: Cell, main: Cell) -> bool:
        if live.size != main.size:
            return self._has_same_values(live, main)
        if live.local != main.local:
            return False
        if len(live.local) == live.size:
            return True
        if live.overflow == main.overflow and not self._chains_differ:
            return True
        return all(
            ours == theirs
            for (_, ours), (_, theirs) in zip(
                self._live.view.chain(live, self._live_chains),
                self._main.view.chain(main, self._main_chains),
                strict=True,
            )
        )

    def _has_same_values(self, live: Cell, main: Cell) -> bool:
        """Compare two records that may differ in form alone: SQLite stores 0 and 1 in two ways."""
        if abs(live.size - main.size) > _MAX_COLUMNS:
            return False
        if max(live.size, main.size) > _MAX_COMPARED:
            return False
        ours = self._live.view.payload(live, seen=self._live_chains)
        theirs = self._main.view.payload(main, seen=self._main_chains)
        return self._live.stored(ours) == self._live.stored(theirs)


def _match(live: TableView, main: TableView, found: RowDifference) -> None:
    """Match the rows of two WITHOUT ROWID tables by their keys."""
    if live.key_names != main.key_names:
        _take_all(live, found.lost)
        _take_all(main, found.returning)
        return
    rows = sum(len(page.cells) for page in live.pages())
    parts = rows // _ROWS_AT_ONCE + 1
    for part in range(parts):
        _match_part(live, main, found, part, parts)


def _match_part(
    live: TableView, main: TableView, found: RowDifference, part: int, parts: int
) -> None:
    rows = {key: content for key, content, _ in _digests(live, part, parts)}
    changed: set[int] = set()
    for key, content, cell in _digests(main, part, parts):
        ours = rows.pop(key, None)
        if ours is None:
            found.returning.add(main, cell)
        elif ours != content:
            found.reverted.count += 1
            changed.add(key)
    found.lost.count += len(rows)
    if (rows and not found.lost.is_full) or (changed and not found.reverted.is_full):
        for key, _, cell in _digests(live, part, parts):
            if found.lost.is_full and found.reverted.is_full:
                break
            if key in rows:
                found.lost.keep(live, cell)
            elif key in changed:
                found.reverted.keep(live, cell)


def _digests(table: TableView, part: int, parts: int) -> Iterator[tuple[int, int, Cell]]:
    """Yield the digests of key and content of each row in one part of the keys, and its cell."""
    chains = PageSet()
    for page in table.pages():
        for cell in table.view.cells(page):
            key, row = table.row(cell, chains)
            digest = hash(key)  # 64 bits, keyed by a secret of the process
            if digest % parts == part:
                yield digest, hash(row), cell
