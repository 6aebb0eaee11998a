"""Comparison of the main file with its log: the frames it holds, and the commit whose state it is.

A checkpoint copies the newest versions of pages into the main file. While it runs, or after it was
killed, the file holds pages of different commits and is whole only with its log.
https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING

from modelstore.wal.files import read_at
from modelstore.wal.pages import TREE_KINDS, PageSet, PageVersions, read_main_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.progress import Progress
    from modelstore.wal.frames import WalScan
    from modelstore.wal.pages import MainSource

_TELL_EVERY = 256  # pages


class MainState(Enum):
    """The state of the main file without its log; the value is the word in reports."""

    CONSISTENT = "consistent"  # the state after one commit
    MIXED = "mixed"  # pages of several commits: a checkpoint runs, was killed or was held up
    TORN = "torn"  # pages are missing, or have content that no commit wrote
    EMPTY = "empty"  # 0 bytes: SQLite takes it for a new database
    ABSENT = "absent"
    FOREIGN = "foreign"  # no database, or its page size differs from the log's


@dataclass(frozen=True, slots=True)
class MainFile:
    """The main file alone. `size` and `page_size` are in bytes; None without a valid header.

    `commit` is the commit of the log whose state the file has: 0 is the state before the log, None
    is unknown. `is_proven` is True if the wal-index confirms the state that the pages show.
    `held_pages` counts the pages of the log that the file holds in any version of the log.
    `readable` is True if SQLite could open the file without the log; otherwise `problem` says why.
    """

    state: MainState
    size: int = 0
    page_size: int | None = None
    page_count: int = 0
    commit: int | None = None
    is_proven: bool = False
    held_pages: int = 0
    readable: bool = True
    problem: str | None = None

    @property
    def is_cut(self) -> bool:
        """True if the file ends within its last page, or before it."""
        return self.size < self.page_count * (self.page_size or 0)

    @property
    def is_no_database(self) -> bool:
        """True if the file is missing, empty, or holds no database that the log belongs to."""
        return self.state in (MainState.ABSENT, MainState.EMPTY, MainState.FOREIGN)


@dataclass(frozen=True, slots=True)
class MainComparison:
    """The committed frames compared with the main file.

    `commits` are the commit frames, `sizes` the database's pages after each; `fitting` are the
    commits (0: before the log) whose state the main file may have, ascending. `held` has one byte
    for each frame: 1 if the main file holds this version of the page. `differing` are the pages
    whose newest version it lacks, `differing_count` their number; `held_pages` counts the pages
    that it holds in any version of the log. `unlike_trees` are the pages that do not begin like
    b-tree pages. `reads` counts the pages read from both files.
    """

    pages: PageVersions
    commits: array[int]
    sizes: array[int]
    fitting: tuple[int, ...]
    held: bytes
    differing: PageSet
    differing_count: int
    unlike_trees: PageSet
    held_pages: int
    reads: int

    def judge(self, backfill: int | None) -> tuple[MainState, int | None]:
        """Return the state of the main file, and the commit it shows if it is CONSISTENT.

        `backfill` is nBackfill if a wal-index of this log proves that no checkpoint is under way.
        Even then the file may be MIXED: a checkpoint that a reader holds up skips the pages with
        newer versions in the log, because the next checkpoint copies those.
        """
        last = len(self.held) if backfill is None else backfill
        if backfill is not None and not self._has_all_of(backfill):
            return MainState.TORN, None
        commit = self.fitting[bisect_right(self.fitting, bisect_right(self.commits, last)) - 1]
        if self._looks_copied_beyond(commit, last):
            return MainState.MIXED, None
        return MainState.CONSISTENT, commit

    def _has_all_of(self, backfill: int) -> bool:
        """Return True if the main file holds each page whose newest version was copied."""
        sizes = self.sizes[max(bisect_right(self.commits, backfill) - 1, 0) :]
        smallest = min(sizes, default=0)
        return all(
            self.held[frame - 1]
            for index, number in enumerate(self.pages)
            if (frame := self.pages.last_frame(index)) <= backfill and number <= smallest
        )

    def _looks_copied_beyond(self, commit: int, last: int) -> bool:
        """Return True if a checkpoint copied frames up to `last` of commits after `commit`.

        A page in a later version does not prove it: a commit may write a page with the content it
        had before. But checkpoints copy in the order of page numbers, so without a checkpoint some
        lower page lacks a version that was the newest for at least as long.
        """
        start = self.commits[commit - 1] if commit else 0
        lacking = _Longest(len(self.commits) + 1)
        for index in range(len(self.pages)):
            frames = self.pages.frames(index)
            for at in range(bisect_right(frames, start), len(frames)):
                first = self._commit_of(frames[at])
                is_last = at + 1 == len(frames)
                end = len(self.commits) + 1 if is_last else self._commit_of(frames[at + 1])
                if not self.held[frames[at] - 1]:
                    lacking.add(first, end)
                elif frames[0] > start and frames[at] <= last and not lacking.covers(first, end):
                    return True
        return False

    def _commit_of(self, frame: int) -> int:
        """Return the number of the commit, from 1, that frame `frame` belongs to."""
        return bisect_left(self.commits, frame) + 1


class _Longest:
    """Spans of commits, with a fast test if one of them covers another span (a Fenwick tree)."""

    def __init__(self, size: int) -> None:
        self._ends = array("I", bytes(4 * (size + 1)))

    def add(self, first: int, end: int) -> None:
        """Add the span from `first` (1 or more) up to `end`."""
        while first < len(self._ends):
            self._ends[first] = max(self._ends[first], end)
            first += first & -first

    def covers(self, first: int, end: int) -> bool:
        """Return True if a span that begins at `first` or before reaches `end`."""
        while first > 0:
            if self._ends[first] >= end:
                return True
            first -= first & -first
        return False


def compare_main_file(
    main: MainSource | None,
    log: int | None,
    scan: WalScan,
    pages: PageVersions,
    progress: Progress | None = None,
) -> MainComparison:
    """Compare every committed frame in `log`, a descriptor, with its page in the main file."""
    size = pages.page_size
    held = bytearray(scan.max_frame)
    differing, unlike_trees = PageSet(), PageSet()
    count = held_pages = reads = 0
    timeline = _Timeline(scan)
    for index, number in enumerate(pages):
        if progress is not None and index % _TELL_EVERY == 0:
            progress("comparing the log with the main file", index, len(pages), "pages")
        frames = pages.frames(index)
        page = b"" if main is None else read_main_page(main, size, number)
        reads += 1 + len(frames)
        image = b""
        for frame in frames:
            image = b"" if log is None else read_at(log, size, scan.offset(frame))
            held[frame - 1] = image == page
        if image[:1] not in TREE_KINDS:
            unlike_trees.add(number)
        # A page beyond the end of the database is not copied, and not missed.
        if not held[frames[-1] - 1] and number <= scan.page_count:
            differing.add(number)
            count += 1
        held_pages += any(held[frame - 1] for frame in frames)
    for index in range(len(pages) - 1, -1, -1):
        timeline.allow(pages.numbers[index], pages.frames(index), held)
    return MainComparison(
        pages,
        timeline.commits,
        timeline.sizes,
        tuple(timeline.fitting()),
        bytes(held),
        differing,
        count,
        unlike_trees,
        held_pages,
        reads,
    )


class _Timeline:
    """For each commit, the number of pages whose content in the main file fits it.

    Any content fits a commit before the first frame of the page: no log has that version. Add
    pages in descending order: the commits without the page then only ever become fewer, and a walk
    that skips those that are gone takes linear time in all.
    """

    def __init__(self, scan: WalScan) -> None:
        sizes = scan.commit_sizes
        self.commits = array("I", (f for f in range(1, scan.max_frame + 1) if sizes[f - 1]))
        self._steps = [0] * (len(self.commits) + 2)
        self._pages = 0
        # Commits by the size of the database. Any content fits a commit whose database is too small
        # to have the page; a page that comes back is always written again.
        self.sizes = array("I", (sizes[frame - 1] for frame in self.commits))
        self._by_size = sorted(range(1, len(self.sizes) + 1), key=lambda k: self.sizes[k - 1])
        # For each commit, itself or a later one that may be the next without the page.
        self._next_smaller = array("I", range(len(self.sizes) + 2))

    def allow(self, number: int, frames: Sequence[int], held: bytes | bytearray) -> None:
        """Count the main file's page `number` for the commits that it fits."""
        self._pages += 1
        while self._by_size and self.sizes[self._by_size[-1] - 1] >= number:
            commit = self._by_size.pop()
            self._next_smaller[commit] = commit + 1
        first, fits = 0, True
        for frame in frames:
            end = bisect_left(self.commits, frame) + 1
            self._allow_range(first, end, fits=fits)
            first, fits = end, bool(held[frame - 1])
        self._allow_range(first, len(self.commits) + 1, fits=fits)

    def _allow_range(self, first: int, end: int, *, fits: bool) -> None:
        """Allow commits `first` up to `end`, or only those without the page unless it `fits`."""
        if not fits:
            first = self._first_smaller(first)
        if first < end:
            self._steps[first] += 1
            self._steps[end] -= 1

    def _first_smaller(self, commit: int) -> int:
        """Return the first commit from `commit` on whose database is too small for the page."""
        following = self._next_smaller
        commit = max(commit, 1)
        while following[commit] != commit:
            following[commit] = following[following[commit]]  # halve the path for the next walk
            commit = following[commit]
        return commit

    def fitting(self) -> Iterator[int]:
        """Yield the commits that fit every page of the log; 0 always does."""
        counts = accumulate(self._steps[: len(self.commits) + 1])
        return (commit for commit, count in enumerate(counts) if count == self._pages)
