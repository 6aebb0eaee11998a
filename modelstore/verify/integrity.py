"""The structure of the database as its readers see it, and its foreign keys."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.database.handle import CACHE_SIZE
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_ERROR,
    SQLITE_INTERRUPT,
    is_busy,
    primary_code,
    translate_sqlite_error,
)
from modelstore.finding import Finding, findings_of
from modelstore.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.subject import Tick, VerifyOptions

_STEPS = 50_000  # of SQLite's virtual machine, between two looks
_COUNTERS = "/proc/self/io"


@contextmanager
def ticking(conn: sqlite3.Connection, tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` now and then while `conn` works in the block; signals end the statement.

    SQLite's module swallows whatever a signal's handler raises while SQLite is at work, and what
    was interrupted looks like a result: so signals are kept until the block is over.
    """
    with _signals_kept() as arrived:

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


@contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Yield a list of the signals that arrive in the block; they take effect at its end."""
    arrived: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda got, _: arrived.append(got))
    try:
        yield arrived
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def bytes_read() -> int:
    """Return how many bytes this process has read so far; 0 where the system does not tell."""
    try:
        with open(_COUNTERS, "rb") as counters:
            first = counters.readline()
    except OSError:
        return 0
    name, _, count = first.partition(b":")
    return int(count) if name == b"rchar" else 0


_finding = findings_of("integrity")

# Whoever has the word elsewhere in the definition is checked for nothing, which is no fault.
_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND sql LIKE '%check%'"
)


def check_constraints(opened: OpenDatabase, orders: VerifyOptions) -> Iterator[Finding]:
    """Yield each table with a row that breaks a CHECK constraint of it."""
    tables = [str(name) for (name,) in opened.conn.execute(_TABLES)]
    if tables and opened.access in {"ro", "immutable"}:
        yield _unchecked(opened, tables, "SQLite does that only where it could write")
        return
    with orders.watching("tables") as tick:
        for done, table in enumerate(tables):
            tick("CHECK constraints", done, len(tables))
            try:
                with ticking(opened.conn, lambda: None):
                    is_broken = _is_broken(opened.conn, table)
            except sqlite3.Error as error:  # a function of the application's own, say
                yield _unchecked(opened, [table], str(error))
                continue
            if is_broken:
                yield _finding(
                    "constraint",
                    "fail",
                    f"rows of {table} break a CHECK constraint of it",
                    table,
                    "a program wrote with PRAGMA ignore_check_constraints, or the constraint is "
                    "newer than the rows; mend the rows",
                    {"table": table},
                )


def _unchecked(opened: OpenDatabase, tables: list[str], why: str) -> Finding:
    return _finding(
        "constraints-unchecked",
        "note",
        f"the CHECK constraints of {plural(len(tables), 'table')} are not checked: {why}",
        opened.path,
        data={"tables": tables},
    )


def _is_broken(conn: sqlite3.Connection, table: str) -> bool:
    """Tell whether SQLite finds such a row; what else it says was told by the whole check.

    A fault that is not found once the constraints are ignored is one of theirs. SQLite tells of
    the first hundred faults, in the same order either way.
    """
    found = _faults(conn, table)
    if not found:
        return False
    with _constraints_ignored(conn):
        return not found <= _faults(conn, table)


def _faults(conn: sqlite3.Connection, table: str) -> set[str]:
    quoted = table.replace("'", "''")
    rows = conn.execute(f"PRAGMA quick_check('{quoted}')")
    return {str(message) for (message,) in rows if message != "ok"}


@contextmanager
def _constraints_ignored(conn: sqlite3.Connection) -> Iterator[None]:
    """Leave the CHECK constraints out of checks too: sqlite.org/pragma.html."""
    conn.execute("PRAGMA ignore_check_constraints = ON")
    try:
        yield
    finally:
        conn.execute("PRAGMA ignore_check_constraints = OFF")


_integrity_finding = findings_of("integrity")

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


def check_integrity(opened: OpenDatabase, orders: VerifyOptions) -> Iterator[Finding]:
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
        return _integrity_finding(
            "damaged",
            "fail",
            f"{pragma}: {plural(len(messages), 'problem')}{more}: {messages[0]}",
            opened.path,
            _RESTORE,
            {"pragma": pragma, "messages": messages},
        )
    if unchecked:
        return _integrity_finding(
            "unchecked",
            "warn",
            f"{pragma} could not check {', '.join(unchecked[:5])}",
            opened.path,
            "the application defines what its tables need: a collation, a function, a module",
            {"pragma": pragma, "unchecked": unchecked},
        )
    where = " of a copy" if opened.access == "copy" else ""
    return _integrity_finding(
        "ok", "pass", f"{pragma}{where}: ok", opened.path, data={"pragma": pragma}
    )


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
        yield _integrity_finding(
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
        yield _integrity_finding("foreign-keys", "pass", "foreign_key_check: ok", opened.path)


def _failure(opened: OpenDatabase, error: sqlite3.Error) -> Finding:
    if is_busy(error):
        raise translate_sqlite_error(error, opened.path) or error from error
    return _integrity_finding(
        "malformed", "fail", f"it cannot be read: {error}", opened.path, _RESTORE
    )
