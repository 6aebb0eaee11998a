"""Tables as records hold them: which value belongs to which column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.wal.schema_columns import parse_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.sqlite import sqlite3
    from modelstore.wal.record import Value


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `affinity` is INTEGER, TEXT, REAL, NUMERIC or BLOB."""

    name: str
    affinity: str
    not_null: bool = False
    is_generated: bool = False
    default: Value = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `columns` are those that records hold, in the order of CREATE TABLE.

    `alias` is the index of the column that is the rowid; a record holds NULL there. `order` gives
    the column of each value of a record; without rowids the first `key_size` of them are the
    primary key. https://www.sqlite.org/withoutrowid.html
    """

    name: str
    root: int
    columns: tuple[Column, ...]
    alias: int | None
    has_rowid: bool
    order: tuple[int, ...] = ()
    key_size: int = 0

    @property
    def keys(self) -> tuple[int, ...]:
        """The columns of the primary key; empty for a table with rowids."""
        return self.order[: self.key_size]

    def values(self, rowid: int | None, stored: list[Value]) -> tuple[Value, ...]:
        """Return a row's values in the order of `columns`, defaults for those it is older than."""
        row: list[Value] = [column.default for column in self.columns]
        for value, place in zip(stored, self.order or range(len(self.columns)), strict=False):
            row[place] = value
        if self.alias is not None and rowid is not None:
            row[self.alias] = rowid
        return tuple(row)

    def names_at(self, places: Sequence[int]) -> str:
        """Return the names of the columns that hold the values at these places of a record."""
        order = self.order or range(len(self.columns))
        return ", ".join(self.columns[order[at]].name for at in places if at < len(order))

    def fits(self, rowid: int | None, stored: list[Value]) -> bool:
        """Return True if a record may be a row of this table, by its values' types."""
        if (rowid is None) == self.has_rowid or not stored or len(stored) > len(self.columns):
            return False
        if self.alias is not None and (len(stored) <= self.alias or stored[self.alias] is not None):
            return False
        if not self.has_rowid and len(stored) != len(self.columns):
            return False
        return all(
            place == self.alias or _may_hold(self.columns[place], value)
            for value, place in zip(stored, self.order or range(len(self.columns)), strict=False)
        )


def _may_hold(column: Column, value: Value) -> bool:
    """Return True if SQLite would store `value` in a column of this affinity as it is."""
    if value is None:
        return not column.not_null
    if column.affinity == "TEXT":
        return isinstance(value, (str, bytes))
    if column.affinity in ("INTEGER", "REAL", "NUMERIC"):
        return not isinstance(value, str) or not _is_number(value)
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().isascii() and "_" not in text


def affinity(declared: str) -> str:
    """Return the affinity of a declared type (https://www.sqlite.org/datatype3.html)."""
    text = declared.upper()
    for part, name in (("INT", "INTEGER"), ("CHAR", "TEXT"), ("CLOB", "TEXT"), ("TEXT", "TEXT")):
        if part in text:
            return name
    if "BLOB" in text or not text:
        return "BLOB"
    return "REAL" if any(part in text for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def tables_of(conn: sqlite3.Connection) -> list[Table]:
    """Return the tables of the new file that have rows of their own; virtual tables have none."""
    rows = conn.execute(
        "SELECT name, rootpage, sql FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
    ).fetchall()
    found = (
        _table(conn, name, root, sql)
        for name, root, sql in rows
        if isinstance(sql, str) and is_unicode(name) and is_unicode(sql)
    )
    return [table for table in found if table is not None]


def is_unicode(text: str) -> bool:
    """Return True for text that SQL can hold; a damaged schema may have any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _table(conn: sqlite3.Connection, name: str, root: int, sql: str) -> Table | None:
    parsed = parse_table(sql)
    rows = conn.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
    stored = {
        str(row[1]).lower(): Column(
            str(row[1]),
            affinity(str(row[2])),
            bool(row[3]),
            row[6] == 3,
            _constant(conn, row[4]),
        )
        for row in rows
        if row[6] in (0, 3)  # 2 is a virtual generated column: no record holds it
    }
    if not stored:
        return None
    if parsed is None or not parsed.key_size:
        columns = tuple(stored.values())
        names = list(stored)
        alias = parsed.rowid_alias.lower() if parsed is not None and parsed.rowid_alias else None
        place = names.index(alias) if alias in names else None
        return Table(name, root, columns, place, has_rowid=True)
    names = list(stored)
    order = tuple(names.index(key) for key in parsed.stored if key in stored)
    columns = tuple(stored.values())
    if len(order) != len(columns):
        return None
    return Table(name, root, columns, None, has_rowid=False, order=order, key_size=parsed.key_size)


def _constant(conn: sqlite3.Connection, expression: str | None) -> Value:
    """Return a default that older rows have for a column; ADD COLUMN takes constants alone."""
    from modelstore.database.sqlite import sqlite3

    if expression is None or len(expression) > 100_000:
        return None
    try:
        value: Value = conn.execute(f"SELECT {expression}").fetchone()[0]
    except (sqlite3.Error, sqlite3.Warning, TypeError, UnicodeDecodeError):
        return None
    return value
