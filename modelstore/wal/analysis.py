"""One look at a database and its log, for `loss.analyse`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.errors import ModelstoreError
from modelstore.wal.files import read_at
from modelstore.wal.layout import (
    DATABASE_HEADER_SIZE,
    DatabaseFault,
    DatabaseHeader,
    DatabaseHeaderError,
)
from modelstore.wal.lossreport import LossReport, ObjectPages
from modelstore.wal.mainfile import MainFile, MainState, compare
from modelstore.wal.overlay import LogPages
from modelstore.wal.ownership import Budget, Ownership, PageRole
from modelstore.wal.pages import View
from modelstore.wal.schema import Schema, read_schema
from modelstore.wal.tableloss import TableComparison, schema_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex

_BUDGET = 65_536  # pages read beyond the log and interior pages, unless `deep`


class Analysis:
    """The database as it is with its log (live) and without (main), and the difference."""

    def __init__(
        self, main: int | None, log: int | None, found: WalScan, index: WalIndex | None
    ) -> None:
        self._main = main
        self._log = log
        self._scan = found
        self._index = index
        self._pages = LogPages(found.page_numbers[: found.committed], found.page_size)
        self._comparison = compare(main, log, found, self._pages)
        self._main_view: View | None = None
        self._main_schema: Schema = {}

    def report(
        self, attempt: int, *, deep: bool, names: tuple[str, str] | None, limit: int
    ) -> LossReport:
        """Return the report; `LossReport.raced` is for the caller to decide."""
        main_file = self._open_main()
        report = LossReport(
            scan=self._scan,
            index=self._index,
            main=main_file,
            raced=False,
            attempts=attempt,
            pages=len(self._pages),
            differing=self._comparison.differing_count,
            held=self._comparison.held,
            pages_read=self._comparison.reads,
        )
        if not self._pages:
            return report
        try:
            live = self._live_view(main_file)
            schema = read_schema(live)
        except ModelstoreError as error:
            return replace(report, unattributed=len(self._pages), live_problem=error.message)
        budget = Budget(None if deep else _BUDGET)
        compared = self._comparison
        ownership = Ownership(
            live, self._pages, schema.values(), compared.differing, compared.unlike_trees
        )
        ownership.attribute(budget)
        if main_file.readable or main_file.state is MainState.ABSENT:
            differ = TableComparison(ownership, self._main_view, self._main_schema, budget)
            report = replace(
                report,
                tables=tuple(differ.tables(names, limit)),
                schema_changes=tuple(schema_changes(schema, self._main_schema)),
            )
        main_reads = self._main_view.reads if self._main_view else 0
        return replace(
            report,
            main=self._with_problem(main_file),
            unattributed=ownership.remaining,
            objects=tuple(self._objects(ownership)),
            live_problem=live.problem,
            pages_read=report.pages_read + live.reads + main_reads,
            ownership=ownership,
        )

    def _live_view(self, main_file: MainFile) -> View:
        page_size = self._scan.page_size
        has_pages_of_log = main_file.page_size in (None, page_size)
        main = self._main if has_pages_of_log else None
        return View(main, page_size, self._scan.page_count, self._log, self._pages)

    # -- the main file alone ---------------------------------------------------------------------

    def _open_main(self) -> MainFile:
        """Look at the main file as if there were no log, as far as its schema."""
        if self._main is None:
            return MainFile(MainState.ABSENT, readable=False, problem="there is no such file")
        size = os.fstat(self._main).st_size
        found = MainFile(MainState.EMPTY, size=size, held_pages=self._comparison.held_pages)
        if size <= 1:  # SQLite takes a file of one byte for an empty one too
            return found
        try:
            header = DatabaseHeader.parse(read_at(self._main, DATABASE_HEADER_SIZE, 0))
        except DatabaseHeaderError as error:
            state = MainState.TORN if error.fault is DatabaseFault.SHORT else MainState.FOREIGN
            return replace(found, state=state, readable=False, problem=error.fault.value)
        found = replace(found, page_size=header.page_size)
        problem = None
        if self._pages and header.page_size != self._scan.page_size:
            problem = f"its pages have {header.page_size} bytes, not {self._scan.page_size}"
        elif header.is_too_new:
            problem = f"it has file format {header.read_version}, which is too new"
        if problem is not None:
            return replace(found, state=MainState.FOREIGN, readable=False, problem=problem)
        return self._open_view(self._main, header, self._judge(found))

    def _judge(self, found: MainFile) -> MainFile:
        folded = self._folded()
        state, commit = self._comparison.judge(folded)
        is_proven = folded is not None and state is not MainState.MIXED
        return replace(found, state=state, commit=commit, is_proven=is_proven)

    def _open_view(self, main: int, header: DatabaseHeader, found: MainFile) -> MainFile:
        """Read the schema; the number of pages is what SQLite takes it for."""
        in_file = -(-found.size // header.page_size)
        count = header.page_count if header.has_valid_page_count else in_file
        found = replace(found, page_count=count)
        if count > in_file:
            if found.state is MainState.CONSISTENT:
                found = replace(found, state=MainState.TORN, commit=None)
            problem = f"it ends after page {in_file} of {count}"
            return replace(found, readable=False, problem=problem)
        try:
            self._main_view = View(main, header.page_size, count)
            self._main_schema = read_schema(self._main_view)
        except ModelstoreError as error:
            return replace(found, readable=False, problem=error.message)
        return found

    def _folded(self) -> int | None:
        """Return how many frames the wal-index proves to be in the main file; None if it cannot."""
        index = self._index
        if index is None or index.backfill != index.backfill_attempted:
            return None
        return index.backfill if index.backfill <= self._scan.committed else None

    def _with_problem(self, main_file: MainFile) -> MainFile:
        """Return `main_file` with what came to light while its tables were compared."""
        problem = self._main_view.problem if self._main_view else None
        if problem is None or not main_file.readable:
            return main_file
        return replace(main_file, readable=False, problem=problem)

    # -- the pages in the log --------------------------------------------------------------------

    def _objects(self, ownership: Ownership) -> Iterator[ObjectPages]:
        """Yield what each object has in the log, then each role of the pages of no object."""
        differing = self._comparison.differing
        totals: defaultdict[tuple[bool, int], Counter[str]] = defaultdict(Counter)
        roles: defaultdict[tuple[bool, int], Counter[PageRole]] = defaultdict(Counter)
        for index, number in enumerate(self._pages):
            place, role = ownership.place_and_role(index)
            key = (place is None, role if place is None else place)
            total = totals[key]
            total["frames"] += self._pages.frame_count(index)
            total["pages"] += 1
            total["differing"] += number in differing
            roles[key][role] += 1
        for key, total in sorted(totals.items()):
            is_list, place = key
            yield ObjectPages(
                object=None if is_list else ownership.objects[place],
                frames=total["frames"],
                pages=total["pages"],
                differing=total["differing"],
                roles=dict(roles[key]),
            )
