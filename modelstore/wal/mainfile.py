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
from itertools import accumulate
from typing import TYPE_CHECKING

from modelstore.wal.files import read_at
from modelstore.wal.overlay import LogPages, PageSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.wal.frames import WalScan


class MainState(Enum):
    """What the main file is when the log is taken away; the value is the word of reports."""

    CONSISTENT = "consistent"  # exactly the state after one commit
    MIXED = "mixed"  # pages of different commits: a checkpoint is running, or was cut short
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
class Comparison:
    """The committed frames against the main file.

    `commits` are the commit frames, `fitting` the commits (0: before the log) of which the main
    file may be the state, ascending. `held` has one byte a frame: 1 where the main file holds
    that very version of the page. `differing` are the pages whose newest version it does not
    hold, `differing_count` their number; `held_pages` counts the pages of which it holds some
    version that is in the log. `reads` counts pages read from both files.
    """

    pages: LogPages
    commits: array[int]
    fitting: tuple[int, ...]
    held: bytes
    differing: PageSet
    differing_count: int
    held_pages: int
    reads: int

    def judge(self, folded: int | None) -> tuple[MainState, int | None]:
        """Return of which commit the main file is the state, as the pages in the log tell.

        `folded` is nBackfill where a wal-index of this log proves that no checkpoint is under
        way. Without it, a page that a checkpoint copied looks like one that a transaction wrote
        with the content it had; the order in which checkpoints copy tells them apart.
        """
        commit = self.fitting[-1]
        if folded is not None:
            commit = bisect_right(self.commits, folded)
            is_as_folded = commit in self.fitting
            return (MainState.CONSISTENT, commit) if is_as_folded else (MainState.TORN, None)
        if self._looks_copied_beyond(commit):
            return MainState.MIXED, None
        return MainState.CONSISTENT, commit

    def _looks_copied_beyond(self, commit: int) -> bool:
        """Return whether a checkpoint to some later commit may have begun.

        Checkpoints copy in the order of page numbers: if one has copied anything, the lowest page
        that changed from `commit` to its target is as it is at the target.
        """
        start = self.commits[commit - 1] if commit else 0
        targets_end = len(self.commits) + 1  # the targets whose lowest page is still to be seen
        for index in range(len(self.pages)):
            frames = self.pages.frames(index)
            at = bisect_right(frames, start)
            if at == len(frames):
                continue
            first = self._commit_of(frames[at])
            is_held = False
            for place in range(at, len(frames)):
                begin = self._commit_of(frames[place])
                end = (
                    self._commit_of(frames[place + 1])
                    if place + 1 < len(frames)
                    else len(self.commits) + 1
                )
                is_held |= bool(self.held[frames[place] - 1]) and begin < min(end, targets_end)
            if is_held and at == 0:
                return True
            if not is_held:
                targets_end = min(targets_end, first)
        return False

    def _commit_of(self, frame: int) -> int:
        """Return which commit frame `frame` is part of, 1 being the first."""
        return bisect_left(self.commits, frame) + 1


def compare(main: int | None, log: int | None, scan: WalScan, pages: LogPages) -> Comparison:
    """Compare every committed frame in `log` with the page in `main` (descriptors)."""
    size = pages.page_size
    held = bytearray(scan.committed)
    differing = PageSet()
    count = held_pages = reads = 0
    timeline = _Timeline(scan)
    for index, number in enumerate(pages):
        frames = pages.frames(index)
        page = b"" if main is None else read_at(main, size, (number - 1) * size)
        reads += 1 + len(frames)
        for frame in frames if len(page) == size else ():
            image = b"" if log is None else read_at(log, size, scan.offset(frame))
            held[frame - 1] = image == page
        if not held[frames[-1] - 1]:
            differing.add(number)
            count += 1
        held_pages += any(held[frame - 1] for frame in frames)
        timeline.allow(number, frames, held)
    return Comparison(
        pages,
        timeline.commits,
        tuple(timeline.fitting()),
        bytes(held),
        differing,
        count,
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
        self.commits = array("I", (f for f in range(1, scan.committed + 1) if sizes[f - 1]))
        self._steps = [0] * (len(self.commits) + 2)
        self._pages = 0
        # Commits by the size of the database: those that are too small to have a page do not care
        # what the main file holds there. A page that comes back is always written again.
        after = [sizes[frame - 1] for frame in self.commits]
        self._by_size = sorted(range(1, len(after) + 1), key=lambda commit: after[commit - 1])
        self._sizes = sorted(after)
        self._smaller: list[int] = []

    def allow(self, number: int, frames: Sequence[int], held: bytes | bytearray) -> None:
        """Note for which commits the main file's page `number` is as it must be."""
        self._pages += 1
        for at in range(len(self._smaller), len(self._sizes)):
            if self._sizes[at] >= number:
                break
            insort(self._smaller, self._by_size[at])
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
