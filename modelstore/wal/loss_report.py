"""What each table would lose: the tables of two views are paired, and their rows compared."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.wal.main_file import MainFile, MainState
from modelstore.wal.pages import CorruptPageError, DatabaseView, PageSet, Tree
from modelstore.wal.rows import RowSample, TableView, compare_rows
from modelstore.wal.schema import SCHEMA_TABLE, Schema, SchemaObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex
    from modelstore.wal.page_owners import PageOwner, PageOwners, PageRole, ReadBudget
    from modelstore.wal.rows import RowKey
    from modelstore.wal.schema import SchemaObject


class Fate(Enum):
    """What happens to a table, or to another object of the schema, if the log goes."""

    STAYS = "stays"
    VANISHES = "vanishes"
    RETURNS = "returns"
    RENAMED = "renamed"  # it gets its former name back
    REVERTS = "reverts"  # its definition does


@dataclass(frozen=True, slots=True)
class RowSet:
    """Some rows of a table: their `count`, and the first of them, as many as were asked for.

    `keys` are rowids, ascending, or the primary keys of a WITHOUT ROWID table. `texts` are the
    values of the column that was asked for, one for each key; None for a value that is no text.
    """

    count: int
    keys: tuple[RowKey, ...] = ()
    texts: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class TableLoss:
    """What one table loses. Rows are compared as they are stored, by rowid or primary key.

    `lost` rows are gone, `reverted` ones get older content back, `returning` ones were deleted
    and are there again. Counts are lower bounds where `is_exact` is False (more of the database
    would have to be read: `deep`); `problem` says why a table could not be compared at all.
    """

    name: str
    fate: Fate
    lost: RowSet
    reverted: RowSet
    returning: RowSet
    former_name: str | None = None
    is_exact: bool = True
    problem: str | None = None

    @property
    def is_loss(self) -> bool:
        """Whether anything would change, or may change."""
        rows = self.lost.count + self.reverted.count + self.returning.count
        return rows > 0 or self.fate is not Fate.STAYS or not self.is_exact


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A table, index, view or trigger that would vanish, return, or revert to an older SQL."""

    type: str
    name: str
    fate: Fate


@dataclass(frozen=True, slots=True)
class ObjectPages:
    """What a table, an index, or (`object` is None) a list of the database has in the log.

    `pages` counts distinct ones, `differing` those whose newest version the main file lacks,
    `roles` the pages by what they are for.
    """

    object: SchemaObject | None
    frames: int
    pages: int
    differing: int
    roles: Mapping[PageRole, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """The answer of `loss.analyse_loss`. Frames and pages are counted; nothing is in bytes.

    `raced` means that the files changed while they were read, at each of `attempts` looks, so
    that nothing here is certain. `live_problem` tells why the database with its log cannot be
    read: damage, or the log of another database. `unattributed` pages of the log belong to
    nobody that was found; rows in them are not counted, and `is_exact` is False.
    """

    scan: WalScan
    index: WalIndex | None
    main: MainFile
    raced: bool
    attempts: int
    pages: int = 0
    differing: int = 0
    unattributed: int = 0
    objects: tuple[ObjectPages, ...] = ()
    tables: tuple[TableLoss, ...] = ()
    schema_changes: tuple[SchemaChange, ...] = ()
    live_problem: str | None = None
    pages_read: int = 0
    held: bytes = field(default=b"", repr=False)
    """One byte for each committed frame: 1 where the main file holds that version of its page."""
    owners: PageOwners | None = field(default=None, repr=False, compare=False)

    @property
    def lost(self) -> int:
        """Rows that would be gone, in all tables."""
        return sum(table.lost.count for table in self.tables)

    @property
    def reverted(self) -> int:
        """Rows that would get older content back, in all tables."""
        return sum(table.reverted.count for table in self.tables)

    @property
    def returning(self) -> int:
        """Deleted rows that would come back, in all tables."""
        return sum(table.returning.count for table in self.tables)

    @property
    def is_exact(self) -> bool:
        """Whether every figure is certain."""
        return not (self.raced or self.unattributed or self.live_problem) and all(
            table.is_exact and table.problem is None for table in self.tables
        )

    @property
    def is_harmless(self) -> bool:
        """Whether it is certain that nothing at all would be lost without the log."""
        return (
            self.is_exact
            and not (self.tables or self.schema_changes or self.scan.is_damaged)
            and self.main.readable
            and self.main.state in (MainState.CONSISTENT, MainState.EMPTY)
        )

    def owner(self, page_number: int) -> PageOwner | None:
        """Return what a page of the committed frames belongs to; None if it is in none."""
        return self.owners.owner(page_number) if self.owners else None


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
    """The tables with the log (`owners.view`) beside those without it (`main`, or None)."""

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
        """Yield the tables that would not stay exactly as they are."""
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
        """Return whether the table has the same pages, with the same content, in both views.

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
                self._side(self._owners.view, ours, live_tree, main_tree, column),
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
        differing = self._owners.differing
        same_root = live is not None and live.root == former.root
        if live and same_root and live.interiors and differing.isdisjoint(live.interiors):
            return live
        return self._main.tree(former.root, self._seen_in_main)

    def _side(
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
        """Return those of the pages of one view that do not hold the same rows in the other."""
        differing, pages_with_changed_overflow = (
            self._owners.differing,
            self._owners.pages_with_changed_overflow,
        )
        if others is None:
            return numbers
        if others is numbers:
            suspects = (
                numbers
                if pages_with_changed_overflow
                else filter(self._owners.log.contains, numbers)
            )
            return array(
                "I", (n for n in suspects if n in differing or n in pages_with_changed_overflow)
            )
        shared = PageSet()
        shared.add_all(others)
        return array(
            "I",
            (
                n
                for n in numbers
                if n not in shared or n in differing or n in pages_with_changed_overflow
            ),
        )


def _has_rows(item: SchemaObject) -> bool:
    return item.type == "table" and item.root > 0 and item.name != SCHEMA_TABLE


def _shape(item: SchemaObject) -> tuple[int, str]:
    """Return what a rename leaves as it was: the root page, and the SQL behind the name."""
    return item.root, item.sql[item.sql.find("(") :]


def _column(item: SchemaObject, names: tuple[str, str] | None) -> str:
    """Return the column whose texts are wanted of the table `item`, or nothing."""
    return names[1] if names and names[0].lower() == item.name.lower() else ""


def _row_set(found: RowSample) -> RowSet:
    return RowSet(found.count, tuple(found.keys), tuple(found.texts))
