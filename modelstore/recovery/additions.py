"""Rows added to the new file, each with its provenance.

A row goes into its table if nothing there has its key, or into ``lost_and_found_<table>``. Either
way ``modelstore_recovered`` has a row that says which file, frame and commit it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.tables import Column, Table, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.wal.record import Value

PROVENANCE = "modelstore_recovered"
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True, slots=True)
class Source:
    """The place where the bytes of a row were found, and how sure it is that the row was real.

    `confidence` is 1 for a row of a commit that checksums prove.
    """

    file: str
    page: int | None = None
    frame: int | None = None
    commit: int | None = None
    confidence: float = 1.0
    note: str = ""


@dataclass(slots=True)
class Counts:
    """The rows added for one table: `fitted` into the table itself, others into `other`.

    `sources` counts all of them by file, `fitted_from` the fitted ones.
    """

    fitted: int = 0
    others: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    fitted_from: dict[str, int] = field(default_factory=dict)


class Additions:
    """Adds rows to the new file; `conn` has a transaction open.

    `total` counts the lines of provenance, `own_tables` are those that are made here.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.counts: dict[str, Counts] = {}
        self.total = 0
        self.own_tables: set[str] = {PROVENANCE}
        self._places: dict[tuple[str, str], list[tuple[tuple[Column, ...], str, str]]] = {}
        self._selects: dict[str, tuple[Table, str]] = {}

    def count(self, table: str) -> Counts:
        """Return the counts of a table."""
        found = self.counts.get(table)
        if found is None:
            found = self.counts[table] = Counts()
        return found

    def current(self, table: Table, row: Sequence[Value], rowid: int | None) -> list[Value] | None:
        """Return the row of `table` in the new file with this key; None if there is none."""
        key = [rowid] if table.has_rowid else [bindable(row[at]) for at in table.keys]
        known, sql = self._selects.get(table.name, (None, ""))
        if known is not table:
            sql = _select(table)
            self._selects[table.name] = table, sql
        found = self.conn.execute(sql, key).fetchone()
        return None if found is None else list(found)

    def between(self, table: Table, first: int, last: int) -> dict[int, tuple[Value, ...]]:
        """Return the rows of the new file with the rowids `first` to `last`."""
        names = ", ".join(quoted(column.name) for column in table.columns)
        key = rowid_name(table)
        found = self.conn.execute(
            f"SELECT {key}, {names} FROM {quoted(table.name)} WHERE {key} BETWEEN ? AND ?",
            (first, last),
        )
        return {rowid: tuple(values) for rowid, *values in found}

    def rows(self, table: Table) -> Iterator[tuple[Value, ...]]:
        """Yield the rows that the new file has of a table."""
        names = ", ".join(quoted(column.name) for column in table.columns)
        yield from self.conn.execute(f"SELECT {names} FROM {quoted(table.name)}")

    def fit(self, table: Table, row: Sequence[Value], rowid: int | None, source: Source) -> bool:
        """Insert a row where it fits; return False if a constraint of the table forbids it."""
        if not insert_row(self.conn, table, row, rowid):
            return False
        counts = self.count(table.name)
        counts.fitted += 1
        counts.fitted_from[source.file] = counts.fitted_from.get(source.file, 0) + 1
        self._note(table.name, table.name, key_text(table, row, rowid), source)
        return True

    def set_aside(
        self,
        table: Table,
        row: Sequence[Value],
        rowid: int | None,
        source: Source,
        prefix: str = "lost_and_found",
    ) -> None:
        """Insert a row into a table of its own, which has no constraints."""
        name, sql = self._place(table, prefix)
        number = self._note(table.name, name, key_text(table, row, rowid), source)
        self.conn.execute(sql, (number, rowid, *map(bindable, row)))
        others = self.count(table.name).others
        others[name] = others.get(name, 0) + 1

    def _place(self, table: Table, prefix: str) -> tuple[str, str]:
        """Return name and INSERT of the table for rows of `table` that are set aside."""
        places = self._places.setdefault((prefix, table.name), [])
        for columns, name, sql in places:
            if columns == table.columns:
                return name, sql
        name = free_name(self.conn, f"{prefix}_{table.name}")
        taken = {"recovered", "original_rowid"}
        definitions = []
        for column in table.columns:
            label = column.name
            while label.lower() in taken:
                label += "_"
            taken.add(label.lower())
            definitions.append(f"{quoted(label)} {column.affinity}")
        self.conn.execute(
            f"CREATE TABLE {quoted(name)} (recovered INTEGER PRIMARY KEY, original_rowid INTEGER, "
            f"{', '.join(definitions)})"
        )
        self.own_tables.add(name)
        marks = ", ".join("?" * (len(definitions) + 2))
        places.append((table.columns, name, f"INSERT INTO {quoted(name)} VALUES ({marks})"))
        return places[-1][1:]

    def _note(self, table: str, into: str, key: str, source: Source) -> int:
        sources = self.count(table).sources
        sources[source.file] = sources.get(source.file, 0) + 1
        return self.note(table, into, key, source)

    def note(self, table: str, into: str | None, key: str | None, source: Source) -> int:
        """Write one line of provenance and return its number; without `key`, for the table."""
        if not self.total:
            self.conn.execute(
                f"CREATE TABLE IF NOT EXISTS {PROVENANCE} (id INTEGER PRIMARY KEY, "
                "table_name TEXT NOT NULL, into_table TEXT, row_key TEXT, file TEXT NOT NULL, "
                'page INTEGER, frame INTEGER, "commit" INTEGER, confidence REAL NOT NULL, '
                "note TEXT NOT NULL)"
            )
        self.total += 1
        cursor = self.conn.execute(
            f"INSERT INTO {PROVENANCE} VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                bindable(table),
                bindable(into),
                bindable(key),
                bindable(source.file),
                source.page,
                source.frame,
                source.commit,
                source.confidence,
                source.note,
            ),
        )
        return int(cursor.lastrowid or 0)


def _select(table: Table) -> str:
    """Return the SELECT for the row of a table with one key."""
    names = ", ".join(quoted(column.name) for column in table.columns)
    if table.has_rowid:
        key = f"NOT INDEXED WHERE {rowid_name(table)} = ?"
    else:
        key = "WHERE " + " AND ".join(f"{quoted(table.columns[at].name)} IS ?" for at in table.keys)
    return f"SELECT {names} FROM {quoted(table.name)} {key}"


def insert_row(
    conn: sqlite3.Connection, table: Table, row: Sequence[Value], rowid: int | None
) -> bool:
    """Insert a row with its own rowid; return False if a constraint forbids it."""
    places = [i for i, column in enumerate(table.columns) if not column.is_generated]
    names = [quoted(table.columns[i].name) for i in places]
    values = [bindable(row[i]) for i in places]
    marks = ["CAST(? AS TEXT)" if is_odd_text(row[i]) else "?" for i in places]
    if table.has_rowid and table.alias is None:
        names.append(rowid_name(table))
        values.append(rowid)
        marks.append("?")
    try:
        conn.execute(
            f"INSERT INTO {quoted(table.name)} ({', '.join(names)}) VALUES ({', '.join(marks)})",
            values,
        )
    except (sqlite3.IntegrityError, sqlite3.DataError, UnicodeDecodeError):
        return False  # the last if a constraint's name, which the message quotes, is no UTF-8
    return True


def rowid_name(table: Table) -> str:
    """Return a name of the rowid that no column takes."""
    taken = {column.name.lower() for column in table.columns}
    if table.alias is not None:
        return quoted(table.columns[table.alias].name)
    return next((name for name in _ROWID_NAMES if name not in taken), "rowid")


def is_odd_text(value: object) -> bool:
    """Return True for text that is no valid Unicode."""
    return isinstance(value, str) and not value.isascii() and _encoded(value) is not None


def _encoded(text: str) -> bytes | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape" if _only_bytes(text) else "replace")
    return None


def _only_bytes(text: str) -> bool:
    return all(not 0xD800 <= ord(char) <= 0xDFFF or 0xDC80 <= ord(char) <= 0xDCFF for char in text)


def bindable(value: Value) -> Value:
    """Return a value that SQLite takes: text that is no valid Unicode becomes its bytes."""
    if isinstance(value, str) and not value.isascii():
        raw = _encoded(value)
        return value if raw is None else raw
    return value


def free_name(conn: sqlite3.Connection, name: str) -> str:
    """Return `name`, or `name` with a number behind it if the database has it already."""
    wanted = name
    number = 1
    while conn.execute(
        "SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE", (bindable(wanted),)
    ).fetchone():
        number += 1
        wanted = f"{name}_{number}"
    return wanted


def key_text(table: Table, row: Sequence[Value], rowid: int | None) -> str:
    """Return a row's key as `modelstore_recovered` shows it."""
    if table.has_rowid:
        return str(rowid)
    return repr(tuple(row[at] for at in table.keys))[:500]
