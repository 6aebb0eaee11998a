"""What a checkpoint did, in numbers that are true, and what it says to the shell."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from modelstore.errors import ExitCode

if TYPE_CHECKING:
    from modelstore.wal.locks import Blocker

Mode = Literal["truncate", "restart", "full", "passive", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was folded from the -wal into the main file, over all of a command.

    `log`, `checkpointed`, `left` and `moved` count frames, which are pages as they were written;
    sizes are bytes. `moved` is what this process copied, `checkpointed` includes what others had
    copied of the same log. https://www.sqlite.org/wal.html#ckpt
    """

    mode: Mode
    busy: bool = False  # what was asked for was not reached: somebody is in the way
    log: int = 0
    checkpointed: int = 0
    left: int = 0
    exact: bool = True  # no commit of another process slipped in between the counts
    moved: int = 0
    bytes_moved: int = 0
    wal_size_before: int = 0
    wal_size_after: int = 0
    db_size_before: int = 0
    db_size_after: int = 0
    seconds: float = 0.0
    blockers: tuple[Blocker, ...] = ()
    blockers_complete: bool = True
    blockers_note: str | None = None
    in_main_file: bool = True  # everything that we committed is in the main file, and synced
    wal_synced: bool = False  # what is not, is at least in a -wal that was synced
    log_deleted: bool = False  # the -wal was deleted or replaced while it was in use
    reason: str | None = None  # why nothing was folded, or why it stopped

    @property
    def complete(self) -> bool:
        """Whether the main file alone holds everything, also what others committed."""
        return self.in_main_file and self.left == 0

    def exit_code(self, *, wrote: bool, allow_pending: bool = False) -> ExitCode:
        """Return what this says to the shell about a command that `wrote`, or that only read.

        4 while what was written is safe, but only in database and log together (0 with
        `allow_pending`); 5 where the log was deleted under it, or could not even be synced.
        """
        if self.log_deleted and not (self.in_main_file if wrote else self.left == 0):
            return ExitCode.FAILED
        if not wrote or self.in_main_file:
            return ExitCode.OK
        if not self.wal_synced:
            return ExitCode.FAILED
        return ExitCode.OK if allow_pending else ExitCode.BUSY

    def after_closing(self, path: str) -> Checkpoint:
        """Return the same for a database that was closed: the last connection removes its log."""
        try:
            size = os.stat(path + "-wal").st_size
        except OSError:
            size = 0
        return replace(self, wal_size_after=min(size, self.wal_size_after))

    def wal_line(self) -> str:
        """Return the line that every command shows."""
        exact = "" if self.exact else " (others wrote meanwhile: at least)"
        return (
            f"WAL pages: {self.log:,} in log, {self.checkpointed:,} checkpointed, "
            f"{self.left:,} left; busy: {'yes' if self.busy else 'no'}{exact}"
        )

    def as_json(self) -> dict[str, object]:
        """Return all of it for a machine; text from outside is raw."""
        names = (
            *("mode", "busy", "log", "checkpointed", "left", "exact", "moved", "bytes_moved"),
            *("wal_size_before", "wal_size_after", "db_size_before", "db_size_after", "seconds"),
            *("in_main_file", "wal_synced", "log_deleted", "reason"),
            *("blockers_complete", "blockers_note"),
        )
        result: dict[str, object] = {name: getattr(self, name) for name in names}
        result["blockers"] = [
            {
                "pid": blocker.pid,
                "command": blocker.command,
                "lock": blocker.lock,
                "frame": blocker.frame,
                "blocks": list(blocker.blocks),
            }
            for blocker in self.blockers
        ]
        return result
