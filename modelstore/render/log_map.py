"""The map of a log: its frames in a few hundred bins, by table, with commits, marks and damage.

A terminal and a page draw the same map. Its size follows from the bins and lanes that a drawing
has room for, never from the log.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.text import plural
from modelstore.wal.frames import COMMITS, FrameState
from modelstore.wal.page_owners import PageRole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.inspection import Inspection
    from modelstore.wal.locks import Blocker
    from modelstore.wal.page_owners import PageOwners

_LIST_ROLES = (PageRole.TRUNK, PageRole.FREE)


@dataclass(frozen=True, slots=True)
class Lane:
    """The frames of one table or index, or of one state beyond the commits, counted in each bin.

    `name` is outside text. `state` is `FrameState.COMMITTED` for a table or index. `pages` counts
    its distinct pages. The last lane may stand for many small objects.
    """

    name: str
    state: FrameState
    frames: int
    pages: int
    counts: array[int]


@dataclass(frozen=True, slots=True)
class Mark:
    """The last frame that a process sees while it reads; `bin` is the bin of that frame."""

    blocker: Blocker
    frame: int
    bin: int


@dataclass(frozen=True, slots=True)
class LogMap:
    """All frames of a log in `bins` bins; `edges` has one item more, the frames before each.

    `lanes` are the tables and indexes, most frames first, then the states of frames that no commit
    covers. `commits` counts the commits that end in each bin.
    """

    frames: int
    edges: array[int]
    lanes: tuple[Lane, ...]
    commits: array[int]
    checkpointed: int  # frames
    marks: tuple[Mark, ...]

    @property
    def bins(self) -> int:
        """The number of bins, one for each frame at most."""
        return len(self.commits)

    @property
    def frames_per_bin(self) -> float:
        """Frames in one bin."""
        return self.frames / max(1, self.bins)

    def leading_lane(self, place: int) -> int | None:
        """Return the lane that a bin shows: damage if there is any, else the one with most frames.

        None for a bin of blank frames.
        """
        best, most = None, 0
        for index, lane in enumerate(self.lanes):
            count = lane.counts[place]
            if count and lane.state in (FrameState.DAMAGED, FrameState.IGNORED):
                return index
            if count > most:
                best, most = index, count
        return best

    def is_checkpointed(self, place: int) -> bool:
        """Return True if every frame of a bin counts as copied into the main file."""
        return self.edges[place + 1] <= self.checkpointed


def map_log(found: Inspection, bins: int, lanes: int) -> LogMap | None:
    """Return the map in at most `bins` bins and `lanes` lanes of tables; None for an empty log."""
    scan = found.scan
    total = len(scan.marks)
    while total and found.scan.state(total) is FrameState.BLANK:
        total -= 1  # room that nobody wrote to yet
    if not total or scan.header is None:
        return None
    bins = min(bins, total)
    edges = array("Q", (total * place // bins for place in range(bins + 1)))
    commits = _zeros(bins)
    for number, mark in enumerate(islice(scan.marks, min(total, scan.damage_end)), 1):
        if mark in COMMITS:
            commits[_bin(number, bins, total)] += 1
    return LogMap(
        total,
        edges,
        (*_owned_lanes(found, bins, total, lanes), *_other_states(found, bins, total)),
        commits,
        found.checkpointed,
        tuple(_marks(found, bins, total)),
    )


def _bin(frame: int, bins: int, total: int) -> int:
    """Return the bin of a frame: the last one whose edge lies before it."""
    return (frame * bins - 1) // total


def _owned_lanes(found: Inspection, bins: int, total: int, limit: int) -> list[Lane]:
    """Return at most `limit` lanes of committed frames by owner, most frames first.

    The owners with the fewest frames share the last lane.
    """
    owners = found.loss.owners
    if owners is None:
        return _unowned_lane(found, bins, total)
    keys = [_owner(owners, index) for index in range(len(owners.log))]
    frames: Counter[str] = Counter()
    for index, key in enumerate(keys):
        frames[key] += owners.log.frame_count(index)
    ranked = sorted(frames, key=lambda key: (-frames[key], key))
    shown = ranked if len(ranked) <= limit else ranked[: limit - 1]
    rest = plural(len(ranked) - len(shown), "other")
    names = [*shown, *([rest] if len(shown) < len(ranked) else [])]
    lane_of = {key: place for place, key in enumerate(shown)}
    columns = [_zeros(bins) for _ in names]
    pages = [0] * len(names)
    for index, key in enumerate(keys):
        lane = lane_of.get(key, len(names) - 1)
        pages[lane] += 1
        for frame in owners.log.frames(index):
            columns[lane][_bin(frame, bins, total)] += 1
    return [
        Lane(name, FrameState.COMMITTED, sum(column), count, column)
        for name, column, count in zip(names, columns, pages, strict=True)
    ]


def _unowned_lane(found: Inspection, bins: int, total: int) -> list[Lane]:
    """Return one lane for the committed frames of a log whose pages have no known owner."""
    column = _zeros(bins)
    for frame in range(1, found.scan.max_frame + 1):
        column[_bin(frame, bins, total)] += 1
    count = found.scan.max_frame
    return [Lane("unknown", FrameState.COMMITTED, count, 0, column)] if count else []


def _owner(owners: PageOwners, index: int) -> str:
    """Return the name of the table or index that has the log's page at `index`, or its role."""
    place, role = owners.place_and_role(index)
    if place is not None:
        return owners.objects[place].name
    return "(freelist)" if role in _LIST_ROLES else f"({role.text})"


def _zeros(count: int) -> array[int]:
    return array("Q", bytes(8 * count))


def _other_states(found: Inspection, bins: int, total: int) -> Iterator[Lane]:
    """Yield a lane for each state of the frames after the last commit."""
    counts: dict[FrameState, array[int]] = {}
    for number in range(found.scan.max_frame + 1, total + 1):
        state = found.scan.state(number)
        if state not in counts:
            counts[state] = _zeros(bins)
        counts[state][_bin(number, bins, total)] += 1
    for state, column in counts.items():
        if state is not FrameState.BLANK:
            yield Lane(state.value, state, sum(column), 0, column)


def _marks(found: Inspection, bins: int, total: int) -> Iterator[Mark]:
    """Yield the marks of readers in the order of their frames."""
    readers = [b for b in found.blockers if b.mark is not None and b.frame is not None]
    for blocker in sorted(readers, key=lambda b: (b.frame or 0, b.pid or 0)):
        frame = blocker.frame or 0
        yield Mark(blocker, frame, _bin(min(max(1, frame), total), bins, total))
