"""Counting what was promised in the main file alone, while nobody can change it."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelstore.database.access import connect
from modelstore.database.fold import copy_whole, pauses
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy, translate_sqlite_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.connection import OpenDatabase

Kind = Literal["main file alone", "checkpoint evidence"]


@dataclass(frozen=True, slots=True)
class Proof:
    """How it is known that rows are safe: `counted` in the main file alone, or the checkpoint.

    Where they could not be counted in time, `counted` is None: then that our frames were copied
    and the main file synced is the evidence.
    """

    kind: Kind
    counted: int | None
    expected: int

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the promise."""
        return self.counted is None or self.counted == self.expected


def prove(
    opened: OpenDatabase,
    count: Callable[[sqlite3.Connection], int],
    expected: int,
    patience: float,
) -> Proof:
    """Count through a connection that sees the main file alone; `patience` in seconds.

    A read transaction of ours that begins while the whole log is folded keeps every checkpoint
    from writing to the main file; without it, a busy checkpointer makes such a look malformed
    (sqlite.org/walformat.html#wal_locks). What is promised counts as written, changed or not: the
    close waits for it. Raises `DamageError` where the main file is damaged.
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
def frozen_main(opened: OpenDatabase, patience: float) -> Iterator[sqlite3.Connection | None]:
    """Keep the main file whole and still for a block; `patience` in seconds.

    Yields the connection that does so; its snapshot is what the main file must hold, whatever
    others commit meanwhile. None where that could not be had in time.
    """
    with closing(opened.connect_again()) as holder:
        yield holder if _await_whole(opened, holder, patience) else None
        holder.rollback()


def _await_whole(opened: OpenDatabase, holder: sqlite3.Connection, patience: float) -> bool:
    """Fold until the main file is whole and frozen; return whether that was had in time."""
    begun = time.monotonic()
    pause = pauses()
    log, account = opened.log, opened.account
    if log is not None and account is not None:
        account.open(log)
    try:
        while True:
            if log is not None and account is not None and opened.may_fold:
                copy_whole(log, account.ledger)
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
        if account is not None:
            account.seconds += waited


def _freeze(opened: OpenDatabase, holder: sqlite3.Connection) -> bool:
    """Begin to read; return whether the main file is whole and stays as it is meanwhile.

    Without a log, the shared lock of any reader sees to that. With one, either nothing is left
    to copy, and our read mark keeps it so; or we hold READ0, the lock of those who read the
    database file alone, which stops all copying.
    """
    holder.execute("BEGIN")
    holder.execute("SELECT count(*) FROM sqlite_master").fetchone()
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
