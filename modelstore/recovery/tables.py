"""Tables as records hold them: which value belongs to which column, and rows out of pages.

A damaged tree is read as far as its pages go: a page that cannot be read costs its own rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.wal.format import DATABASE_HEADER_SIZE
from modelstore.wal.pages import (
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    BtreePage,
    CorruptPageError,
    PageSet,
)
from modelstore.wal.record import RecordError, Value, decode_record
from modelstore.wal.schema import parse_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.sqlite import sqlite3
    from modelstore.wal.pages import Cell, DatabaseView

_MAX_ROW = 1 << 30  # bytes: SQLite's own bound on a row
_MAX_DEPTH = 20


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
    except (sqlite3.Error, sqlite3.Warning, TypeError):
        return None
    return value


# -- rows out of pages -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as its page holds it."""

    rowid: int | None
    stored: list[Value]
    page: int


@dataclass(slots=True)
class TreeReader:
    """Reads what is left of b-trees in a damaged state, and notes what is not.

    `missing` are pages that no file holds, `unreadable` pages with other content; `seen` are the
    pages that belong to a tree. `bad_rows` counts rows that cannot be read whole.
    """

    view: DatabaseView
    seen: PageSet = field(default_factory=PageSet)
    missing: list[int] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    bad_rows: int = 0
    chains: PageSet = field(default_factory=PageSet)

    def rows(self, root: int) -> Iterator[StoredRow]:
        """Yield the rows of the tree at `root`, as far as its pages can be read."""
        levels: list[list[int]] = [[root]]
        while levels:
            if not levels[-1]:
                levels.pop()
                continue
            number = levels[-1].pop()
            if not self.seen.add(number):
                continue
            page = self._page(number)
            if page is None:
                continue
            if page.kind != TABLE_INTERIOR:
                yield from self.rows_in(page)
            if not page.is_leaf and len(levels) <= _MAX_DEPTH:
                levels.append(page.children()[::-1])

    def _page(self, number: int) -> BtreePage | None:
        try:
            return self.view.btree_page(number)
        except CorruptPageError:
            is_there = 1 <= number <= self.view.page_count and self._has_bytes(number)
            (self.unreadable if is_there else self.missing).append(number)
            return self._partly(number) if is_there else None

    def _partly(self, number: int) -> BtreePage | None:
        """Return a damaged page with those of its cell pointers that can be true.

        If the page counts more cells than can be, its pointers end at the first that is not true.
        """
        data, usable = self.view.page(number), self.view.usable
        start = DATABASE_HEADER_SIZE if number == 1 else 0
        kind = data[start]
        if kind not in (TABLE_LEAF, INDEX_LEAF):
            return None
        begin = start + 8
        count = int.from_bytes(data[start + 3 : start + 5], "big")
        is_possible = count <= (usable - 8) // 6
        cells: list[int] = []
        for place in range(begin, min(begin + 2 * count, usable - 2), 2):
            at = int.from_bytes(data[place : place + 2], "big")
            if place + 2 <= at <= usable - 4 and at not in cells:
                cells.append(at)
            elif not is_possible:
                break
        return BtreePage(number, kind, data, tuple(cells), 0)

    def _has_bytes(self, number: int) -> bool:
        try:
            return any(self.view.page(number))
        except CorruptPageError:
            return False

    def rows_in(self, page: BtreePage) -> Iterator[StoredRow]:
        """Yield the rows of one page that can be read whole."""
        for index in range(len(page.cells)):
            try:
                cell = self.view.cell(page, index)
                row = self.row(cell, page.number)
            except (CorruptPageError, RecordError):
                self.bad_rows += 1
                continue
            yield row

    def row(self, cell: Cell, page: int) -> StoredRow:
        """Return a cell as a row. Raises `CorruptPageError` or `RecordError`."""
        if cell.size > _MAX_ROW:
            raise CorruptPageError(f"page {page} has a row larger than any that SQLite stores")
        payload = whole_payload(self.view, cell)
        stored = decode_record(payload, self.view.header.text_encoding)
        return StoredRow(cell.rowid, stored, page)


def whole_payload(view: DatabaseView, cell: Cell, seen: PageSet | None = None) -> bytes:
    """Return the payload of a cell; its last overflow page must say that it is the last.

    Raises `CorruptPageError`: a page that was overwritten rarely begins with four zero bytes.
    """
    content = bytearray(cell.local)
    last = 0
    for number, part in view.chain(cell, PageSet() if seen is None else seen):
        content += part
        last = number
    if last and any(view.page(last)[:4]):
        raise CorruptPageError(f"page {last} ends an overflow chain and names another page")
    return bytes(content)
