"""Tell a log that was left over when its database was restored from a backup.

SQLite folds it silently. A fresh backup has a change counter of 1, so counters prove little; these
are the signs:

- the main file holds no late version of any page of the log, so no checkpoint copied any; and
- the first commit shrinks the database and takes rows away. VACUUM shrinks and takes none, DELETE
  takes rows and shrinks nothing unless auto_vacuum is on, and a reset or a restore through
  SQLite leaves a sign of its own; or
- the main file was written after the last frame of the log, and most rows on the pages of the log
  would vanish or go back. In WAL mode only a checkpoint writes the main file.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from modelstore.errors import ModelstoreError
from modelstore.text import plural
from modelstore.wal.files import read_at
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeader
from modelstore.wal.pages import TABLE_LEAF, DatabaseView, PageSet, PageVersions
from modelstore.wal.schema import read_schema

if TYPE_CHECKING:
    from modelstore.wal.frames import WalScan

_MAX_PAGES = 2_000  # leaves that are counted in each view; a larger database is not judged by rows
_MAX_COMPARED = 200  # pages of the log that are compared with the main file
_MAX_VERSIONS = 8  # of each such page
_LEAVES = (b"\x0a", b"\x0d")  # the first byte of a leaf; bytes 3 and 4 count its cells
_CLOCK = 2_000_000_000  # nanoseconds; a copy of two files writes them one after the other


class OlderLog(NamedTuple):
    """The signs that a log is older than its database: rows before and after a fold."""

    rows_before: int | None
    rows_after: int | None
    pages_before: int
    pages_after: int
    written_after: bool  # the main file was written after the last frame

    def __str__(self) -> str:
        """Say what the fold would do."""
        signs = []
        if self.rows_before is not None and self.rows_after is not None:
            of = "of" if self.rows_after <= self.rows_before else "instead of"
            signs.append(
                f"a fold would leave {self.rows_after:,} {of} {plural(self.rows_before, 'row')}"
            )
        if self.pages_after < self.pages_before:
            signs.append(f"{self.pages_after:,} of {plural(self.pages_before, 'page')}")
        if self.written_after:
            signs.append("the database was written after the log and holds none of it")
        return "the log is older than the database beside it: " + "; ".join(signs)


def find_older_log(header: DatabaseHeader, main: int, log: WalScan, wal: int) -> OlderLog | None:
    """Return the signs that the log is from before the database was restored; None if it is not.

    Cheap for a log that has neither sign: one look at the sizes and times, and at 200 pages.
    """
    first = next((frame for frame, size in enumerate(log.commit_sizes, 1) if size), 0)
    pages_before = os.fstat(main).st_size // header.page_size
    shrinks = 0 < log.commit_sizes[first - 1] < pages_before and not header.largest_root
    is_later = os.fstat(main).st_mtime_ns > os.fstat(wal).st_mtime_ns + _CLOCK
    if not first or not (shrinks or is_later) or _holds_any(main, log, wal):
        return None
    if not is_later and _rewrites_all(header, log, wal, first):
        return None
    before = _count_rows(main, log, None, pages_before, wal)
    at_first = _count_rows(main, log, first, log.commit_sizes[first - 1], wal)
    after = _count_rows(main, log, log.max_frame, log.page_count, wal)
    loses = before is not None and at_first is not None and at_first < before
    goes_back = is_later and _most_goes_back(main, log, wal, before, after)
    if not (shrinks and loses) and not goes_back:
        return None
    return OlderLog(before, after, pages_before, log.page_count, is_later)


def _rewrites_all(header: DatabaseHeader, log: WalScan, wal: int, first: int) -> bool:
    """Tell whether the log begins with a reset of this very database, or a restore into it.

    SQLITE_DBCONFIG_RESET_DATABASE and VACUUM leave one page, whose header has seen one change of
    the schema but has no schema format yet (sqlite.org/c3ref/c_dbconfig_defensive.html). SQLite's
    backup interface writes every page of the new content, and counts the schema on from the old
    one (sqlite.org/c3ref/backup_finish.html).
    """
    size = log.commit_sizes[first - 1]
    pages = set(log.page_numbers[:first])
    if not pages.issuperset(range(1, size + 1)):
        return False
    frame = max(at for at, page in enumerate(log.page_numbers[:first], 1) if page == 1)
    try:
        new = DatabaseHeader.parse(read_at(wal, DATABASE_HEADER_SIZE, log.offset(frame)))
    except ModelstoreError:
        return False
    is_next = (new.change_counter - header.change_counter) % (1 << 32) <= 1
    is_empty = (new.schema_format, new.text_encoding, new.schema_cookie) == (0, 0, 1)
    is_reset = size == 1 and is_empty
    return is_next and (is_reset or new.schema_cookie == (header.schema_cookie + 1) % (1 << 32))


def _holds_any(main: int, log: WalScan, wal: int) -> bool:
    """Tell whether the main file has a late version of any page of rows in the log.

    A checkpoint that a reader holds up copies versions that are not the newest. Other pages, such
    as pointer maps, may be the same in two databases.
    """
    size = log.page_size
    pages = PageVersions(log.page_numbers[: log.max_frame], size)
    for index, page in enumerate(islice(pages, _MAX_COMPARED)):
        ours = read_at(main, size, (page - 1) * size)
        has_rows = page > 1 and ours[:1] in _LEAVES and ours[3:5] != b"\0\0"
        late = pages.frames(index)[-_MAX_VERSIONS:]
        if has_rows and any(ours == read_at(wal, size, log.offset(frame)) for frame in late):
            return True
    return False


def _view(main: int, log: WalScan, upto: int | None, page_count: int, wal: int) -> DatabaseView:
    """Return the database after frame `upto` of the log, or the main file alone."""
    if upto is None:
        return DatabaseView(main, log.page_size, page_count)
    pages = PageVersions(log.page_numbers[:upto], log.page_size)
    return DatabaseView(main, log.page_size, page_count, wal, pages)


def _count_rows(main: int, log: WalScan, upto: int | None, pages: int, wal: int) -> int | None:
    """Count the rows of all tables with rowids; None for a database too large or malformed."""
    if pages > _MAX_PAGES:
        return None
    total = 0
    try:
        view = _view(main, log, upto, pages, wal)
        seen = PageSet()
        for item in read_schema(view).values():
            if item.type != "table" or not item.root or item.root == 1:
                continue
            tree = view.tree(item.root, seen)
            if tree.has_rowids:
                total += sum(len(view.btree_page(number).cells) for number in tree.leaves)
    except ModelstoreError:
        return None
    return total


def _most_goes_back(
    main: int, log: WalScan, wal: int, before: int | None, after: int | None
) -> bool:
    """Tell whether most rows of the database, or of the pages in the log, would not survive."""
    if before is not None and after is not None and after * 2 < before:
        return True
    kept = total = 0
    latest = log.latest()
    try:
        alone = _view(main, log, None, os.fstat(main).st_size // log.page_size, wal)
        both = _view(main, log, log.max_frame, log.page_count, wal)
        for page in sorted(latest)[:_MAX_COMPARED]:
            if page == 1 or page > min(alone.page_count, both.page_count):
                continue
            ours, theirs = alone.btree_page(page), both.btree_page(page)
            if ours.kind == theirs.kind == TABLE_LEAF:
                cells = set(both.cells(theirs))
                mine = list(alone.cells(ours))
                total += len(mine)
                kept += sum(cell in cells for cell in mine)
    except ModelstoreError:
        return False  # pages of another kind: only the counts tell
    return total > 0 and kept * 2 < total
