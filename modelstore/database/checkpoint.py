"""The result of a fold: true numbers, and the exit code that they mean for a command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from modelstore.errors import ExitCode

if TYPE_CHECKING:
    from modelstore.wal.locks import Blocker

Mode = Literal["truncate", "restart", "full", "passive", "none"]

Work = Literal["read", "write", "checkpoint"]
"""What a command did before the fold: it read, it committed rows, or the fold was its task."""


class Checkpoint(NamedTuple):
    """The frames that one command moved from the -wal into the main file, and what is left.

    `log`, `checkpointed`, `left` and `moved` count frames; a page that was written twice counts
    twice. Sizes are bytes. `checkpointed` includes the frames of the same log that other processes
    copied, `moved` does not. https://www.sqlite.org/wal.html#ckpt
    """

    mode: Mode
    busy: bool = False  # another process kept the mode from being done to its end
    log: int = 0
    checkpointed: int = 0
    left: int = 0
    exact: bool = True  # no other process committed between the counts
    moved: int = 0
    bytes_moved: int = 0
    wal_size_before: int = 0
    wal_size_after: int = 0
    db_size_before: int = 0
    db_size_after: int = 0
    seconds: float = 0.0
    in_main_file: bool = True  # every commit of ours is in the main file, which is synced
    wal_synced: bool = False  # the rest is at least in a -wal that is synced
    log_deleted: bool = False  # somebody deleted or replaced the -wal while it was in use
    sync_failed: bool = False  # the main file could not be synced; nothing was truncated
    main_checked: bool = False  # every page of the main file was looked at before the fold
    forbidden: tuple[str, ...] = ()  # the codes of the evidence that forbids a fold
    reason: str | None = None  # why nothing was folded, or why the fold stopped
    blockers_complete: bool = True
    blockers_note: str | None = None
    blockers: tuple[Blocker, ...] = ()
    unseen: str | None = None  # why processes may use other files that nobody looked at

    @property
    def complete(self) -> bool:
        """True where the main file alone holds everything, commits of other processes included."""
        return self.in_main_file and self.left == 0

    def exit_code(self, work: Work, *, allow_pending: bool = False) -> ExitCode:
        """Return the exit code that this fold gives to a command: the one policy for all of them.

        A command that only read fails (5) where the log was deleted with frames in it. One that
        wrote is busy (4) while its rows need database and log together, or 0 with `allow_pending`;
        it fails where they are not even there. `checkpoint` must leave nothing in the log.
        """
        if work == "checkpoint":
            if self.complete:
                return ExitCode.OK
            is_failed = self.log_deleted or self.sync_failed or self.forbidden
            return ExitCode.FAILED if is_failed else ExitCode.BUSY
        is_done = self.in_main_file if work == "write" else self.left == 0
        if is_done and work == "write" and self.forbidden:
            return ExitCode.FAILED  # others may undo it
        if is_done or (work == "read" and not self.log_deleted):
            return ExitCode.OK
        if self.log_deleted or self.sync_failed or self.forbidden or not self.wal_synced:
            return ExitCode.FAILED
        return ExitCode.OK if allow_pending else ExitCode.BUSY

    def after_closing(self, path: str) -> Checkpoint:
        """Return the same for a database that is closed: the last connection removes the log."""
        try:
            size = os.stat(path + "-wal").st_size
        except OSError:
            size = 0
        return self._replace(wal_size_after=min(size, self.wal_size_after))

    def wal_line(self) -> str:
        """Return the line that every command shows."""
        exact = "" if self.exact else " (others wrote meanwhile: at least)"
        return (
            f"WAL pages: {self.log:,} in log, {self.checkpointed:,} checkpointed, "
            f"{self.left:,} left; busy: {'yes' if self.busy else 'no'}{exact}"
        )

    def as_json(self) -> dict[str, object]:
        """Return every field for a program to read; text from outside is not escaped."""
        result = self._asdict()
        notes = [note for note in (self.blockers_note, result.pop("unseen")) if note is not None]
        result["blockers_complete"] = self.blockers_complete and self.unseen is None
        result["blockers_note"] = "; ".join(notes) or None
        keys = ("pid", "command", "lock", "frame", "blocks", "is_stopped")
        result["blockers"] = [
            {key: getattr(blocker, key) for key in keys} for blocker in self.blockers
        ]
        return result
