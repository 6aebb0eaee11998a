"""The schema table.

https://www.sqlite.org/fileformat2.html#storage_of_the_sql_database_schema
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.text import ascii_lower
from modelstore.wal.pages import TABLE_LEAF, PageSet
from modelstore.wal.record import decode_record

if TYPE_CHECKING:
    from modelstore.wal.pages import DatabaseView

SCHEMA_TABLE = "sqlite_schema"
_MAX_OBJECTS = 1 << 20
_MAX_ROW = 1 << 24  # bytes of one row: SQLite's default bound on SQL is far below
_MAX_TEXT = 1 << 28  # bytes of all rows


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A row of the schema table, at `rowid`. `root` is 0 without a b-tree: a view, a trigger."""

    type: str
    name: str
    table: str
    root: int
    sql: str
    rowid: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """The type, and the name in lower case as SQLite compares names."""
        return self.type, ascii_lower(self.name)


Schema = dict[tuple[str, str], SchemaObject]
"""The objects of a database, by type and lower-case name."""


def read_schema(view: DatabaseView) -> Schema:
    """Return the objects in `view`, the schema table included.

    Raises `CorruptPageError`, also for more objects than any database in use has.
    """
    own = SchemaObject("table", SCHEMA_TABLE, SCHEMA_TABLE, 1, "")
    found = {("table", SCHEMA_TABLE): own}
    room = _MAX_TEXT
    chains = PageSet()
    for leaf in view.tree(1, PageSet()).leaves:
        for cell in view.cells(view.tree_page(leaf, TABLE_LEAF, 1)):
            room -= cell.size
            if cell.size > _MAX_ROW or room < 0 or len(found) > _MAX_OBJECTS:
                raise view.corrupt("the schema is larger than any that is in use")
            payload = view.payload(cell, seen=chains)
            item = _object(payload, view.header.encoding, cell.rowid or 0)
            if item is None:
                raise view.corrupt(f"page {leaf} has a row that is no part of a schema")
            if item.root > view.page_count:
                raise view.corrupt(f"page {leaf} names page {item.root}, which is not there")
            if item.sql and item.key in found:  # SQLite reads nothing of such a schema
                raise view.corrupt(f"page {leaf} has a {item.type} that the schema has already")
            found[item.key] = item
    return found


def _object(payload: bytes, encoding: int, rowid: int) -> SchemaObject | None:
    try:
        kind, name, table, root, sql = decode_record(payload, encoding, 5)
    except ValueError:
        return None
    if not (isinstance(kind, str) and isinstance(name, str) and isinstance(table, str)):
        return None
    root = root if isinstance(root, int) else 0
    return SchemaObject(kind, name, table, root, sql if isinstance(sql, str) else "", rowid)
