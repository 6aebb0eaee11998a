"""Examine a replica: restore it, compare it, and look again before a difference is called a loss.

A replica is always a little behind, so a difference proves nothing. It is a loss if Litestream's
own files claim that it has copied the log up to the moment of an earlier look, and a row that the
database had then, and still has, is not in a replica restored later. Under a writer, the same
difference must also stand in several looks, each of a replica that has moved on: a row that goes
back and forth between two values may look the same by chance.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, repeat
from typing import TYPE_CHECKING

from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_ERROR,
    is_busy,
    primary_code,
    translate_sqlite_error,
)
from modelstore.progress import unwatched
from modelstore.replica.comparison import Compared, Differences, attached_replica, compare
from modelstore.replica.engine import Engine, Listed, Outcome, Restored
from modelstore.replica.shadow import LogPosition, has_copied, raw_position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database
    from modelstore.replica.engine import Watching
    from modelstore.replica.name import ReplicaName

_LOOKS = 6  # of a replica that has moved on, before a difference under a writer is a loss
_NAMED = 20  # rows of a table that a result names
_PAUSES = (0.1, 0.2, 0.3, 0.5)  # seconds between looks; the last one goes on


class Verdict(StrEnum):
    """The result of an examination; the value is a stable code."""

    SAME = "same"
    """Every row of the first look is in the replica."""
    BEHIND = "behind"
    """Rows are not there yet when the patience ends."""
    LOST = "lost"
    """The replica claims to have rows that it does not have."""
    DAMAGED = "damaged"
    """It is there, and cannot be restored or read."""
    ANOTHER = "another"
    """Hardly a row is common: it is another database's."""
    ABSENT = "absent"
    """Nothing is there."""
    UNREACHABLE = "unreachable"
    """It cannot even be listed."""


@dataclass(frozen=True, slots=True)
class TableLoss:
    """The rows of a table that a replica lacks, has in an old version, or has in addition.

    `names` are the first of them: outside text.
    """

    table: str
    missing: int
    changed: int
    returning: int
    names: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """All rows that differ."""
        return self.missing + self.changed + self.returning


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The verdict on a replica, and what it rests on.

    `compared` is the first comparison, None where there was none. `losses` are the rows that
    differ, by table. `txid` is the replica's last transaction, `lag` the seconds that it took to
    catch up with the first look, and `age` the seconds since its last transaction. `reading` is
    the longest read transaction, in seconds. `reason` is the engine's word: outside text.
    """

    verdict: Verdict
    looks: int
    compared: Compared | None = None
    losses: tuple[TableLoss, ...] = ()
    txid: int | None = None
    lag: float = 0.0
    age: float | None = None
    reading: float = 0.0
    reason: str | None = None

    @property
    def rows(self) -> int:
        """The rows that differ."""
        return sum(loss.rows for loss in self.losses)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the database. `state` changes with every commit and every checkpoint."""

    position: LogPosition
    state: object
    txid: int
    began: float  # monotonic
    compared: Compared


@dataclass(slots=True)
class _Course:
    """The looks so far."""

    timeout: float
    begun: float = field(default_factory=time.monotonic)
    first: _Look | None = None
    last: _Look | None = None
    looks: int = 0
    failures: int = 0
    passes: int = 0
    is_reached: bool = False  # the replica was listed
    passed: int = -1  # the transaction of the replica at the last look that counted
    moved: float = field(default_factory=time.monotonic)
    reading: float = 0.0
    trouble: str | None = None

    @property
    def is_over(self) -> bool:
        """True when the patience has ended; a replica that moves on and is suspect has more."""
        now = time.monotonic()
        since = self.moved if self.passes else self.begun
        return now - since >= self.timeout


def examine(
    path: str,
    replica: ReplicaName,
    *,
    timeout: float,
    named: str | None = None,
    integrity: str | None = None,
    watching: Watching = unwatched,
) -> Examination:
    """Examine the replica of the database at `path`; `named` is its path in a configuration.

    `timeout` is how long the replica may lag, in seconds; restoring and comparing take their own
    time. `integrity` is the pragma that checks a replica that has every row. Raises
    `RefusedError` where Litestream or the room for a restored copy is missing.
    """
    need = sum(_size(path + suffix) for suffix in ("", "-wal"))
    with (
        Engine.ready(replica, named or path, need=need, watching=watching) as engine,
        Differences.in_file(os.path.join(engine.scratch, "differences.db")) as differences,
    ):
        return _Examiner(path, engine, differences, _Course(timeout), integrity, watching).run()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


class _Examiner:
    """Looks again and again, until one look decides."""

    def __init__(
        self,
        path: str,
        engine: Engine,
        differences: Differences,
        course: _Course,
        integrity: str | None,
        watching: Watching,
    ) -> None:
        self._path = path
        self._engine = engine
        self._differences = differences
        self._course = course
        self._integrity = integrity
        self._watching = watching

    def run(self) -> Examination:
        """Return the verdict."""
        pauses: Iterator[float] = chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            verdict = self._look()
            if verdict is not None:
                return self._examination(verdict)
            time.sleep(next(pauses))

    def _look(self) -> Verdict | None:
        """Restore and compare once; return None if nothing is decided yet."""
        course = self._course
        course.looks += 1
        if not course.is_reached:
            listed = self._engine.newest(course.timeout)
            if isinstance(listed, Outcome):
                course.trouble = listed.reason
                return Verdict.UNREACHABLE if course.is_over else None
            course.is_reached = True
        restored = self._engine.restore()
        if isinstance(restored, Outcome):
            return self._failed(restored.reason)
        try:
            look = self._compare(restored)
        except _UnreadableError as error:
            return self._failed(str(error))
        course.failures = 0
        before, course.last = course.last, look
        if course.first is None:
            course.first = look
        if not self._differences.count():
            return Verdict.SAME
        return self._judge(course.first, before, look)

    def _failed(self, reason: str) -> Verdict | None:
        """Count a replica that cannot be restored; it may be changing at this moment."""
        course = self._course
        course.failures += 1
        course.trouble = reason
        if time.monotonic() - course.begun < course.timeout:
            return None
        listed = self._engine.newest(course.timeout)
        if isinstance(listed, Outcome):
            course.trouble = listed.reason
            return Verdict.UNREACHABLE
        if course.failures < 2:
            return None
        return Verdict.DAMAGED if listed.txid else Verdict.ABSENT

    def _judge(self, first: _Look, before: _Look | None, look: _Look) -> Verdict | None:
        """Decide about rows that have differed in every look so far."""
        course = self._course
        if before is not None and look.txid != before.txid:
            course.moved = time.monotonic()
        if before is not None and has_copied(self._path, before.position, look.txid):
            is_quiet = before.state == look.state
            if is_quiet or look.txid != course.passed:
                course.passes += 1
                course.passed = look.txid
            if is_quiet or course.passes >= _LOOKS:
                return Verdict.ANOTHER if first.compared.is_of_another else Verdict.LOST
        if before is None or not course.is_over:
            return None  # a second look may show that the rows were copied, and are not there
        return Verdict.ANOTHER if look.compared.is_of_another else Verdict.BEHIND

    def _compare(self, restored: Restored) -> _Look:
        """Compare in one read transaction. Raises `_UnreadableError` for a malformed replica."""
        with (
            open_database(
                self._path, purpose=Purpose.READ, timeout=self._course.timeout, fold=False
            ) as live,
            attached_replica(live.db, restored.path),
        ):
            began = time.monotonic()
            live.db.begin()
            live.db.execute("SELECT count(*) FROM main.sqlite_master").fetchone()
            state, position = self._state(live, time.time())
            try:
                with self._watching("rows") as tick:
                    compared = compare(live.db, self._differences, tick)
                live.db.rollback()  # the log may start again from its beginning
                self._course.reading = max(self._course.reading, time.monotonic() - began)
                if not compared.differing:
                    _check_integrity(live.db, self._integrity)
            except sqlite3.Error as error:
                if is_busy(error) or not _is_malformed(live.db):
                    raise translate_sqlite_error(error, self._path) or error from error
                raise _UnreadableError(str(error)) from error
        return _Look(position, state, restored.txid, began, compared)

    def _state(self, live: OpenDatabase, now: float) -> tuple[object, LogPosition]:
        files = tuple(_mark(self._path + suffix) for suffix in ("", "-wal"))
        if live.access == "copy":
            return files, raw_position(self._path, now)
        index = live.log.index() if live.log is not None else None
        log = (index.change_counter, index.max_frame, index.salt) if index is not None else None
        return (log, files), LogPosition.of(index, now)

    def _examination(self, verdict: Verdict) -> Examination:
        course = self._course
        first, last = course.first, course.last
        losses = () if verdict is Verdict.SAME else tuple(self._losses())
        age = None
        if verdict is Verdict.BEHIND:
            listed = self._engine.newest(course.timeout)
            if isinstance(listed, Listed) and listed.at is not None:
                age = max(0.0, time.time() - listed.at)
        return Examination(
            verdict=verdict,
            looks=course.looks,
            compared=first.compared if first is not None else None,
            losses=losses,
            txid=last.txid if last is not None else None,
            lag=last.began - first.began if first is not None and last is not None else 0.0,
            age=age,
            reading=course.reading,
            reason=course.trouble if last is None or course.failures else None,
        )

    def _losses(self) -> Iterator[TableLoss]:
        for table, counts in self._differences.by_table().items():
            yield TableLoss(table, *counts, tuple(self._differences.names(table, _NAMED)))


class _UnreadableError(Exception):
    """The restored replica is malformed."""


def _mark(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_integrity(db: Database, pragma: str | None) -> None:
    """Raise `_UnreadableError` if the attached replica has every row and is damaged elsewhere.

    A table that needs a function or a collation which this SQLite lacks prevents the check.
    """
    if pragma is None:
        return
    try:
        (found,) = db.execute(f"PRAGMA replica.{pragma}(1)").fetchone()
    except sqlite3.OperationalError as error:
        if primary_code(error) != SQLITE_ERROR:
            raise
        return
    if bytes(found) != b"ok":
        raise _UnreadableError(bytes(found).decode("utf-8", "replace")[:300])


def _is_malformed(db: Database) -> bool:
    """Tell whether it is the attached replica that cannot be read, and not the database."""
    try:
        (found,) = db.execute("PRAGMA replica.quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return primary_code(error) != SQLITE_ERROR
    return bytes(found) != b"ok"
