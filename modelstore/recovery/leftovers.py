"""Rows that the recovered state lacks: behind damage, in other logs, and in older frames.

Two kinds, never mixed. Rows *beyond* the state are newer, or of a history that split off: they go
into their table if nothing there has their key. Rows of the *past* were deleted or changed since:
they go to ``lost_and_found`` alone, because a row that was deleted on purpose must not come back.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Additions, Source, bindable
from modelstore.recovery.salvage import read_objects
from modelstore.recovery.states import State, StateView, state_at
from modelstore.recovery.tables import Table, tables_of
from modelstore.recovery.trees import StoredRow, TreeReader
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeaderError
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    BtreePage,
    CorruptPageError,
    PageSet,
)
from modelstore.wal.record import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.progress import Progress
    from modelstore.recovery.evidence import Pair
    from modelstore.recovery.history import Generation, LogHistory
    from modelstore.wal.schema import SchemaObject

_ROW_KINDS = (TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR)
_MAX_DEPTH = 20
_MAX_KNOWN = 4_000_000  # rows that are remembered, so that each comes back once


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


@dataclass(slots=True)
class Leftovers:
    """Finds rows that `base` lacks and adds them to the new file."""

    base: State
    additions: Additions
    progress: Progress | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    rows_read: int = 0
    _base_view: StateView | None = None

    def prepare(self) -> None:
        """Read the tables of the new file."""
        self.tables = {
            table.name.lower(): table
            for table in tables_of(self.additions.conn)
            if not table.name.lower().startswith("sqlite_")
        }
        try:
            self._base_view = self.base.view()
        except (CorruptPageError, DatabaseHeaderError):
            self._base_view = None

    def add_generation(
        self, pair: Pair, log: LogHistory, generation: Generation, *, beyond: bool
    ) -> None:
        """Add the rows of a generation's frames; `beyond` says that its last state is not past."""
        frames = _by_page(generation)
        commits = array("I", generation.commits())
        end = generation.end if commits else generation.first + len(generation.sound) - 1
        owners = _Owners(self, pair, log, generation, frames)
        # What is newest comes first: a row that fits must not be set aside as an old one.
        for is_beyond in (True, False) if beyond else (False,):
            for done, (number, of_page) in enumerate(frames.items()):
                if self.progress is not None:
                    self.progress("comparing the log", done, len(frames))
                live = self._live_cells(number)
                newest = of_page[bisect_right(of_page, end) - 1] if beyond else 0
                for frame in reversed(of_page):
                    is_wanted = frame <= end and (frame == newest) == is_beyond
                    if not is_wanted or self._is_base(log, number, frame):
                        continue
                    at = bisect_left(commits, frame)
                    commit = commits[at] if at < len(commits) else end
                    self._add_page(owners, number, frame, commit, live, is_beyond=is_beyond)

        if generation.is_current:
            self._add_unfinished(owners, frames, end)

    def _add_unfinished(self, owners: _Owners, frames: Mapping[int, array[int]], end: int) -> None:
        """Set aside the rows behind the last commit: the log ends within a transaction."""
        last = max((of_page[-1] for of_page in frames.values()), default=end)
        for number, of_page in frames.items():
            if of_page[-1] > end:
                live = self._live_cells(number)
                self._add_page(owners, number, of_page[-1], last, live, is_beyond=False)

    def _is_base(self, log: LogHistory, number: int, frame: int) -> bool:
        is_same = self.base.log is not None and self.base.log.fd == log.fd
        return is_same and self.base.frames.get(number) == frame

    def _live_cells(self, number: int) -> set[bytes]:
        """Return the cells of the page in the base: most cells of older versions are among them."""
        if self._base_view is None or number > self._base_view.page_count:
            return set()
        try:
            page = self._base_view.btree_page(number)
            return set(_raw_cells(self._base_view, page))
        except CorruptPageError:
            return set()

    def _add_page(
        self,
        owners: _Owners,
        number: int,
        frame: int,
        commit: int,
        live: set[bytes],
        *,
        is_beyond: bool,
    ) -> None:
        view = owners.view(commit)
        if view is None:
            return
        try:
            page = view.btree_page(number)
        except CorruptPageError:
            return
        if page.kind not in _ROW_KINDS:
            return
        reader = TreeReader(view, mends=not owners.is_proved(frame))
        table: Table | None = None
        for index, raw in enumerate(_raw_cells(view, page)):
            if raw in live:
                continue
            if not is_beyond:
                live.add(raw)
            try:
                row = reader.row(page, index)
            except (CorruptPageError, RecordError):
                continue
            if row.lost or row.is_doubtful:
                continue
            if table is None or not table.fits(row.rowid, row.stored):
                table = owners.table(page, commit, row)  # rows may be older than a new column
            if table is None or not table.fits(row.rowid, row.stored):
                continue
            self.rows_read += 1
            source = owners.source(number, frame, commit)
            self.add(table, row, source, is_beyond=is_beyond)

    def add(self, table: Table, row: StoredRow, source: Source, *, is_beyond: bool) -> None:
        """Add a row unless the new file has it."""
        values = table.values(row.rowid, row.stored)
        digest = hash((table.name, row.rowid, len(values), values))
        if digest in self.known:
            return
        if len(self.known) < _MAX_KNOWN:
            self.known.add(digest)
        there = self.tables.get(table.name.lower())
        is_there = there is not None and there.columns == table.columns
        current = self.additions.current(table, values, row.rowid) if is_there else None
        if current is not None and _equal(table, current, values):
            return
        if is_beyond and is_there and current is None:
            note = "newer than the recovered state, or of a history that split off"
            if self.additions.fit(table, values, row.rowid, replace(source, note=note)):
                return
        note = (
            "another version of a row of the recovered state"
            if current is not None
            else "deleted, or not part of the recovered state"
        )
        self.additions.set_aside(
            table, values, row.rowid, replace(source, note=source.note or note)
        )

    def add_state(self, state: State, *, beyond: bool) -> None:
        """Add the rows of another state that the new file lacks: of another copy, for example."""
        view = state.view()
        reader = TreeReader(view, mends=True)
        for table, root in historic_tables(read_objects(view)):
            known = self.tables.get(table.name.lower(), table)
            for row in reader.rows(root):
                if row.lost or row.is_doubtful or not known.fits(row.rowid, row.stored):
                    continue
                file, frame = state.source(row.page)
                source = Source(file, row.page, frame, state.commit or None)
                self.add(known, row, source, is_beyond=beyond)


def _equal(table: Table, current: Sequence[object], values: Sequence[object]) -> bool:
    """Compare rows as SQLite stores them: a REAL column keeps whole numbers as integers."""
    for column, mine, other in zip(table.columns, current, values, strict=True):
        theirs = bindable(other)  # type: ignore[arg-type]
        if mine in (theirs, other) or column.is_generated:
            continue
        if isinstance(theirs, bytes) and isinstance(mine, str) and isinstance(other, str):
            continue
        return False
    return True


def _raw_cells(view: StateView, page: BtreePage) -> Iterator[bytes]:
    """Yield the bytes of each cell of a page, or its parts in a form that equal cells share."""
    for index in range(len(page.cells)):
        try:
            cell = view.cell(page, index)
        except CorruptPageError:
            yield b""
            continue
        yield b"%d %d %d " % (cell.rowid or 0, cell.size, cell.overflow) + cell.local


def _by_page(generation: Generation) -> dict[int, array[int]]:
    """Return the sound frames of each page, and the likely ones, ascending.

    Nothing proves the first frame of an older generation; its bytes must do.
    """
    found: dict[int, array[int]] = {}
    for index, number in enumerate(generation.page_numbers):
        is_likely = generation.first + index in generation.likely
        if generation.sound[index] or is_likely or (index == 0 and not generation.is_current):
            found.setdefault(number, array("I")).append(generation.first + index)
    return found


class _Owners:
    """Finds the table of a page as of a commit of one generation."""

    def __init__(
        self,
        found: Leftovers,
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
        self._tables = dict(found.tables)
        self._candidates = list(found.tables.values())
        self._found = found
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
        if frame > self._generation.end and self._generation.is_current:
            note = "of a transaction whose end is not in the log: it may never have been committed"
            return Source(name, number, frame, None, 0.5, note)
        return Source(name, number, frame, commit, 1.0 if self.is_proved(frame) else 0.8)

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
            if table.root and table.fits(row.rowid, row.stored) and _leads_to(
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
            view = self._found._base_view  # noqa: SLF001  # one module, two classes
            self._base_owner = self._owners_in(view, self._found.tables.values())
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


def _leads_to(view: StateView, root: int, rowid: int, wanted: int) -> bool:
    """Return True if a search for `rowid` in the tree at `root` ends at page `wanted`."""
    number = root
    for _ in range(_MAX_DEPTH):
        if number == wanted:
            return True
        try:
            page = view.btree_page(number)
            if page.kind != TABLE_INTERIOR:
                return False
            number = _child_for(page, rowid)
        except (CorruptPageError, IndexError):
            return False
    return False


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
