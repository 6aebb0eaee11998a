"""Rows that the recovered state lacks: behind damage, in other logs, and in older frames.

Two kinds, never mixed. Rows *beyond* the state are newer, or of a history that split off: they go
into their table if nothing there has their key. Rows of the *past* were deleted or changed since:
they go to ``lost_and_found`` alone, because a row that was deleted on purpose must not come back.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.recovery.additions import Additions, Source, bindable
from modelstore.recovery.comparison import stretches
from modelstore.recovery.orphans import free_pages
from modelstore.recovery.owners import Owners, historic_tables
from modelstore.recovery.salvage import Salvage, read_objects
from modelstore.recovery.states import main_alone
from modelstore.recovery.tables import Table, tables_of
from modelstore.recovery.trees import StoredRow, TreeReader
from modelstore.wal.format import DatabaseHeaderError
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    BtreePage,
    CorruptPageError,
    PageSet,
)
from modelstore.wal.record import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.progress import Progress
    from modelstore.recovery.comparison import Comparison
    from modelstore.recovery.evidence import Pair
    from modelstore.recovery.history import Generation, LogHistory
    from modelstore.recovery.states import State, StateView
    from modelstore.wal.record import Value

_ROW_KINDS = (TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR)
_FEW = 4  # changed rows of a page that are looked up one by one
_NEAR_ROWIDS = 4096  # rows that are read at once to be compared with a page
_REFILLED = "from another copy: the page that had it in the database cannot be read"
_MAX_KNOWN = 4_000_000  # rows that are remembered, so that each comes back once


@dataclass(slots=True)
class Leftovers:
    """Finds rows that `base` lacks and adds them to the new file.

    `comparison` is that of the base with its main file.
    """

    base: State
    additions: Additions
    comparison: Comparison
    progress: Progress | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    rows_read: int = 0
    _base_view: StateView | None = None
    _free: PageSet = field(default_factory=PageSet)

    def prepare(self) -> None:
        """Read the tables of the new file."""
        self.tables = {
            table.name.lower(): table
            for table in tables_of(self.additions.conn)
            if not table.name.lower().startswith("sqlite_")
        }
        try:
            self._base_view = self.base.view()
            self._free, _ = free_pages(self._base_view)
        except (CorruptPageError, DatabaseHeaderError):
            self._base_view = None

    def add_generation(
        self, pair: Pair, log: LogHistory, generation: Generation, *, beyond: bool
    ) -> None:
        """Add the rows of a generation's frames; `beyond` says that its last state is not past."""
        frames = _by_page(generation)
        commits = array("I", generation.commits())
        end = generation.end if commits else generation.first + len(generation.sound) - 1
        owners = Owners(self.tables, self._base_view, pair, log, generation, frames)
        # What is newest comes first: a row that fits must not be set aside as an old one.
        for is_beyond in (True, False) if beyond or generation.likely else (False,):
            for done, (number, of_page) in enumerate(frames.items()):
                if self.progress is not None:
                    self.progress("comparing the log", done, len(frames))
                newest = of_page[bisect_right(of_page, end) - 1]
                if not beyond and not self._is_damaged_in_base(log, generation, number, newest):
                    newest = 0
                in_base = self._frame_in_base(log, number)
                if in_base and self._is_unused(number):  # its rows were deleted with the page
                    newest, in_base = (0 if newest == in_base else newest), 0
                wanted = [
                    frame
                    for frame in reversed(of_page)
                    if frame <= end and (frame == newest) == is_beyond and frame != in_base
                ]
                live = self._live_cells(number) if wanted else set()
                for frame in wanted:
                    at = bisect_left(commits, frame)
                    commit = commits[at] if at < len(commits) else end
                    if generation.sizes_until(frame):
                        commit = frame  # also of the first frame, which nothing proves
                    self._add_page(owners, number, frame, commit, live, is_beyond=is_beyond)

        if generation.is_current:
            self._add_unfinished(owners, frames, end)

    def _is_damaged_in_base(
        self, log: LogHistory, generation: Generation, number: int, frame: int
    ) -> bool:
        """Return True if the base has an older version of a page, because `frame` is damaged."""
        is_same = self.base.log is log and self.base.generation is generation
        is_newer = self.base.frames.get(number, 0) < frame <= self.base.commit
        return is_same and is_newer and frame in generation.likely

    def _add_unfinished(self, owners: Owners, frames: Mapping[int, array[int]], end: int) -> None:
        """Set aside the rows behind the last commit: the log ends within a transaction."""
        last = max((of_page[-1] for of_page in frames.values()), default=end)
        for number, of_page in frames.items():
            if of_page[-1] > end:
                live = self._live_cells(number)
                self._add_page(owners, number, of_page[-1], last, live, is_beyond=False)

    def _frame_in_base(self, log: LogHistory, number: int) -> int:
        """Return the frame of this log that the base has of a page; 0 if none."""
        is_same = self.base.log is not None and self.base.log.fd == log.fd
        return self.base.frames.get(number, 0) if is_same else 0

    def _live_cells(self, number: int) -> set[bytes]:
        """Return the cells of the page in the base, and the stretches of bytes that they begin.

        Most cells of older versions are among them.
        """
        base = self._base_view
        if base is None or self._is_unused(number):
            return set()
        try:
            page = base.btree_page(number)
        except CorruptPageError:
            return set()
        return {
            *stretches(page),
            *(_raw_cell(base, page, index) for index in range(len(page.cells))),
        }

    def _add_page(
        self,
        owners: Owners,
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
        if not owners.is_sure_of(frame, 0, 8 + 2 * len(page.cells)):
            return
        is_proved = owners.is_proved(frame) and not owners.is_unfinished(frame)
        reader = TreeReader(view, mends=not is_proved)
        table: Table | None = None
        parts = stretches(page) if is_proved else {}
        others = sorted(page.cells.index(at) for part, at in parts.items() if part not in live)
        if not is_beyond:
            live.update(parts)
        for index in others if is_proved else range(len(page.cells)):
            raw = _raw_cell(view, page, index)
            if raw in live:
                continue
            if not is_beyond:
                live.add(raw)
            row = owners.row(reader, page, index, frame)
            if row is None:
                continue
            if table is None or not table.fits(row.rowid, row.stored):
                table = owners.table(page, commit, row)  # rows may be older than a new column
            if table is None or not table.fits(row.rowid, row.stored):
                continue
            self.rows_read += 1
            source = owners.source(number, frame, commit)
            self.add(table, row, source, is_beyond=is_beyond)

    def add(self, table: Table, row: StoredRow, source: Source, *, is_beyond: bool) -> bool:
        """Add a row unless the new file has it; return True if it went into its table."""
        values = table.values(row.rowid, row.stored)
        digest = hash((table.name, row.rowid, len(values), values))
        if digest in self.known:
            return False
        if len(self.known) < _MAX_KNOWN:
            self.known.add(digest)
        there = self.tables.get(table.name.lower())
        is_there = there is not None and there.columns == table.columns
        current = self.additions.current(table, values, row.rowid) if is_there else None
        if current is not None and _equal(table, current, values):
            return False
        if is_beyond and is_there and current is None:
            note = source.note or "newer than the recovered state, or of a history that split off"
            if self.additions.fit(table, values, row.rowid, replace(source, note=note)):
                return True
        note = (
            "another version of a row of the recovered state"
            if current is not None
            else "deleted, or not part of the recovered state"
        )
        self.additions.set_aside(
            table, values, row.rowid, replace(source, note=source.note or note)
        )
        return False

    def add_main_alone(self) -> None:
        """Add the rows of the main file that the log has deleted or changed since.

        They are in pages that the log has again, or that its last commit no longer uses.
        """
        base, main = self._base_view, main_alone(self.base.pair)
        if base is None or main is None or not self.base.commit:
            return
        view = main.view()
        is_smaller = bool(self._free) or view.page_count > base.page_count
        is_changed = self._is_changed if is_smaller else self.base.frames.__contains__
        for table, root in historic_tables(read_objects(view)):
            try:
                tree = view.tree(root, PageSet())
            except CorruptPageError:
                continue
            known = self.tables.get(table.name.lower(), table)
            pages = tree.leaves if tree.has_rowids else tree.interiors + tree.leaves
            for number in filter(is_changed, pages):
                with suppress(CorruptPageError):
                    self._add_superseded(main, view, known, number)

    def _add_superseded(self, state: State, view: StateView, table: Table, number: int) -> None:
        """Set aside the rows of a page of the main file that the recovered state lacks."""
        gone = None if self._is_unused(number) else self.comparison.gone.get(number)
        if gone is not None and not gone:
            return
        page = view.btree_page(number)
        others = range(len(page.cells)) if gone is None else gone
        current = self._current_between(table, view, page) if len(others) > _FEW else {}
        careful = TreeReader(view, mends=True)
        source = Source(state.source(number)[0], number, confidence=0.9)
        for index in others:
            with suppress(CorruptPageError, RecordError):
                if current:
                    row = TreeReader(view).row(page, index)
                    values = table.values(row.rowid, row.stored)
                    if row.rowid is not None and values == current.get(row.rowid):
                        continue  # VACUUM has moved it
                row = careful.row(page, index)
                is_whole = not (row.lost or row.is_doubtful)
                if is_whole and table.fits(row.rowid, row.stored):
                    self.add(table, row, source, is_beyond=False)

    def _is_changed(self, number: int) -> bool:
        return number in self.base.frames or self._is_unused(number)

    def _is_unused(self, number: int) -> bool:
        """Return True if the base has a page on its freelist, or no longer."""
        return number in self._free or number > self.base.page_count

    def _current_between(
        self, table: Table, view: StateView, page: BtreePage
    ) -> dict[int, tuple[Value, ...]]:
        """Return the rows of the new file with the rowids that a page spans, if these are near."""
        if table.name.lower() not in self.tables or page.kind != TABLE_LEAF or not page.cells:
            return {}
        first, last = (view.rowid(page, index) for index in (0, len(page.cells) - 1))
        if not 0 <= last - first < _NEAR_ROWIDS:
            return {}
        return self.additions.between(table, first, last)

    def add_state(self, state: State, *, beyond: bool, lost: Salvage) -> None:
        """Add the rows of another state that the new file lacks: of another copy, for example.

        A row that may have been where the database cannot be read (`lost`) goes into its table.
        """
        view = state.view()
        reader = TreeReader(view, mends=True)
        for table, root in historic_tables(read_objects(view)):
            known = self.tables.get(table.name.lower(), table)
            for row in reader.rows(root):
                if row.lost or row.is_doubtful or not known.fits(row.rowid, row.stored):
                    continue
                file, frame = state.source(row.page)
                source = Source(file, row.page, frame, state.commit or None)
                is_lost = lost.may_have_had(known.name, row.rowid)
                if is_lost:
                    source = replace(source, confidence=0.7, note=_REFILLED)
                if self.add(known, row, source, is_beyond=beyond or is_lost) and is_lost:
                    lost.count_found(known.name, row.rowid)


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


def _raw_cell(view: StateView, page: BtreePage, index: int) -> bytes:
    """Return the parts of a cell in a form that equal cells share; none if it cannot be read."""
    try:
        cell = view.cell(page, index)
    except CorruptPageError:
        return b""
    return b"%d %d %d " % (cell.rowid or 0, cell.size, cell.overflow) + cell.local


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
