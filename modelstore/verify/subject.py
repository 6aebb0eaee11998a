"""A database as its raw files show it, before SQLite opens it in this process.

Every file is closed again: no SQLite of this process may have the database open meanwhile
(sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.database.probe import Probe, probe, real_path
from modelstore.errors import DamageError, RefusedError
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.format import RESERVED_BYTE
from modelstore.wal.inspection import inspect_log
from modelstore.wal.locks import conflicting_lock

if TYPE_CHECKING:
    from modelstore.wal.inspection import Inspection

_NAMES_KEPT = 1000
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


@dataclass(frozen=True, slots=True)
class Journal:
    """A rollback journal beside a database; its size in bytes.

    A hot journal belongs to a transaction that nobody will end. SQLite takes that transaction back
    at the next opening. https://www.sqlite.org/lockingv3.html#how_to_find_hot_journals
    """

    path: str
    size: int
    is_hot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The raw files of a database. `given` is the path as it was given, `path` the real one.

    If the log was deleted while in use, `gone` says so and `probe` is None.
    """

    given: str
    path: str
    probe: Probe | None
    log: Inspection
    gone: DamageError | None = None
    journal: Journal | None = None

    @property
    def log_path(self) -> str:
        """The path of its ``-wal``."""
        return self.path + "-wal"

    @property
    def is_wal(self) -> bool:
        """True if the header of the main file says WAL mode."""
        return self.probe is not None and self.probe.is_wal


def look(given: str, *, deep: bool = False) -> Subject:
    """Read the raw files. Raises `RefusedError` for a file that is absent or must not be opened."""
    path = real_path(given)
    found, gone = None, None
    try:
        found = probe(path)
    except DamageError as error:
        gone = error
    log = look_at_log(path, deep=deep)
    return Subject(given=given, path=path, probe=found, log=log, gone=gone, journal=_journal(path))


def look_at_log(path: str, *, deep: bool = False) -> Inspection:
    """Return the content of the log, with the names of models in it."""
    return inspect_log(path, names=("models", "name"), limit=_NAMES_KEPT, deep=deep)


def _journal(path: str) -> Journal | None:
    name = path + "-journal"
    try:
        descriptor = open_or_refuse(name)
    except (FileNotFoundError, RefusedError):
        return None
    try:
        size = os.fstat(descriptor).st_size
        is_live = read_at(descriptor, 8, 0) == _JOURNAL_MAGIC and not _is_reserved(path)
        return Journal(name, size, is_live)
    finally:
        os.close(descriptor)


def _is_reserved(path: str) -> bool:
    """Return True if a writer is at work on a rollback-mode database: it owns the journal."""
    if not sys.platform.startswith("linux"):
        return False
    descriptor = open_or_refuse(path)
    try:
        return conflicting_lock(descriptor, RESERVED_BYTE) is not None
    finally:
        os.close(descriptor)
