"""Counting what checkpoints moved, across restarts of the log.

A TRUNCATE that succeeds reports 0, 0, 0; every other row is a moment's view of a log that others
write to. The rows are therefore held against the wal-index before and after: the salts name the
generation of the log, and iChange tells whether a commit slipped in.
https://www.sqlite.org/walformat.html#the_wal_index_file_format
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from modelstore.wal.index import WalIndex

Generation = tuple[int, int] | None
"""The salts of a log; None where the wal-index cannot be read."""


class Row(NamedTuple):
    """What ``PRAGMA wal_checkpoint`` returns: frames, or -1 where SQLite could not even look."""

    busy: int
    log: int
    checkpointed: int

    @property
    def is_other_checkpoint(self) -> bool:
        """Whether another checkpoint was at work; SQLite does not wait for it."""
        return self.log < 0


@dataclass(slots=True)
class Count:
    """Frames of one generation of the log, and how many of them are in the main file."""

    log: int = 0
    checkpointed: int = 0


@dataclass(slots=True)
class Ledger:
    """The frames of each generation that a command met, and those that it `moved` itself.

    `exact` ends when a commit slipped in that nobody counted.
    """

    generations: dict[Generation, Count] = field(default_factory=dict)
    moved: int = 0
    exact: bool = True
    _changes: int | None = None  # iChange at the last look
    _current: Generation = None

    @property
    def log(self) -> int:
        """Frames of all generations."""
        return sum(count.log for count in self.generations.values())

    @property
    def checkpointed(self) -> int:
        """Those of them that are in the main file."""
        return sum(count.checkpointed for count in self.generations.values())

    def see(self, index: WalIndex) -> None:
        """Note what the wal-index says.

        A log restarts only when all of it is folded, and with the first commit that follows: if
        no more than that one happened since the last look, none escaped the count.
        """
        if index.salt != self._current:
            self._fold_all()
            if self._changes is not None and _since(self._changes, index) > 1:
                self.exact = False
            self._current = index.salt
        self._changes = index.change_counter
        self._raise(index.salt, index.max_frame, min(index.backfill, index.max_frame))

    def backfilled(self, before: WalIndex | None, row: Row, after: WalIndex | None) -> None:
        """Note the row of a checkpoint that left the log as it is."""
        if before is None or after is None:
            if not row.is_other_checkpoint:
                self.moved += max(0, row.checkpointed - self._count(None).checkpointed)
                self._raise(None, row.log, row.checkpointed)
                self.exact = self.exact and row.log == 0
            return
        self.see(before)
        if before.salt == after.salt:
            self.moved += max(0, row.checkpointed - before.backfill)
            self._raise(before.salt, row.log, row.checkpointed)
        else:  # restarted before or after our row was made: what we moved of it is unknown
            self.exact = False
        self.see(after)

    def truncated(self, before: WalIndex | None, after: WalIndex | None) -> None:
        """Note a TRUNCATE that succeeded: all that the log held is in the main file."""
        if before is None or after is None:
            self.moved += self.log - self.checkpointed
            self._fold_all()
            return
        self.see(before)
        self.moved += before.pending
        self._fold_all()
        if _since(before.change_counter, after):
            self.exact = False  # committed and folded between the two looks
        self._changes, self._current = after.change_counter, after.salt
        self._raise(after.salt, after.max_frame, after.backfill)

    def _count(self, generation: Generation) -> Count:
        return self.generations.setdefault(generation, Count())

    def _raise(self, generation: Generation, log: int, checkpointed: int) -> None:
        count = self._count(generation)
        count.log = max(count.log, log)
        count.checkpointed = max(count.checkpointed, checkpointed)

    def _fold_all(self) -> None:
        for count in self.generations.values():
            count.checkpointed = count.log


def _since(changes: int, index: WalIndex) -> int:
    """Return how many commits there were since iChange was `changes`; it wraps."""
    return (index.change_counter - changes) % (1 << 32)
