"""Tell whether the -wal beside a database is its own log, and still the one in use.

SQLite checks only the checksums of a log. It silently replays a log that was left over when a
backup was restored, or that was copied beside the wrong database.
"""

from __future__ import annotations

import os
import time
from itertools import chain, compress, filterfalse
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.holders import SHARED_FIRST
from modelstore.database.older_log import OlderLog, find_older_log
from modelstore.errors import ModelstoreError, RefusedError
from modelstore.text import process_name, visible
from modelstore.wal.files import read_at
from modelstore.wal.format import (
    DATABASE_HEADER_SIZE,
    PENDING_BYTE,
    WAL_HEADER_SIZE,
    DatabaseHeader,
    frame_size,
)
from modelstore.wal.freelist import freelist
from modelstore.wal.index import contradicts, read_index
from modelstore.wal.locks import attached_processes, conflicting_lock, read_lock_table
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    DatabaseView,
    PageSet,
    PageVersions,
    Tree,
)
from modelstore.wal.processes import describe_process
from modelstore.wal.schema import read_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modelstore.database.files import HeldFiles
    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex
    from modelstore.wal.schema import SchemaObject

_MAX_READS = 3_000  # pages, most of them interior ones: of a table of 3 to 5 GB
_MAX_LEAVES = 500  # of one b-tree
_MAX_FRAMES = 1_000  # frames from each end of a log in use
_MAX_FOLDED = 50  # folded pages that are compared
_ROOM = 65536  # bytes that a main file may lack besides the pages of the log
_LOOKS = 3
_LONG_PAUSES = (0.0, 0.005, 0.02, 0.05, 0.1)
_PAUSE = 0.005  # seconds between looks; a restart of the log takes microseconds
_NOTHING: frozenset[int] = frozenset()


class _EnoughError(Exception):
    """The look has read as many pages as it may."""


class BoundedView(DatabaseView):
    """A view of a database that raises once `misfit` has read enough of it."""

    def page(self, number: int) -> bytes:
        """Return the bytes of page `number`."""
        if self.reads >= _MAX_READS:
            raise _EnoughError
        return super().page(number)

    def not_whole(self) -> Iterator[int]:
        """Yield the pages behind the last whole one of the main file that the log lacks.

        Leaves out the page that SQLite never uses (sqlite.org/fileformat2.html#lock_byte_page).
        """
        behind = range(self._main_pages + 1, self.page_count + 1)
        in_log = self._log_pages.contains if self._log_pages is not None else _NOTHING.__contains__
        lock_page = PENDING_BYTE // self.page_size + 1
        return (number for number in filterfalse(in_log, behind) if number != lock_page)


def misfit(open_view: Callable[[], BoundedView], pages: PageVersions) -> tuple[str | None, bool]:
    """Return the first thing that is wrong with a database, and whether all of it was looked at.

    Checks the end of the main file, the schema, the first page of each table and index, the shape
    of the b-trees, the freelist, the order of the rows where `pages` meet other pages, and then
    every leaf. Ends after 3,000 pages.
    """
    seen = PageSet()
    trees = []
    try:
        view = open_view()
        _check_end(view)
        objects = [item for item in read_schema(view).values() if item.root]
        for item in sorted(objects, key=lambda item: item.root not in pages):
            _check_root(view, item)
            tree = view.tree(item.root, seen)
            _check_leaves(view, tree, pages)
            trees.append(tree)
        for trunk, leaves in freelist(view):
            for number in (trunk, *leaves):
                if not seen.add(number):
                    return f"page {number} is part of a b-tree and of the freelist", False
        for tree in trees:
            _check_every_leaf(view, tree)
    except ModelstoreError as error:
        return error.message, False
    except _EnoughError:
        return None, False
    return None, True


def _check_end(view: BoundedView) -> None:
    """Check that each page that the main file lacks, in whole or in part, is in the log or free.

    No look at b-trees finds an overflow page that is cut, and SQLite reads zeros for it. Nobody
    reads a leaf of the freelist, and SQLite may never write one at the end of a database.
    """
    lacking = view.not_whole()
    first = next(lacking, None)
    if first is None:
        return
    free = PageSet()
    for _, leaves in freelist(view):
        free.add_all(leaves)
    in_use = next(filterfalse(free.fastest_test(), chain((first,), lacking)), None)
    if in_use is not None:
        view.page(in_use)  # raises: no file has it


def _check_root(view: DatabaseView, item: SchemaObject) -> None:
    is_index = view.btree_page(item.root).kind in (INDEX_INTERIOR, INDEX_LEAF)
    must_be_index = item.type == "index"
    may_be_index = must_be_index or "ROWID" in item.sql.upper()  # WITHOUT ROWID
    if is_index > may_be_index or is_index < must_be_index:
        name = visible(item.name, 100)
        raise view.corrupt(f"page {item.root} cannot be the first of {item.type} {name}")


def _check_every_leaf(view: DatabaseView, tree: Tree) -> None:
    kind = TABLE_LEAF if tree.has_rowids else INDEX_LEAF
    for number in tree.leaves:
        for _ in view.cells(view.tree_page(number, kind, tree.root)):
            pass


def _check_leaves(view: DatabaseView, tree: Tree, pages: PageVersions) -> None:
    """Check kind and order of the leaves where a page of the log meets one of the file."""
    last = None
    met = list(_meeting(view, tree, pages))
    for number in met[:: len(met) // _MAX_LEAVES + 1]:
        kind = TABLE_LEAF if tree.has_rowids else INDEX_LEAF
        page = view.tree_page(number, kind, tree.root)
        if tree.has_rowids and page.cells:
            if last is not None and view.rowid(page, 0) <= last:
                raise view.corrupt(f"page {number} has rowids out of order")
            last = view.rowid(page, len(page.cells) - 1)


def _meeting(view: DatabaseView, tree: Tree, pages: PageVersions) -> Iterator[int]:
    """Yield the leaves beside or below a page of another origin, in the order of their keys."""
    if not tree.interiors:
        return  # the root alone
    below = PageSet()
    for number in filter(pages.contains, tree.interiors):
        below.add_all(view.btree_page(number).children())
    # There may be a million leaves, so all work on a single one is done in C.
    in_log = bytes(map(pages.contains, tree.leaves))
    is_below = bytes(map(below.__contains__, tree.leaves))
    if 0 not in in_log and 0 not in is_below:
        return
    meets_parent = map(ne, in_log, is_below)
    meets_before = map(ne, in_log, in_log[:1] + in_log)
    meets_after = map(ne, in_log, in_log[1:] + in_log[-1:])
    yield from compress(
        tree.leaves, map(any, zip(meets_parent, meets_before, meets_after, strict=False))
    )


class LogVerdict(NamedTuple):
    """The judgement of a log beside a database; each field is None where there is no fault.

    `foreign` is why the log cannot belong to the database, `older` the signs that it was left over
    when the database was restored, `malformed` what is wrong with both together and with the
    database alone. `is_whole_checked` tells whether all pages were looked at.
    """

    foreign: str | None = None
    older: OlderLog | None = None
    malformed: str | None = None
    is_whole_checked: bool = False

    @property
    def fits(self) -> bool:
        """True if the bytes show that the two may belong together."""
        return self.foreign is None and self.malformed is None


def judge_log(header: DatabaseHeader | None, main: int, log: WalScan, wal: int) -> LogVerdict:
    """Judge whether a log may be folded into the database with `header`.

    `main` and `wal` are descriptors of the two files. Each reason for `foreign` is a contradiction,
    not a guess: leaving WAL mode removes the log; a transaction that changes the number of pages
    writes page 1; the change counter on page 1 never falls, and grows by one at a time from its
    value in the database; and a log that makes a sound database malformed was not written for it
    (sqlite.org/fileformat2.html#file_change_counter).
    """
    if header is None or not log.max_frame:
        return LogVerdict()
    if not header.is_wal:
        return LogVerdict(foreign="the database is not in WAL mode, yet its log has commits")
    committed = log.page_numbers[: log.max_frame]
    frames = [number for number, page in enumerate(committed, 1) if page == 1]
    why = None
    if frames:
        why = _why_other_header(header, log, wal, frames[0], frames[-1])
    elif header.has_valid_page_count and header.page_count != log.page_count:
        why = (
            f"the log is of a database of {log.page_count:,} pages, "
            f"this one has {header.page_count:,}"
        )
    if why is not None:
        return LogVerdict(foreign=why)
    pages = PageVersions(committed, log.page_size)
    problem, is_whole = misfit(
        lambda: BoundedView(main, log.page_size, log.page_count, wal, pages), pages
    )
    problem = problem if problem is not None else _too_short(main, log)
    if problem is None:
        return LogVerdict(older=find_older_log(header, main, log, wal), is_whole_checked=is_whole)
    alone, _ = check_main(header, main, pages)
    if alone is None:
        return LogVerdict(foreign=f"with it the database is malformed: {problem}")
    return LogVerdict(malformed=problem)


def _too_short(main: int, log: WalScan) -> str | None:
    """Say that a main file lacks so many pages that SQLite refuses to fold the log into it.

    No log extends a file by more than the pages that it holds, but for some room around the lock
    page; SQLite calls such a file malformed (walCheckpoint in sqlite.org/src/file/src/wal.c).
    """
    size, wanted = os.fstat(main).st_size, log.page_count * log.page_size
    if size + _ROOM + log.max_frame * log.page_size >= wanted:
        return None
    return f"it has {size:,} of {wanted:,} bytes, and SQLite folds no log into so short a file"


def check_main(
    header: DatabaseHeader, main: int, pages: PageVersions | None = None
) -> tuple[str | None, bool]:
    """Return the fault that `misfit` finds in the main file alone."""
    in_file = os.fstat(main).st_size // header.page_size
    count = header.page_count if header.has_valid_page_count else in_file
    none = PageVersions((), header.page_size)
    return misfit(lambda: BoundedView(main, header.page_size, count), pages or none)


def _why_other_header(
    header: DatabaseHeader, log: WalScan, wal: int, first_frame: int, last_frame: int
) -> str | None:
    """Compare the header of the database with the first and the last one in the log.

    The text encoding and the reserved bytes may differ: a restore through SQLite, or a VACUUM,
    changes them in the log.
    """
    try:
        first, last = (
            DatabaseHeader.parse(read_at(wal, DATABASE_HEADER_SIZE, log.offset(frame)))
            for frame in (first_frame, last_frame)
        )
    except RefusedError as error:
        return f"page 1 in the log is no database header: {error.message}"
    # A restore, or a VACUUM, may change these two, but writes every page then.
    may_change = () if _holds_all_pages(log) else ("reserved", "text_encoding")
    for field in ("page_size", *may_change):
        before, after = getattr(header, field), getattr(last, field)
        if field == "text_encoding":
            before, after = before & 3, after & 3  # all that SQLite reads of it
        if before != after and before:
            return f"the log has another {field.replace('_', ' ')}: {after}, not {before}"
    if _is_before(last.change_counter, header.change_counter):
        return (
            f"the log is older than the database: it ends with change {last.change_counter:,}, "
            f"the database has seen change {header.change_counter:,}"
        )
    if _is_before(header.change_counter + 1, first.change_counter):
        return (
            f"the database is older than the log: it has seen change {header.change_counter:,}, "
            f"the log begins with change {first.change_counter:,}"
        )
    return None


def _holds_all_pages(log: WalScan) -> bool:
    pages = {page for page in log.page_numbers[: log.max_frame] if page <= log.page_count}
    has_lock_page = (log.page_count - 1) * log.page_size >= PENDING_BYTE
    return len(pages) + has_lock_page >= log.page_count


def _is_before(one: int, other: int) -> bool:
    """Tell whether one change counter is before another; they wrap."""
    return (one - other) % (1 << 32) >= 1 << 31


def log_is_gone(held: HeldFiles, shm: int) -> bool:
    """Tell whether the -wal was deleted, emptied or replaced while processes have it open.

    SQLite keeps a -wal as long as a process is attached. It writes frames to the file before it
    enters them in the wal-index, and on a restart it changes the index before the file. If the
    files contradict that in three looks, somebody else changed them.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        if not _contradicts(held, shm):
            return False
    return bool(attached_processes(shm))


def _contradicts(held: HeldFiles, shm: int) -> bool:
    return not os.path.lexists(held.path + "-wal") or contradicts(shm, held.open("-wal"))


def unseen_user(held: HeldFiles, seen: Iterable[int]) -> str | None:
    """Name a process that keeps the database open and not the index at the path; None if none does.

    Who has the log open has a lock on the database and one on the index, all the time. The kernel
    tells of both, even where the files of the process may not be seen. Leaves out the processes
    that are `seen`, and asks again: who leaves WAL mode has the one without the other for a while.
    """
    strangers: set[int | None] = set()
    for look, pause in enumerate(_LONG_PAUSES):
        time.sleep(pause)
        shm = held.open("-shm")
        attached = {user.pid for user in attached_processes(shm)} if shm is not None else set()
        now = _lockers(held.db, is_alone=not attached) - attached - {os.getpid(), *seen}
        strangers = now if not look else strangers & now
        if not strangers:
            return None
    pid = next((pid for pid in strangers if pid is not None), None)
    if pid is None:
        return "a process that the kernel hides"
    return process_name(pid, visible(describe_process(pid).command, 200))


def _lockers(main: int, *, is_alone: bool) -> set[int | None]:
    """Return the processes that have SQLite's lock on a database; None is a hidden one.

    The kernel tells of one hidden process only if none that it shows is in its way.
    """
    table = [lock for lock in read_lock_table(main) or () if lock.end >= SHARED_FIRST]
    conflict = conflicting_lock(main, SHARED_FIRST)
    if conflict is not None and (is_alone or conflict.pid is not None):
        table.append(conflict)
    return {lock.pid for lock in table if lock.kind == "POSIX" and not lock.waiting}


def why_overwritten(held: HeldFiles, shm: int) -> str | None:
    """Return why the database cannot be the one whose log is in use; None if it may be.

    A backup copied over a database in use keeps the inode, and so the log and everybody's locks.
    The header contradicts the live log then, in three looks at moments when nothing moves.
    """
    why = None
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        why = _header_contradicts(held, shm)
        if why is None:
            return None
    return why if attached_processes(shm) else None


def _header_contradicts(held: HeldFiles, shm: int) -> str | None:
    before = read_index(shm)
    wal = held.open("-wal")
    if before is None or not before.is_settled or wal is None:
        return None
    try:
        header = DatabaseHeader.parse(read_at(held.db, DATABASE_HEADER_SIZE, 0))
    except RefusedError as error:
        return f"page 1 is no database header: {error.message}"
    why = _times_contradict(held.db, wal, before) or _pages_contradict(held.db, wal, before)
    if why is None and before.pending:
        why = _counters_contradict(header, before, wal)
    is_counted = not before.pending and before.page_count > 0 and header.has_valid_page_count
    if is_counted and header.page_count != before.page_count:
        why = f"it has {header.page_count:,} pages, its users know {before.page_count:,}"
    after = read_index(shm)
    is_still = after is not None and (after.salt, after.max_frame, after.backfill_attempted) == (
        before.salt,
        before.max_frame,
        before.backfill_attempted,
    )
    return why if is_still else None


def _times_contradict(main: int, wal: int, index: WalIndex) -> str | None:
    """Compare the times: only a checkpoint writes the main file, so until one the log is newer.

    A time that is still to come says that the clock was set back.
    """
    if index.backfill_attempted or not index.pending:
        return None
    written = os.fstat(main).st_mtime_ns
    if written <= os.fstat(wal).st_mtime_ns or written > time.time_ns():
        return None
    return (
        "its file has a later time than its log, and no checkpoint was attempted (if something set "
        "that time alone, the next commit of its application clears this)"
    )


def _pages_contradict(main: int, wal: int, index: WalIndex) -> str | None:
    """Compare the pages whose newest frame is folded: the main file must have them."""
    size = index.page_size
    first = max(0, index.backfill - _MAX_FRAMES)
    if not index.backfill or index.max_frame - first > 2 * _MAX_FRAMES:
        return None
    newest = {}
    for frame in range(first + 1, index.max_frame + 1):
        offset = WAL_HEADER_SIZE + (frame - 1) * frame_size(size)
        page = int.from_bytes(read_at(wal, 4, offset), "big")
        if not page:
            return None  # the log was emptied just now
        newest[page] = frame
    folded = [(page, frame) for page, frame in newest.items() if 0 < frame <= index.backfill]
    for page, frame in folded[-_MAX_FOLDED:]:
        offset = WAL_HEADER_SIZE + (frame - 1) * frame_size(size) + 24
        if read_at(wal, size, offset) == read_at(main, size, (page - 1) * size):
            return None
    return "it holds none of the pages that were folded into it" if folded else None


def _counters_contradict(header: DatabaseHeader, index: WalIndex, wal: int) -> str | None:
    """Compare change counters with the first and the last page 1 in the log, if they are near."""
    size = frame_size(index.page_size)

    def counter(frames: Iterable[int]) -> int | None:
        for frame in frames:
            offset = WAL_HEADER_SIZE + (frame - 1) * size
            raw = read_at(wal, 24 + DATABASE_HEADER_SIZE, offset)
            if raw[:4] == b"\0\0\0\1":
                return int.from_bytes(raw[48:52], "big")  # bytes 24 to 27 of the page
        return None

    last = index.max_frame
    newest = counter(range(last, max(0, last - _MAX_FRAMES), -1))
    first = counter(range(1, min(last, _MAX_FRAMES) + 1))
    if newest is not None and _is_before(newest, header.change_counter):
        return f"it has seen change {header.change_counter:,}, the log ends with {newest:,}"
    if first is not None and _is_before(header.change_counter + 1, first):
        return f"it has seen change {header.change_counter:,}, the log begins with {first:,}"
    return None
