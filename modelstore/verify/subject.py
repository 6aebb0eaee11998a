"""What is known of a database before SQLite opens it, and what the checks are told to do.

Everything here is read from the raw files, which are closed again: no SQLite of this process may
have the database open meanwhile (sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modelstore.database.probe import Probe, probe, real_path
from modelstore.errors import DamageError, RefusedError
from modelstore.finding import CHECKS, Check
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.inspection import Inspection, inspect_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.verify.expected import Expected
    from modelstore.wal.locks import Blocker

NAMED = 20
"""Rows, files or processes that a sentence names; the data have more."""

_NAMES_KEPT = 1000
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


class Tick(Protocol):
    """Takes what is being done, how many are done, and of how many where that is known."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Show it; cheap enough to be called often."""
        ...


def _silent(what: str, done: int, total: int | None = None) -> None:
    del what, done, total


def unwatched(unit: str) -> AbstractContextManager[Tick]:
    """Return a progress that nobody sees."""
    del unit
    return nullcontext(_silent)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What a run is to do. Durations are in seconds, sizes in bytes.

    `watching` gives a progress that counts what it is told; `on_wait` is called now and then with
    who is in the way of the fold, and the seconds waited so far.
    """

    checks: frozenset[Check] = frozenset(CHECKS)
    quick: bool = False
    deep: bool = False
    hash_files: bool = False
    fold: bool = True
    strict: bool = False
    timeout: float = 5.0
    host: str | None = None  # the name of this machine, as imports record it
    expected: Expected | None = None
    watching: Callable[[str], AbstractContextManager[Tick]] = unwatched
    on_wait: Callable[[tuple[Blocker, ...], float], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A database as it lies there. `given` is the path as it was given, `path` the real one.

    `probe` is None where the log was deleted while in use: `gone` says so.
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
        """Whether the header of the main file says WAL mode."""
        return self.probe is not None and self.probe.is_wal


@dataclass(frozen=True, slots=True)
class Journal:
    """A rollback journal beside a database; its size in bytes.

    It is hot when it belongs to a transaction that nobody will end: SQLite takes that back at the
    next opening. https://www.sqlite.org/lockingv3.html#how_to_find_hot_journals
    """

    path: str
    size: int
    is_hot: bool


def look(given: str, *, deep: bool = False) -> Subject:
    """Read the raw files. Raises `RefusedError` for what must not be opened, or is absent."""
    path = real_path(given)
    found, gone = None, None
    try:
        found = probe(path)
    except DamageError as error:
        gone = error
    log = look_at_log(path, deep=deep)
    return Subject(given=given, path=path, probe=found, log=log, gone=gone, journal=_journal(path))


def look_at_log(path: str, *, deep: bool = False) -> Inspection:
    """Return what the log holds, with the names of models in it."""
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
    """Tell whether a writer is at work on a rollback-mode database, which then owns the journal."""
    if not sys.platform.startswith("linux"):  # its struct flock is laid out otherwise, or absent
        return False
    import fcntl
    import struct

    reserved_byte = 0x40000001  # https://www.sqlite.org/lockingv3.html
    lock = struct.Struct("@hhqqi4x")
    descriptor = open_or_refuse(path)
    try:
        question = lock.pack(fcntl.F_WRLCK, os.SEEK_SET, reserved_byte, 1, 0)
        answer: bytes = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
        return bool(lock.unpack(answer)[0] != fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(descriptor)
