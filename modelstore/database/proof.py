"""Count the promised rows in the main file alone, while nobody can change it."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

from modelstore.database.fold import copy_whole, pauses
from modelstore.database.handle import connect
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy, translate_sqlite_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database

Kind = Literal["main file alone", "checkpoint evidence"]


class Proof(NamedTuple):
    """The evidence that rows are safe: they were `counted` in the main file alone, or folded.

    `counted` is None where there was no time to count. Then the evidence is that all our frames
    were copied and the main file synced.
    """

    kind: Kind
    counted: int | None
    expected: int

    @property
    def holds(self) -> bool:
        """True unless the count contradicts the promise."""
        return self.counted is None or self.counted == self.expected


def prove(
    opened: OpenDatabase, count: Callable[[Database], int], expected: int, patience: float
) -> Proof:
    """Count through a connection that sees the main file alone; wait `patience` seconds at most.

    A read transaction of ours that begins while the whole log is folded keeps every checkpoint
    from writing to the main file; without it, a checkpoint at work makes such a look malformed
    (sqlite.org/walformat.html#wal_locks). Rows that were only confirmed count as written, so the
    close waits for them. Raises `DamageError` for a damaged main file.
    """
    if not opened.has_written:
        opened.wrote()
    try:
        with frozen_main(opened, min(patience, opened.patience)) as holder:
            if holder is None:
                return Proof("checkpoint evidence", None, expected)
            with closing(connect(opened.path, "immutable")) as alone:
                counted = count(alone)
    except sqlite3.Error as error:
        is_gone = opened.log is not None and opened.log.what_is_gone() is not None
        if is_busy(error) or is_gone:  # the close will judge
            return Proof("checkpoint evidence", None, expected)
        raise translate_sqlite_error(error, opened.path) or error from error
    return Proof("main file alone", counted, expected)


@contextmanager
def frozen_main(opened: OpenDatabase, patience: float) -> Iterator[Database | None]:
    """Keep the main file whole and unchanged for a block; wait `patience` seconds at most.

    Yields the connection that does so. The main file must hold the snapshot of that connection,
    whatever others commit meanwhile. Yields None if there was no time.
    """
    with closing(opened.connect_again()) as holder:
        yield holder if _await_whole(opened, holder, patience) else None
        holder.rollback()


def _await_whole(opened: OpenDatabase, holder: Database, patience: float) -> bool:
    """Fold until the main file is whole and frozen; return False if time is up."""
    begun = time.monotonic()
    pause = pauses()
    totals = opened.totals
    if totals is not None:
        totals.begin()
    try:
        while True:
            if totals is not None and opened.why_not_fold() is None:
                copy_whole(totals)
            if _freeze(opened, holder):
                return True
            holder.rollback()
            remaining = begun + patience - time.monotonic()
            if remaining <= 0:
                return False
            time.sleep(min(pause(), remaining))
    finally:
        waited = time.monotonic() - begun
        opened.spend(waited)
        if totals is not None:
            totals.seconds += waited


def _freeze(opened: OpenDatabase, holder: Database) -> bool:
    """Begin to read; return whether the main file is whole and stays as it is meanwhile.

    Without a log, the shared lock of any reader freezes it. With a log, it is frozen if nothing is
    left to copy, because our read mark keeps it so; or if we hold READ0, the lock of those who
    read the database file alone, which stops all copying.
    """
    holder.begin()
    holder.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the snapshot
    if opened.journal_mode != "wal":
        return True
    index = opened.log.index() if opened.log is not None else None
    if index is None or opened.log is None:
        return False
    if not index.pending:
        return True
    report = opened.log.locks()
    return report is not None and any(
        lock.is_own and not lock.exclusive for lock in report.of("READ0")
    )
