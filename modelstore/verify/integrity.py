"""The structure of the database as its readers see it, and its foreign keys."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.store.failures import (
    SQLITE_ERROR,
    SQLITE_INTERRUPT,
    explain,
    is_busy,
    primary_code,
)
from modelstore.store.pragmas import CACHE_SIZE
from modelstore.store.sqlite import sqlite3
from modelstore.text import human_bytes, plural
from modelstore.verify.finding import Finding, findings_of
from modelstore.verify.patience import bytes_read, ticking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.store.connection import OpenDatabase
    from modelstore.verify.subject import Orders, Tick

_finding = findings_of("integrity")

_MESSAGES = 100
_KEYS = 10_000  # broken references that are counted
_TELL_EVERY = 0.1  # seconds
# In KiB. Each page is read once and each index entry looked up once, so that a large cache keeps
# little of use, and SQLite's own search of it costs more than reading a page again: on 0.4 GB with
# random keys 5.4 s of processor time with 2 MB, as the shell takes, and 6.9 s with 64 MB.
_CACHE = 2000
_RESTORE = (
    "restore it from a backup, or recover what there is with the sqlite3 shell's .recover; keep "
    "this copy and its -wal"
)


def check_integrity(opened: OpenDatabase, orders: Orders) -> Iterator[Finding]:
    """Yield what SQLite says of every page, index and row, then of the foreign keys."""
    pragma = "quick_check" if orders.quick else "integrity_check"
    with (
        orders.watching("pages read") as tick,
        ticking(opened.conn, _pages(opened, pragma, tick)),
        _small_cache(opened.conn),
    ):
        yield _structure(opened, pragma)
        yield from _references(opened)


@contextmanager
def _small_cache(conn: sqlite3.Connection) -> Iterator[None]:
    """Do with a small cache for a block; on a damaged database each of these may fail."""
    with suppress(sqlite3.Error):
        conn.execute(f"PRAGMA cache_size = -{_CACHE}")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            conn.execute(f"PRAGMA cache_size = {CACHE_SIZE}")


def _pages(opened: OpenDatabase, what: str, tick: Tick) -> Callable[[], None]:
    """Return what tells how many pages were read so far."""
    size = opened.probe.size + (opened.probe.wal_size or 0)
    page_size = int(opened.conn.execute("PRAGMA page_size").fetchone()[0])
    before, told = bytes_read(), 0.0

    def tell() -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < _TELL_EVERY:
            return
        told = now
        tick(f"{what} of {human_bytes(size)}", (bytes_read() - before) // page_size)

    return tell


def _structure(opened: OpenDatabase, pragma: str) -> Finding:
    unchecked: list[str] = []
    try:
        said = _said(opened.conn, f"PRAGMA {pragma}({_MESSAGES})")
    except sqlite3.Error as error:
        if primary_code(error) != SQLITE_ERROR:
            return _failure(opened, error)
        said, unchecked = _by_table(opened, pragma)
    messages = [message for message in said if message != "ok"]
    if messages:
        more = "" if len(messages) < _MESSAGES else " or more"
        return _finding(
            "damaged",
            "fail",
            f"{pragma}: {plural(len(messages), 'problem')}{more}: {messages[0]}",
            opened.path,
            _RESTORE,
            {"pragma": pragma, "messages": messages},
        )
    if unchecked:
        return _finding(
            "unchecked",
            "warn",
            f"{pragma} could not check {', '.join(unchecked[:5])}",
            opened.path,
            "the application defines what its tables need: a collation, a function, a module",
            {"pragma": pragma, "unchecked": unchecked},
        )
    where = " of a copy" if opened.access == "copy" else ""
    return _finding("ok", "pass", f"{pragma}{where}: ok", opened.path, data={"pragma": pragma})


def _said(conn: sqlite3.Connection, statement: str) -> list[str]:
    """Return the rows, and the error that ended them; raises it where there was no row."""
    said: list[str] = []
    try:
        said.extend(str(row[0]) for row in conn.execute(statement))
    except sqlite3.Error as error:
        if not said or primary_code(error) == SQLITE_INTERRUPT:
            raise
        said.append(str(error))
    return said


def _by_table(opened: OpenDatabase, pragma: str) -> tuple[list[str], list[str]]:
    """Check each table by itself; return what was said, and the tables that could not be."""
    conn = opened.conn
    said: list[str] = []
    unchecked: list[str] = []
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    for (name,) in conn.execute(names).fetchall():
        quoted = str(name).replace("'", "''")
        try:
            said += _said(conn, f"PRAGMA {pragma}('{quoted}')")
        except sqlite3.Error as error:
            if primary_code(error) != SQLITE_ERROR:
                raise
            unchecked.append(f"{name} ({error})")
    return said, unchecked


def _references(opened: OpenDatabase) -> Iterator[Finding]:
    try:
        rows = list(islice(opened.conn.execute("PRAGMA foreign_key_check"), _KEYS))
    except sqlite3.Error as error:
        if primary_code(error) != SQLITE_ERROR:
            return  # told above
        yield _finding(
            "foreign-keys-unchecked",
            "warn",
            f"the foreign keys could not be checked: {error}",
            opened.path,
            "a foreign key names a column that is no key of the table it refers to",
        )
        return
    counts: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in rows:
        counts[str(table), str(parent)] = counts.get((str(table), str(parent)), 0) + 1
    more = " or more" if len(rows) == _KEYS else ""
    for (table, parent), count in counts.items():
        yield Finding(
            code="integrity.foreign-key",
            check="integrity",
            severity="fail",
            measured=f"{plural(count, 'row')}{more} of {table} "
            f"{'refers' if count == 1 else 'refer'} to rows of {parent} that do not exist",
            where=table,
            advice="a program wrote or deleted without PRAGMA foreign_keys=ON; add the missing "
            "rows or remove the references",
            data={"table": table, "parent": parent, "count": count},
        )
    if not rows:
        yield _finding("foreign-keys", "pass", "foreign_key_check: ok", opened.path)


def _failure(opened: OpenDatabase, error: sqlite3.Error) -> Finding:
    if is_busy(error):
        raise explain(error, opened.path) or error from error
    return _finding("malformed", "fail", f"it cannot be read: {error}", opened.path, _RESTORE)
