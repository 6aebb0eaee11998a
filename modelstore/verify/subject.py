"""A database as its raw files show it, before SQLite opens it in this process.

Every file is closed again: no SQLite of this process may have the database open meanwhile
(sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.probe import Probe, probe
from modelstore.errors import DamageError
from modelstore.wal.files import real_path
from modelstore.wal.inspection import inspect_log

if TYPE_CHECKING:
    from modelstore.database.evidence import Reason
    from modelstore.database.holders import Holders
    from modelstore.progress import Progress
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.journal import Journal

_NAMES_KEPT = 1000


class Subject(NamedTuple):
    """The raw files of a database. `given` is the path as it was given, `path` the real one.

    If the database was deleted while in use, `gone` says so and `probe` is None.
    """

    given: str
    path: str
    probe: Probe | None
    log: Inspection
    gone: DamageError | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The evidence against folding the log."""
        return self.probe.reasons if self.probe is not None else ()

    @property
    def journal(self) -> Journal | None:
        """The rollback journal beside it."""
        return self.log.journal

    @property
    def has_hot_journal(self) -> bool:
        """True if SQLite would play its journal back."""
        return self.probe is not None and self.probe.has_hot_journal

    @property
    def holders(self) -> Holders | None:
        """The look at the processes that have it open."""
        return self.probe.holders if self.probe is not None else None

    @property
    def log_path(self) -> str:
        """The path of its ``-wal``."""
        return self.path + "-wal"

    @property
    def is_wal(self) -> bool:
        """True if the header of the main file says WAL mode."""
        return self.probe is not None and self.probe.is_wal


def look(given: str, *, deep: bool = False, progress: Progress | None = None) -> Subject:
    """Read the raw files. Raises `RefusedError` for a file that is absent or must not be opened."""
    path = real_path(given)
    found, gone = None, None
    try:
        found = probe(path)
    except DamageError as error:
        if not os.path.lexists(path + "-wal"):
            raise  # database and log are gone, and only a process still has them
        gone = error
    log = look_at_log(path, deep=deep, progress=progress)
    return Subject(given=given, path=path, probe=found, log=log, gone=gone)


def look_at_log(path: str, *, deep: bool = False, progress: Progress | None = None) -> Inspection:
    """Return the content of the log, with the names of models in it."""
    names = ("models", "name")
    return inspect_log(path, names=names, limit=_NAMES_KEPT, deep=deep, progress=progress)
