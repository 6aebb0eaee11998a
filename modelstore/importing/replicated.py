"""Wait until a Litestream replica, restored, has every row of the catalogue.

Where no daemon replicates the catalogue, Litestream copies it once first. Its exit code proves
nothing, so the rows are compared in any case.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.database.holders import look_at_holders
from modelstore.database.probe import probe
from modelstore.errors import ExitCode
from modelstore.progress import unwatched
from modelstore.replica.engine import PROGRAM, Engine, Listed
from modelstore.replica.examination import Examination, Verdict, examine
from modelstore.wal.processes import runs_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.replica.engine import Watching
    from modelstore.replica.name import ReplicaName

_CODES = {
    Verdict.SAME: ExitCode.OK,
    Verdict.BEHIND: ExitCode.BUSY,
    Verdict.ABSENT: ExitCode.BUSY,
    Verdict.UNREACHABLE: ExitCode.BUSY,
    Verdict.LOST: ExitCode.FAILED,
    Verdict.DAMAGED: ExitCode.FAILED,
    Verdict.ANOTHER: ExitCode.FAILED,
}

_PAUSE = 0.05  # seconds between two tries to have the lock


@dataclass(frozen=True, slots=True)
class Replicated:
    """The verdict on the replica of an import, and the replica's name for people."""

    examination: Examination
    name: str

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that the verdict asks for."""
        return _CODES[self.examination.verdict]


def replicate(
    path: str,
    replica: ReplicaName,
    *,
    timeout: float,
    named: str,
    watching: Watching = unwatched,
) -> Replicated:
    """Return the verdict on the replica of the closed catalogue at `path`.

    `timeout` is how long the replica may lag, in seconds; `named` is the path in a configuration.
    Raises `RefusedError` where Litestream, or the room for a restored copy, is missing.
    """
    with _alone(path, timeout):
        if not may_have_daemon(path):
            with Engine.ready(replica, named, need=0, watching=watching) as engine:
                if isinstance(engine.newest(timeout), Listed):  # else nothing answers
                    engine.replicate_once()
    found = examine(path, replica, timeout=timeout, named=named, watching=watching)
    return Replicated(found, replica.shown)


def may_have_daemon(path: str) -> bool:
    """Tell whether a Litestream may be at work on a database that we do not have open.

    Two at once would write different pieces under one name. A process in another container is not
    seen, but its lock on the log is.
    """
    holders = look_at_holders(path, certain=False)
    if any(runs_program(holder.pid, PROGRAM) for holder in holders.holders):
        return True
    return not holders.complete and probe(path).attached is not False


@contextmanager
def _alone(path: str, patience: float) -> Iterator[None]:
    """Keep other imports from running Litestream at the same time, if a lock can be taken."""
    try:
        import fcntl
    except ImportError:  # Windows, where there is no Litestream
        yield
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(directory)
