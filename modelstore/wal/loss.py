"""Loss report: the rows that would be lost if the ``-wal`` vanished now.

Lays the newest committed version of each page in the log over the main file, finds the table of
each page through the interior b-tree pages, and compares the rows of the pages that differ. The
cost grows with the log and the interior pages, not with the tables.

`analyse_loss` opens and closes descriptors on the database, its ``-wal`` and its ``-shm``. If this
process has the database open in SQLite meanwhile, that drops SQLite's locks and can lose data
(sqlite.org/howtocorrupt.html, section 2.2). Call it before SQLite opens the database, or in
another process.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.errors import ModelstoreError
from modelstore.wal.format import (
    DATABASE_HEADER_SIZE,
    PENDING_BYTE,
    DatabaseFault,
    DatabaseHeader,
    DatabaseHeaderError,
)
from modelstore.wal.loss_report import LossReport, ObjectPages
from modelstore.wal.main_file import MainFile, MainState, compare_main_file
from modelstore.wal.page_owners import PageOwners, PageRole, ReadBudget
from modelstore.wal.pages import DatabaseView, PageSet, PageVersions, main_size, read_main_page
from modelstore.wal.scan import scan_wal
from modelstore.wal.schema import Schema, read_schema
from modelstore.wal.stillness import OpenFiles, Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.progress import Progress
    from modelstore.wal.capture import Capture
    from modelstore.wal.frames import WalScan
    from modelstore.wal.pages import MainSource

_BUDGET = 65_536  # pages to read beyond the log and the interior pages, unless `deep`
_LEARNED = 8_192  # pages of the main file that the next look copies too
_COPIED_AT_ONCE = 16 << 20  # bytes of a log in use, and of its main file
_ATTEMPTS = 12
_PATIENCE = 5.0  # seconds; no further attempt begins after them
_PAUSE = 0.002  # seconds before the second attempt; grows with each one


def analyse_loss(
    db_path: str,
    *,
    wal_path: str | None = None,
    deep: bool = False,
    names: tuple[str, str] | None = None,
    limit: int = 10,
    progress: Progress | None = None,
) -> LossReport:
    """Report the loss if the ``-wal`` of the database at `db_path` vanished now.

    Read the module's warning first. `names` is a table and a column, such as ``("models",
    "name")``, whose texts the report keeps for lost and reverted rows; `limit` is how many keys and
    texts of each kind it keeps. `deep` reads as much of the database as exact figures need;
    otherwise figures that cost more than some 65,000 pages beyond the log are lower bounds.

    A missing database, ``-wal`` or ``-shm`` is a valid answer. Raises `RefusedError` if both the
    database and the log are missing, or if one is not a regular file or cannot be read.
    """
    path = os.path.realpath(db_path)
    log_path = wal_path or path + "-wal"
    deadline = time.monotonic() + _PATIENCE
    wanted: set[int] = set()  # pages of the main file that a look needs, as far as that is known
    doubt: object = None  # damage that the copy before this one showed
    attempt = 0
    while True:
        attempt += 1
        with ExitStack() as stack:
            files = OpenFiles.open(path, log_path, stack)
            copy = None
            if attempt > 1 or files.are_in_use():
                # A quick copy of the pages that a look needs can be looked at in peace.
                wanted = wanted or _roots(files.main)
                copy = _captured(files, wanted, stack, attempt)
            if copy is not None:
                before, scan = copy.stamp, copy.scan(files)
                analysis = _Analysis(copy.main, copy.log, scan, before, progress)
            else:
                before = files.stamp()
                scan = scan_wal(log_path if files.log is None else files.log, progress)
                analysis = _Analysis(files.main, files.log, scan, before, progress)
            report = analysis.report(attempt, deep=deep, names=names, limit=limit)
            needed = analysis.pages_of_main()
            if copy is None:
                settled = before.settles(files.stamp(before)) and not scan.changed_while_reading
            else:
                # Only what two copies show is damage: one may have caught a restart of the log.
                is_damaged = scan.is_damaged_for(before.index)
                seen = (scan.header, scan.valid) if is_damaged else None
                is_whole = not copy.lacks(needed) or before.settles(files.stamp(before))
                settled = is_whole and seen in (None, doubt)
                doubt = seen
        if settled or attempt == _ATTEMPTS or time.monotonic() > deadline:
            return replace(report, raced=not settled)
        if len(needed) <= _LEARNED:  # more is the nonsense of a look in a race
            wanted |= needed
        time.sleep(_PAUSE * attempt)


def _captured(files: OpenFiles, wanted: set[int], stack: ExitStack, attempt: int) -> Capture | None:
    from modelstore.wal.capture import MOST, Capture  # late: few databases are in use

    return Capture.take(files, wanted, stack, MOST if attempt > 1 else _COPIED_AT_ONCE)


def _roots(main: int | None) -> set[int]:
    """Return the roots of all b-trees, as the main file alone names them; none if it is unclear.

    It may be written meanwhile. A root that only the log names is a page of the log.
    """
    with suppress(ModelstoreError):
        header = DatabaseHeader.parse(b"" if main is None else _header_bytes(main))
        view = DatabaseView(main, header.page_size, header.page_count)
        roots = {item.root for item in read_schema(view).values() if item.root > 0}
        if len(roots) <= _LEARNED:
            return roots
    return set()


def _header_bytes(main: MainSource) -> bytes:
    return read_main_page(main, DATABASE_HEADER_SIZE, 1)[:DATABASE_HEADER_SIZE]


# -- one look ------------------------------------------------------------------------------------


class _Analysis:
    """The database with its log (live) and without it (main), and the difference."""

    def __init__(
        self,
        main: MainSource | None,
        log: int | None,
        scan: WalScan,
        stamp: Stamp,
        progress: Progress | None,
    ) -> None:
        self._main = main
        self._log = log
        self._scan = scan
        self._index = stamp.index
        self._leftover_index = stamp.leftover_index
        self._progress = progress
        self._pages = PageVersions(scan.page_numbers[: scan.max_frame], scan.page_size)
        self._comparison = compare_main_file(main, log, scan, self._pages, progress)
        self._live: DatabaseView | None = None
        self._main_view: DatabaseView | None = None
        self._main_schema: Schema = {}
        self._main_header: DatabaseHeader | None = None
        self._beyond: tuple[int, ...] = ()  # pages that the main file holds and does not count

    def report(
        self, attempt: int, *, deep: bool, names: tuple[str, str] | None, limit: int
    ) -> LossReport:
        """Return the report; the caller sets `LossReport.raced`."""
        main_file = self._open_main()
        report = LossReport(
            scan=self._scan,
            index=self._index,
            # After a power cut it may be older than the log: at most one commit is left over.
            ends_cleanly=self._scan.later_commits <= 1 and self._scan.ends_at(self._leftover_index),
            main=main_file,
            raced=False,
            attempts=attempt,
            pages=len(self._pages),
            holds_all_pages=self._holds_all_pages(),
            differing=self._comparison.differing_count,
            held=self._comparison.held,
            pages_read=self._comparison.reads,
        )
        if not self._pages:
            return report
        try:
            live = self._live = self._live_view(main_file)
            schema = read_schema(live)
        except ModelstoreError as error:
            from modelstore.wal.encryption import is_encrypted

            if is_encrypted(self._main, self._log, self._pages):
                return replace(report, unattributed=len(self._pages), encrypted=True)
            return replace(report, unattributed=len(self._pages), live_problem=error.message)
        return self._compared(report, live, schema, deep=deep, names=names, limit=limit)

    def pages_of_main(self) -> set[int]:
        """Return the pages that the views read from the main file."""
        views = (self._live, self._main_view)
        return {number for view in views if view is not None for number in view.from_main}

    def _compared(
        self,
        report: LossReport,
        live: DatabaseView,
        schema: Schema,
        *,
        deep: bool,
        names: tuple[str, str] | None,
        limit: int,
    ) -> LossReport:
        """Return `report` with the owners of the pages, and the tables that change."""
        # Late: most databases are looked at without a log.
        from modelstore.wal.difference import TableComparison, check_indexes, schema_changes
        from modelstore.wal.file_difference import file_differences

        main_file = report.main
        budget = ReadBudget(None if deep else _BUDGET)
        if self._progress is not None:
            self._progress("comparing the rows with and without the log", 0)
        owners = self._find_owners(live, schema, budget)
        objects = tuple(self._objects(owners))
        if main_file.readable or main_file.is_no_database:
            comparison = TableComparison(owners, self._main_view, self._main_schema, budget)
            tables = tuple(comparison.tables(names, limit))
            counts = live.page_count, main_file.page_count
            report = replace(
                report,
                tables=tables,
                schema_changes=tuple(schema_changes(schema, self._main_schema)),
                file_differences=tuple(
                    file_differences(live.header, self._main_header, counts, objects, tables)
                ),
            )
        # "No row differs" must not hide an index that SQLite cannot read without the log.
        has_changes = report.has_row_changes or report.has_schema_changes
        is_suspect = main_file.state is MainState.MIXED or not has_changes
        if self._main_view is not None and is_suspect:
            check_indexes(owners, self._main_view, self._main_schema)
        main_reads = self._main_view.reads if self._main_view else 0
        return replace(
            report,
            main=self._with_problem(main_file),
            unattributed=owners.remaining,
            objects=objects,
            live_problem=live.problem,
            pages_read=report.pages_read + live.reads + main_reads,
            owners=owners,
        )

    def _live_view(self, main_file: MainFile) -> DatabaseView:
        page_size = self._scan.page_size
        has_same_size = main_file.page_size in (None, page_size)
        main = self._main if has_same_size else None
        return DatabaseView(main, page_size, self._scan.page_count, self._log, self._pages)

    def _holds_all_pages(self) -> bool:
        """Return True if the log has every page of the database, so that no main file is needed."""
        count, size = self._scan.page_count, self._scan.page_size
        if not count:
            return False
        has_lock_page = (count - 1) * size >= PENDING_BYTE
        within = bisect_right(self._pages.numbers, count)
        return within + has_lock_page >= count

    def _find_owners(self, live: DatabaseView, schema: Schema, budget: ReadBudget) -> PageOwners:
        compared = self._comparison
        unshared = compared.differing
        if self._beyond:
            unshared = PageSet()
            unshared.add_all([n for n in self._pages if n in compared.differing])
            unshared.add_all(self._beyond)
        owners = PageOwners(live, self._pages, schema.values(), unshared, compared.unlike_trees)
        owners.find(budget)
        return owners

    def _objects(self, owners: PageOwners) -> Iterator[ObjectPages]:
        """Yield the pages of each object in the log, then those of no object by role."""
        differing = self._comparison.differing
        totals: defaultdict[tuple[bool, int], Counter[str]] = defaultdict(Counter)
        roles: defaultdict[tuple[bool, int], Counter[PageRole]] = defaultdict(Counter)
        for index, number in enumerate(self._pages):
            place, role = owners.place_and_role(index)
            key = (place is None, role if place is None else place)
            total = totals[key]
            total["frames"] += self._pages.frame_count(index)
            total["pages"] += 1
            total["differing"] += number in differing
            roles[key][role] += 1
        for key, total in sorted(totals.items()):
            has_no_object, place = key
            yield ObjectPages(
                object=None if has_no_object else owners.objects[place],
                frames=total["frames"],
                pages=total["pages"],
                differing=total["differing"],
                roles=dict(roles[key]),
            )

    # -- the main file alone ---------------------------------------------------------------------

    def _open_main(self) -> MainFile:
        """Describe the main file as if there were no log, and read its schema."""
        if self._main is None:
            return MainFile(MainState.ABSENT, readable=False, problem="there is no such file")
        size = main_size(self._main)
        found = MainFile(MainState.EMPTY, size=size, held_pages=self._comparison.held_pages)
        if size <= 1:  # SQLite treats a file of one byte as empty too
            return found
        try:
            header = DatabaseHeader.parse(_header_bytes(self._main))
        except DatabaseHeaderError as error:
            state = MainState.TORN if error.fault is DatabaseFault.SHORT else MainState.FOREIGN
            return replace(found, state=state, readable=False, problem=error.fault.value)
        found = replace(found, page_size=header.page_size)
        problem = self._why_foreign(header)
        if problem is not None:
            return replace(found, state=MainState.FOREIGN, readable=False, problem=problem)
        return self._open_main_view(self._main, header, self._judge(found))

    def _why_foreign(self, header: DatabaseHeader) -> str | None:
        if self._pages and header.page_size != self._scan.page_size:
            return f"its pages have {header.page_size} bytes, not {self._scan.page_size}"
        if header.is_too_new:
            return f"it has file format {header.read_version}, which is too new"
        return None

    def _judge(self, found: MainFile) -> MainFile:
        backfill = self._proven_backfill()
        state, commit = self._comparison.judge(backfill)
        is_proven = backfill is not None and state is not MainState.MIXED
        return replace(found, state=state, commit=commit, is_proven=is_proven)

    def _proven_backfill(self) -> int | None:
        """Return nBackfill if the wal-index proves that no checkpoint is under way."""
        index = self._index
        if index is None or index.backfill != index.backfill_attempted:
            return None
        return index.backfill if index.backfill <= self._scan.max_frame else None

    def _open_main_view(
        self, main: MainSource, header: DatabaseHeader, found: MainFile
    ) -> MainFile:
        """Read the schema; count the pages as SQLite does."""
        in_file = -(-found.size // header.page_size)
        count = header.page_count if header.has_valid_page_count else in_file
        self._main_header = header
        found = replace(found, page_count=count)
        if count > in_file:
            if found.state is MainState.CONSISTENT:
                found = replace(found, state=MainState.TORN, commit=None)
            where = "within" if found.size % header.page_size else "after"
            problem = f"it ends {where} page {in_file} of {count}"
            return replace(found, readable=False, problem=problem)
        # The log may make up for a page that is cut; if not, it is damage with the log too.
        is_mended = count in self._pages or count > self._scan.page_count > 0
        if found.is_cut and is_mended and found.state is MainState.CONSISTENT:
            found = replace(found, state=MainState.TORN, commit=None, is_proven=False)
        self._beyond = self._copied_beyond(count)
        if self._beyond and found.state is MainState.CONSISTENT:
            found = replace(found, state=MainState.MIXED, commit=None, is_proven=False)
        try:
            cut_page = count if found.is_cut else 0
            self._main_view = DatabaseView(main, header.page_size, count, cut_page=cut_page)
            self._main_schema = read_schema(self._main_view)
        except ModelstoreError as error:
            return replace(found, readable=False, problem=error.message)
        return found

    def _copied_beyond(self, count: int) -> tuple[int, ...]:
        """Return the pages of the log that the main file holds beyond its own `count` of pages.

        A checkpoint that stopped before it wrote page 1 leaves them. Without the log, SQLite calls
        a tree malformed that reaches one.
        """
        differing = self._comparison.differing
        numbers = self._pages.numbers
        within = slice(bisect_right(numbers, count), bisect_right(numbers, self._scan.page_count))
        return tuple(number for number in numbers[within] if number not in differing)

    def _with_problem(self, main_file: MainFile) -> MainFile:
        """Return `main_file` with the first fault that the comparison of its tables met."""
        problem = self._main_view.problem if self._main_view else None
        if problem is None or not main_file.readable:
            return main_file
        return replace(main_file, readable=False, problem=problem)
