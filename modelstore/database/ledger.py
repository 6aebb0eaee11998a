"""Count frames over the generations of a log, from rows of checkpoints and from the wal-index.

No single source gives true numbers: a successful TRUNCATE reports 0|0|0, a restart of the log sets
the wal-index back, and other processes commit and checkpoint in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from modelstore.wal.index import WalIndex

Generation = tuple[int, int] | None
"""The salts of a log; None where the wal-index cannot be read."""


class CheckpointRow(NamedTuple):
    """The row of ``PRAGMA wal_checkpoint``: frames, or -1 where SQLite could not even look."""

    busy: int
    log: int
    checkpointed: int

    @property
    def is_other_checkpoint(self) -> bool:
        """True where another checkpoint was at work; SQLite does not wait for it."""
        return self.log < 0


OTHER_CHECKPOINT = CheckpointRow(1, -1, -1)


class GenerationFrames:
    """Frames of one generation of the log, and how many of them are in the main file."""

    __slots__ = ("checkpointed", "log")

    def __init__(self) -> None:
        self.log = 0
        self.checkpointed = 0


class Ledger:
    """The frames of each generation that a command met, and the number that it `moved` itself.

    `exact` turns False when a commit escapes the count.
    """

    def __init__(self) -> None:
        self.generations: dict[Generation, GenerationFrames] = {}
        self.moved = 0
        self.exact = True
        self._changes: int | None = None  # iChange at the last look
        self._current: Generation = None

    @property
    def log(self) -> int:
        """Frames of all generations."""
        return sum(count.log for count in self.generations.values())

    @property
    def checkpointed(self) -> int:
        """Frames of all generations that are in the main file."""
        return sum(count.checkpointed for count in self.generations.values())

    def see(self, index: WalIndex) -> None:
        """Note the numbers of the wal-index.

        A log restarts only when all of it is folded, and with the commit that comes next. If only
        that one commit happened since the last look, none escaped the count.
        """
        if index.salt != self._current:
            self._fold_all()
            if self._changes is not None and _since(self._changes, index) > 1:
                self.exact = False
            self._current = index.salt
        self._changes = index.change_counter
        self._raise(index.salt, index.max_frame, min(index.backfill, index.max_frame))

    def backfilled(
        self, before: WalIndex | None, row: CheckpointRow, after: WalIndex | None
    ) -> None:
        """Note the row of a checkpoint that did not empty the log."""
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
        else:  # the log restarted before or after the row: our share of it is unknown
            self.exact = False
        self.see(after)

    def truncated(self, before: WalIndex | None, after: WalIndex | None) -> None:
        """Note a TRUNCATE that succeeded: every frame of the log is in the main file."""
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

    def _count(self, generation: Generation) -> GenerationFrames:
        return self.generations.setdefault(generation, GenerationFrames())

    def _raise(self, generation: Generation, log: int, checkpointed: int) -> None:
        count = self._count(generation)
        count.log = max(count.log, log)
        count.checkpointed = max(count.checkpointed, checkpointed)

    def _fold_all(self) -> None:
        for count in self.generations.values():
            count.checkpointed = count.log


def _since(changes: int, index: WalIndex) -> int:
    """Return the number of commits since iChange was `changes`; the counter wraps."""
    return (index.change_counter - changes) % (1 << 32)
