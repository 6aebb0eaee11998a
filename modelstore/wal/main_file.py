"""The main file beside its log: which frames it holds, and of which commit it is the state.

A checkpoint copies the newest versions of pages into the main file. While it runs, and for good
if it is killed, the file holds pages of different commits and is whole only with its log.
https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from modelstore.wal.files import read_at
from modelstore.wal.pages import TREE_KINDS, PageSet, PageVersions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.wal.frames import WalScan


class MainState(Enum):
    """What the main file is when the log is taken away; the value is the word of reports."""

    CONSISTENT = "consistent"  # exactly the state after one commit
    MIXED = "mixed"  # of different commits: a checkpoint is running, was cut short or held up
    TORN = "torn"  # it lacks pages, or holds what no commit wrote where one must have been copied
    EMPTY = "empty"  # 0 bytes: SQLite takes it for a new database
    ABSENT = "absent"
    FOREIGN = "foreign"  # no database, or one whose page size is not the log's


@dataclass(frozen=True, slots=True)
class MainFile:
    """The main file alone. `size` and `page_size` are in bytes; None where it has no header.

    `commit` is the commit of the log whose state it is: 0 is the state before the log, None is
    unknown. `is_proven` tells that the wal-index says so too, and not the pages alone. Of the
    pages in the log, `held_pages` are there in some version of the log's. `readable` tells
    whether SQLite could open it without the log, as far as it was read; `problem` why not.
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


@dataclass(frozen=True, slots=True)
class MainComparison:
    """The committed frames against the main file.

    `commits` are the commit frames, `sizes` the database's pages after each, `fitting` the
    commits (0: before the log) of which the main file may be the state, ascending. `held` has one
    byte a frame: 1 where the main file holds that very version of the page. `differing` are the
    pages whose newest version it does not hold, `differing_count` their number; `held_pages`
    counts the pages of which it holds some version that is in the log. The pages `unlike_trees`
    do not begin as those of b-trees do. `reads` counts the pages read from both files.
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

    def judge(self, folded: int | None) -> tuple[MainState, int | None]:
        """Return of which commit the main file is the state, as the pages in the log tell.

        `folded` is nBackfill where a wal-index of this log proves that no checkpoint is under
        way. Even then the file may be MIXED: a checkpoint that a reader holds up leaves out the
        pages that have newer versions in the log, as the next one will copy those.
        """
        last = len(self.held) if folded is None else folded
        if folded is not None and not self._has_all_of(folded):
            return MainState.TORN, None
        commit = self.fitting[bisect_right(self.fitting, bisect_right(self.commits, last)) - 1]
        if self._looks_copied_beyond(commit, last):
            return MainState.MIXED, None
        return MainState.CONSISTENT, commit

    def _has_all_of(self, folded: int) -> bool:
        """Return whether the main file holds each page whose newest version was folded."""
        sizes = self.sizes[max(bisect_right(self.commits, folded) - 1, 0) :]
        smallest = min(sizes, default=0)
        return all(
            self.held[frame - 1]
            for index, number in enumerate(self.pages)
            if (frame := self.pages.last_frame(index)) <= folded and number <= smallest
        )

    def _looks_copied_beyond(self, commit: int, last: int) -> bool:
        """Return whether a checkpoint copied frames of later commits than `commit`, up to `last`.

        A page that the main file holds in such a version may just as well have been written with
        the content that it had before. But checkpoints copy in the order of page numbers: then
        some lower page lacks a version that was the newest for at least as long.
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
        """Return which commit frame `frame` is part of, 1 being the first."""
        return bisect_left(self.commits, frame) + 1


class _Longest:
    """Spans of commits, of which it is asked whether one covers another (a Fenwick tree)."""

    def __init__(self, size: int) -> None:
        self._ends = array("I", bytes(4 * (size + 1)))

    def add(self, first: int, end: int) -> None:
        """Put in the span from `first` (1 or more) up to `end`."""
        while first < len(self._ends):
            self._ends[first] = max(self._ends[first], end)
            first += first & -first

    def covers(self, first: int, end: int) -> bool:
        """Return whether some span that begins at `first` or before reaches `end`."""
        while first > 0:
            if self._ends[first] >= end:
                return True
            first -= first & -first
        return False


def compare_main_file(
    main: int | None, log: int | None, scan: WalScan, pages: PageVersions
) -> MainComparison:
    """Compare every committed frame in `log` with the page in `main` (descriptors)."""
    size = pages.page_size
    held = bytearray(scan.max_frame)
    differing, unlike_trees = PageSet(), PageSet()
    count = held_pages = reads = 0
    timeline = _Timeline(scan)
    for index, number in enumerate(pages):
        frames = pages.frames(index)
        page = b"" if main is None else read_at(main, size, (number - 1) * size)
        reads += 1 + len(frames)
        image = b""
        for frame in frames:
            image = b"" if log is None else read_at(log, size, scan.offset(frame))
            held[frame - 1] = image == page
        if image[:1] not in TREE_KINDS:
            unlike_trees.add(number)
        if not held[frames[-1] - 1]:
            differing.add(number)
            count += 1
        held_pages += any(held[frame - 1] for frame in frames)
        timeline.allow(number, frames, held)
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
    """Counts, for each commit, the pages whose content in the main file fits it.

    Before the first frame of a page, whatever the main file holds there fits: that version is in
    no log. Pages must come in ascending order.
    """

    def __init__(self, scan: WalScan) -> None:
        sizes = scan.commit_sizes
        self.commits = array("I", (f for f in range(1, scan.max_frame + 1) if sizes[f - 1]))
        self._steps = [0] * (len(self.commits) + 2)
        self._pages = 0
        # Commits by the size of the database: those that are too small to have a page do not care
        # what the main file holds there. A page that comes back is always written again.
        self.sizes = array("I", (sizes[frame - 1] for frame in self.commits))
        self._by_size = sorted(range(1, len(self.sizes) + 1), key=lambda k: self.sizes[k - 1])
        self._smaller: list[int] = []

    def allow(self, number: int, frames: Sequence[int], held: bytes | bytearray) -> None:
        """Note for which commits the main file's page `number` is as it must be."""
        self._pages += 1
        for commit in islice(self._by_size, len(self._smaller), None):
            if self.sizes[commit - 1] >= number:
                break
            insort(self._smaller, commit)
        first, fits = 0, True
        for frame in frames:
            end = bisect_left(self.commits, frame) + 1
            self._allow_range(first, end, fits=fits)
            first, fits = end, bool(held[frame - 1])
        self._allow_range(first, len(self.commits) + 1, fits=fits)

    def _allow_range(self, first: int, end: int, *, fits: bool) -> None:
        """Allow commits `first` up to `end`, or those of them after the page was cut off."""
        if not fits:
            at = bisect_left(self._smaller, first)
            first = self._smaller[at] if at < len(self._smaller) else end
        if first < end:
            self._steps[first] += 1
            self._steps[end] -= 1

    def fitting(self) -> Iterator[int]:
        """Yield the commits that fit every page of the log; 0 always does."""
        counts = accumulate(self._steps[: len(self.commits) + 1])
        return (commit for commit, count in enumerate(counts) if count == self._pages)
