"""The CHECK constraints, which SQLite's own check passes over where it could not write.

On a connection that is read-only, SQLite leaves them out of the schema it reads, and then
integrity_check says ok: ``sqlite3AddCheckConstraint`` in sqlite.org/src/file/src/build.c.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.store.sqlite import sqlite3
from modelstore.text import plural
from modelstore.verify.finding import findings_of
from modelstore.verify.patience import ticking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.store.connection import OpenDatabase
    from modelstore.verify.finding import Finding
    from modelstore.verify.subject import Orders

_finding = findings_of("integrity")

# Whoever has the word elsewhere in the definition is checked for nothing, which is no fault.
_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND sql LIKE '%check%'"
)


def check_constraints(opened: OpenDatabase, orders: Orders) -> Iterator[Finding]:
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
