"""The deleted rows of a state: its pages in use and its free pages, carved table by table.

The tables are those of the schema; those whose deleted definitions are still in the free space of
the schema's own pages; and tables without a definition, told from the rows in free pages.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Additions, Source
from modelstore.recovery.carve import CarvedRow, carve
from modelstore.recovery.free_space import PageImage, payloads
from modelstore.recovery.orphans import free_pages
from modelstore.recovery.salvage import read_objects
from modelstore.recovery.tables import Column, Table, tables_of
from modelstore.recovery.trees import TreeReader
from modelstore.wal.pages import TABLE_LEAF, CorruptPageError, PageSet
from modelstore.wal.record import RecordError, decode_record
from modelstore.wal.schema import SCHEMA_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modelstore.recovery.states import State, StateView
    from modelstore.wal.record import Value
    from modelstore.wal.schema import SchemaObject

_SCHEMA_COLUMNS = (
    Column("type", "TEXT", not_null=True),
    Column("name", "TEXT", not_null=True),
    Column("tbl_name", "TEXT", not_null=True),
    Column("rootpage", "INTEGER", not_null=True),
    Column("sql", "TEXT"),
)
_MAX_DEFINITIONS = 64
_MAX_STEPS = 100_000  # instructions of SQLite for one definition
_MAX_UNKNOWN = 8  # tables without a definition
_ENOUGH_ROWS = 3  # rows of one width in free pages that make such a table
_MAX_EXAMPLES = 500
_AFFINITIES = {type(None): "NULL", int: "INTEGER", float: "REAL", str: "TEXT"}


@dataclass(slots=True)
class StatePages:
    """The b-tree pages and the free pages of a state, each with its owner, to be read again.

    Left out are the schema's own pages, and overflow chains: what is in them is in use.
    """

    state: State
    view: StateView
    tables: Sequence[Table]
    owners: array[int] = field(default_factory=lambda: array("I"))
    free: PageSet = field(default_factory=PageSet)
    trunks: PageSet = field(default_factory=PageSet)

    @classmethod
    def of(cls, state: State, view: StateView, roots: Mapping[int, str | None]) -> StatePages:
        """Find the pages of the trees at `roots`; each root has the name of its table, or None."""
        names = list(dict.fromkeys(name for name in roots.values() if name is not None))
        pages = cls(state, view, [Table(name, 0, (), None, has_rowid=True) for name in names])
        pages.owners = array("I", bytes(4 * (view.page_count + 1)))
        reader = TreeReader(view)
        for root, name in roots.items():
            mark = 1 if name is None else names.index(name) + 2
            for found in reader.pages(root):
                if found.page is not None:
                    pages.owners[found.number] = mark
        pages.free, _ = free_pages(view)
        trunk = view.header.freelist_trunk
        while trunk in pages.free and pages.trunks.add(trunk):
            trunk = int.from_bytes(pages.read(trunk)[:4], "big")
        return pages

    def __iter__(self) -> Iterator[PageImage]:
        return (image for image in self._images() if image.owner != SCHEMA_TABLE)

    def _images(self) -> Iterator[PageImage]:
        for number in range(1, self.view.page_count + 1):
            owner = self.owners[number]
            is_free = not owner and number in self.free
            data = self.read(number) if owner or is_free else b""
            if data:
                name = self.tables[owner - 2].name if owner > 1 else None
                file, frame = self.state.source(number)
                yield PageImage(number, data, file, self.view.usable, frame, name, is_free)

    def read(self, number: int) -> bytes:
        """Return the bytes of a page; none if no file holds it."""
        try:
            return self.view.page(number)
        except CorruptPageError:
            return b""

    def read_unused(self, number: int) -> bytes:
        """Return the bytes of a free page that can be part of a deleted row's overflow chain.

        A trunk of the freelist cannot: its list is written over the chain.
        """
        is_whole = number in self.free and number not in self.trunks
        return self.read(number) if is_whole else b""

    def schema_pages(self) -> list[PageImage]:
        """Return the images of the schema's own pages."""
        return [image for image in self._images() if image.owner == SCHEMA_TABLE]


def deleted_rows(state: State, conn: sqlite3.Connection) -> Iterator[CarvedRow]:
    """Yield the deleted rows of `state`; `conn` has its schema, or is empty."""
    view = state.view()
    encoding = view.header.encoding
    objects = read_objects(view)
    own = {item.name for item in objects if not item.name.lower().startswith("sqlite_")}
    tables = [table for table in tables_of(conn) if table.name in own]
    pages = StatePages.of(state, view, _roots(objects))
    for table in _dropped_tables(pages, encoding):
        twin = next((t for t in tables if t.name.lower() == table.name.lower()), None)
        if twin is None:
            tables.append(table)
        elif (twin.columns, twin.alias) != (table.columns, table.alias):
            tables.append(replace(table, name=f"{table.name}_before"))
    unknown = _unknown_tables(pages, tables, encoding)
    examples = [(table.name, row) for table, rows in unknown for row in rows]
    tables += [table for table, _ in unknown]
    yield from carve(pages, tables, encoding, pages.read_unused, examples)


def add_deleted(state: State, additions: Additions) -> None:
    """Add the deleted rows of `state` to the new file, in tables of their own."""
    for row in deleted_rows(state, additions.conn):
        note = "deleted or changed" if not row.note else f"deleted or changed; {row.note}"
        source = Source(row.origin, row.page, row.frame, None, row.confidence, note)
        additions.set_aside(row.table, row.values, row.rowid, source, "deleted")


def _roots(objects: Sequence[SchemaObject]) -> dict[int, str | None]:
    """Return the root of each tree, with the name of its table; an index has none."""
    found: dict[int, str | None] = {1: SCHEMA_TABLE}
    for item in objects:
        if item.root > 1:
            found[item.root] = item.name if item.type == "table" else None
    return found


# -- tables that the schema no longer has ----------------------------------------------------------


def _dropped_tables(pages: StatePages, encoding: int) -> list[Table]:
    """Return the tables whose deleted definitions are still in the schema's pages."""
    schema = Table(SCHEMA_TABLE, 1, _SCHEMA_COLUMNS, None, has_rowid=True)
    found: dict[str, Table] = {}
    for row in carve(pages.schema_pages(), [schema], encoding, pages.read_unused):
        kind, name, _, _, sql = row.values
        if kind != "table" or not isinstance(sql, str) or len(found) >= _MAX_DEFINITIONS:
            continue
        table = _defined(sql)
        if table is not None and table.name == name:
            found.setdefault(table.name.lower(), table)
    return list(found.values())


def _defined(sql: str) -> Table | None:
    """Return the table that a definition makes; SQLite reads it in an empty database."""
    if sql[:13].upper() != "CREATE TABLE " or len(sql) > 200_000:
        return None
    conn = sqlite3.connect(":memory:", isolation_level=None)
    try:
        conn.set_progress_handler(lambda: 1, _MAX_STEPS)
        conn.execute(sql)
        tables = tables_of(conn)
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        return None
    finally:
        conn.close()
    return tables[0] if len(tables) == 1 else None


def _unknown_tables(
    pages: StatePages, tables: Sequence[Table], encoding: int
) -> list[tuple[Table, list[bytes]]]:
    """Return a table for each width of the rows in free pages that fit no known table.

    Each comes with the payloads of some of its rows.
    """
    examples: dict[int, list[bytes]] = {}
    kinds: dict[int, list[set[str]]] = {}
    for image in pages:
        if not image.is_free or image.kind != TABLE_LEAF:
            continue
        for rowid, stored, payload in _rows_of(image, encoding):
            if len(stored) < 2 or any(_is_of(table, rowid, stored) for table in tables):
                continue
            rows = examples.setdefault(len(stored), [])
            if len(rows) < _MAX_EXAMPLES:
                rows.append(payload)
                columns = kinds.setdefault(len(stored), [set() for _ in stored])
                for column, value in zip(columns, stored, strict=True):
                    column.add(_AFFINITIES.get(type(value), "BLOB"))
    common = sorted(examples, key=lambda width: -len(examples[width]))[:_MAX_UNKNOWN]
    return [
        (Table(f"unknown_{n}", 0, _columns(kinds[width]), None, has_rowid=True), examples[width])
        for n, width in enumerate(common, 1)
        if len(examples[width]) >= _ENOUGH_ROWS
    ]


def _is_of(table: Table, rowid: int | None, stored: list[Value]) -> bool:
    return len(stored) == len(table.columns) and table.fits(rowid, stored)


def _columns(kinds: Sequence[set[str]]) -> tuple[Column, ...]:
    """Return columns c0, c1 and so on, with the affinity of the values that were seen."""
    found = []
    for number, kind in enumerate(kinds):
        known = kind - {"NULL"}
        affinity = next(iter(known)) if len(known) == 1 else "NUMERIC" if known else "BLOB"
        found.append(Column(f"c{number}", "BLOB" if "BLOB" in known else affinity))
    return tuple(found)


def _rows_of(image: PageImage, encoding: int) -> Iterator[tuple[int | None, list[Value], bytes]]:
    """Yield the rows of a page that it holds whole."""
    for span, payload in payloads(image):
        try:
            yield span.rowid, decode_record(payload, encoding), payload
        except RecordError:
            continue
