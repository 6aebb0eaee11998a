"""The tables and the truth of the pages in one generation of a log, as of each of its commits."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Source
from modelstore.recovery.salvage import read_objects
from modelstore.recovery.states import StateView, state_at
from modelstore.recovery.tables import Table, tables_of
from modelstore.recovery.trees import StoredRow, TreeReader
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeaderError
from modelstore.wal.pages import TABLE_INTERIOR, BtreePage, CorruptPageError, PageSet
from modelstore.wal.record import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.recovery.evidence import Pair
    from modelstore.recovery.history import Generation, LogHistory
    from modelstore.wal.pages import Cell
    from modelstore.wal.schema import SchemaObject

_MAX_DEPTH = 20
_MAX_INTERIORS = 128  # versions of interior pages that are kept


class FramesAt(Mapping[int, int]):
    """The newest sound frame of each page up to one frame; `by_page` has them all, ascending."""

    __slots__ = ("_by_page", "_upto")

    def __init__(self, by_page: Mapping[int, array[int]], upto: int) -> None:
        self._by_page = by_page
        self._upto = upto

    def __getitem__(self, number: int) -> int:
        frames = self._by_page[number]
        at = bisect_right(frames, self._upto)
        if not at:
            raise KeyError(number)
        return frames[at - 1]

    def __iter__(self) -> Iterator[int]:
        return (number for number in self._by_page if number in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Owners:
    """Finds the table of a page as of a commit of one generation."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        base: StateView | None,
        pair: Pair,
        log: LogHistory,
        generation: Generation,
        frames: Mapping[int, array[int]],
    ) -> None:
        self._pair = pair
        self._log = log
        self._generation = generation
        self._frames = frames
        self._last = state_at(pair, log, generation, generation.first + len(generation.sound) - 1)
        self._views: dict[int, StateView | None] = {}
        self._interiors: dict[tuple[int, int], BtreePage] = {}
        self._tables = dict(tables)
        self._candidates = list(tables.values())
        self._base_view = base
        self._learned = False
        self._base_owner: dict[int, Table] | None = None
        self._last_owner: dict[int, Table] | None = None

    def view(self, commit: int) -> StateView | None:
        """Return the database as of a commit; None if it has no page 1."""
        if commit not in self._views:
            if len(self._views) > 64:
                self._views.clear()
            size = self._generation.sizes_until(commit)
            count = max(size, self._last.page_count, max(self._frames, default=1))
            state = replace(
                self._last,
                frames=FramesAt(self._frames, commit),
                commit=commit,
                page_count=count,
            )
            if len(state.read(1)) < state.page_size:  # page 1 first appears in a later commit
                state = replace(state, invented_header=self._last.read(1)[:DATABASE_HEADER_SIZE])
            try:
                self._views[commit] = state.view()
            except (CorruptPageError, DatabaseHeaderError):
                self._views[commit] = None
        return self._views[commit]

    def source(self, number: int, frame: int, commit: int) -> Source:
        """Return the provenance of a row in a frame."""
        name = "" if self._pair.log is None else self._pair.log.name
        if self.is_unfinished(frame):
            note = "of a transaction whose end is not in the log: it may never have been committed"
            return Source(name, number, frame, None, 0.5, note)
        return Source(name, number, frame, commit, 1.0 if self.is_proved(frame) else 0.8)

    def row(self, reader: TreeReader, page: BtreePage, index: int, frame: int) -> StoredRow | None:
        """Return the row of a cell; None if it cannot be read, or if it is not sure to be true."""
        try:
            cell, end = reader.view.cell_and_end(page, index)
            is_sure = self.is_sure_of(frame, page.cells[index], end)
            if not is_sure or (self.is_unfinished(frame) and not self._has_chain(reader, cell)):
                return None
            row = reader.row(page, index)
        except (CorruptPageError, RecordError):
            return None
        return None if row.lost or row.is_doubtful else row

    def is_unfinished(self, frame: int) -> bool:
        """Return True if a frame is behind the last commit."""
        return self._generation.is_current and frame > self._generation.end

    def _has_chain(self, reader: TreeReader, cell: Cell) -> bool:
        """Return True if all overflow pages of a new row are in frames of its transaction."""
        frames = reader.view.state.frames
        chain = reader.view.chain(cell, PageSet())
        return all(frames.get(number, 0) > self._generation.end for number, _ in chain)

    def is_sure_of(self, frame: int, start: int, end: int) -> bool:
        """Return False if the one wrong byte of a frame may be between these offsets."""
        words = self._log.doubtful.get(frame, ())
        return not any(start < word + 4 and word < end for word in words)

    def is_proved(self, frame: int) -> bool:
        """Return True if its checksum proves a frame."""
        return bool(self._generation.sound[frame - self._generation.first])

    def table(self, page: BtreePage, commit: int, row: StoredRow) -> Table | None:
        """Return the table of a page as of a commit: a descent by the row's key leads to it."""
        view = self.view(commit)
        if view is None:
            return None
        first = self._base_owners().get(page.number)
        if row.rowid is None:
            owner = first or self._last_owners().get(page.number)
            has_owner = owner is not None and not owner.has_rowid
            return owner if has_owner else self._by_shape(view, page, commit)
        candidates = [first, *self._candidates] if first is not None else self._candidates
        for table in candidates:
            if table.root and table.fits(row.rowid, row.stored) and self._leads_to(
                view, table.root, row.rowid, page.number
            ):  # fmt: skip
                return table
        if not self._learned:
            self._learn()
            return self.table(page, commit, row)
        fits = first is not None and first.fits(row.rowid, row.stored)
        if fits and not self._generation.is_current:
            return first
        return self._by_shape(view, page, commit)

    def _leads_to(self, view: StateView, root: int, rowid: int, wanted: int) -> bool:
        """Return True if a search for `rowid` in the tree at `root` ends at page `wanted`."""
        number = root
        for _ in range(_MAX_DEPTH):
            if number == wanted:
                return True
            try:
                page = self._interior(view, number)
                if page.kind != TABLE_INTERIOR:
                    return False
                number = _child_for(page, rowid)
            except (CorruptPageError, IndexError):
                return False
        return False

    def _interior(self, view: StateView, number: int) -> BtreePage:
        """Return a page of a view; most views share a version of it, which is kept."""
        key = number, view.state.frames.get(number, 0)
        found = self._interiors.get(key)
        if found is None:
            if len(self._interiors) >= _MAX_INTERIORS:
                self._interiors.clear()
            found = self._interiors[key] = view.btree_page(number)
        return found

    def _by_shape(self, view: StateView, page: BtreePage, commit: int) -> Table | None:
        """Return the only table that all rows of a page fit, if damage may hide its parent."""
        if commit <= self._generation.exact_end:
            return None
        rows = [row for row in TreeReader(view, mends=True).rows_in(page) if not row.lost]
        fitting = {
            table.name: table
            for table in self._candidates
            if rows and all(table.fits(row.rowid, row.stored) for row in rows)
        }
        return next(iter(fitting.values())) if len(fitting) == 1 else None

    def _learn(self) -> None:
        """Add the tables that older versions of the schema have."""
        self._learned = True
        objects: dict[tuple[str, int], SchemaObject] = {}
        commits = array("I", self._generation.commits())
        wanted = {bisect_left(commits, frame) for frame in self._frames.get(1, ())}
        last = self._generation.first + len(self._generation.sound) - 1
        for commit in (*(commits[at] for at in sorted(wanted) if at < len(commits)), last):
            view = self.view(commit)
            if view is not None:
                for item in read_objects(view):
                    objects[item.name.lower(), item.root] = item
        for table, root in historic_tables(list(objects.values())):
            known = self._tables.get(table.name.lower())
            if known is None or known.root != root or known.columns != table.columns:
                self._candidates.append(replace(table, root=root))

    def _base_owners(self) -> dict[int, Table]:
        """Return the owner, in the recovered state, of the pages that this log has."""
        if self._base_owner is None:
            self._base_owner = self._owners_in(self._base_view, self._tables.values())
        return self._base_owner

    def _last_owners(self) -> dict[int, Table]:
        """Return the owner of this log's pages after its last commit, of tables without rowids."""
        if self._last_owner is None:
            if not self._learned:
                self._learn()
            view = self.view(self._generation.end)
            tables = [table for table in self._candidates if not table.has_rowid]
            self._last_owner = self._owners_in(view, tables)
        return self._last_owner

    def _owners_in(self, view: StateView | None, tables: Iterable[Table]) -> dict[int, Table]:
        owners: dict[int, Table] = {}
        for table in tables if view is not None else ():
            try:
                tree = view.tree(table.root, PageSet())  # type: ignore[union-attr]
            except CorruptPageError:
                continue
            for number in (*tree.leaves, *tree.interiors):
                if number in self._frames:
                    owners[number] = table
        return owners


def _child_for(page: BtreePage, rowid: int) -> int:
    """Return the child of an interior page that holds `rowid`: keys are upper bounds."""
    from modelstore.wal.record import read_varint

    low, high = 0, len(page.cells)
    while low < high:
        middle = (low + high) // 2
        key, _ = read_varint(page.data, page.cells[middle] + 4)
        if (key - (1 << 64) if key >> 63 else key) < rowid:
            low = middle + 1
        else:
            high = middle
    if low == len(page.cells):
        return page.right
    at = page.cells[low]
    return int.from_bytes(page.data[at : at + 4], "big")


def historic_tables(objects: Sequence[SchemaObject]) -> list[tuple[Table, int]]:
    """Return the tables that these objects create, with their roots.

    A scratch SQLite reads their SQL.
    """
    found = []
    for item in objects:
        is_table = item.type == "table" and item.root and item.sql[:13].upper() == "CREATE TABLE "
        if not is_table or item.name.lower().startswith("sqlite_"):
            continue
        conn = sqlite3.connect(":memory:", isolation_level=None)
        try:
            conn.execute("PRAGMA trusted_schema = OFF")
            conn.execute(item.sql)
            found += [(replace(table, root=item.root), item.root) for table in tables_of(conn)]
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            continue
        finally:
            conn.close()
    return found
