"""SQLite's own check of a database's structure, as messages, in a form that signals can end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_ERROR, SQLITE_INTERRUPT, primary_code
from modelstore.verify.signals import signals_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.handle import Database

MESSAGES = 100
"""The number of faults after which SQLite ends a check."""

STORED = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
_STEPS = 50_000  # of SQLite's virtual machine, between two looks


def said(db: Database, statement: str) -> list[str]:
    """Return SQLite's messages, and the error that ended them. Raises it if it is the first.

    Faults of pages share one row, below a heading.
    """
    found: list[str] = []
    try:
        for row in db.query(statement):
            for text in map(str, row.values()):
                heading, *faults = text.splitlines() if text.startswith("***") else (text,)
                found.extend(faults or (heading,))
    except sqlite3.Error as error:
        if not found or primary_code(error) == SQLITE_INTERRUPT:
            raise
        found.append(str(error))
    return found


def by_table(db: Database, pragma: str) -> tuple[list[str], list[str]]:
    """Check each table by itself; return SQLite's messages, and the tables without a check."""
    found: list[str] = []
    unchecked: list[str] = []
    for name in [row["name"] for row in db.query(STORED)]:
        try:
            found += said(db, f"PRAGMA {pragma}({db.quote(name)})")
        except sqlite3.Error as error:
            if primary_code(error) != SQLITE_ERROR:
                raise
            unchecked.append(f"{name} ({error})")
    return found, unchecked


@contextmanager
def ticking(conn: sqlite3.Connection, tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` now and then while `conn` works in the block; a signal ends the statement.

    Python's sqlite3 swallows an exception that a signal handler raises while SQLite is at work, and
    the interrupted statement then looks like a result. So signals wait until the block is over.
    """
    with signals_held() as arrived:

        def handler() -> int:
            tick()
            return len(arrived)

        conn.set_progress_handler(handler, _STEPS)
        try:
            yield
        except sqlite3.Error:
            if not arrived:
                raise
        finally:
            conn.set_progress_handler(None, 0)
