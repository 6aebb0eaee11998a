"""A database built anew from the rows that a damaged state still has.

The schema comes from the state, or from an older copy of it. Without any, tables are told from
their pages and have columns c0, c1 and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import (
    Additions,
    Source,
    bindable,
    insert_row,
)
from modelstore.recovery.indexes import add_from_indexes
from modelstore.recovery.states import looks_like_tree
from modelstore.recovery.tables import StoredRow, Table, TreeReader, quoted, tables_of
from modelstore.recovery.unnamed import UnnamedTrees
from modelstore.wal.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    BtreePage,
    CorruptPageError,
    PageSet,
)
from modelstore.wal.schema import SchemaObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.recovery.states import State, StateView

_MAX_OBJECTS = 20_000


@dataclass(slots=True)
class Salvage:
    """The result: rows of each table, and what could not be read.

    `missing` are pages of trees that no file holds, `unreadable` pages with other content; each
    held one row at least. `proven` counts missing rows that an index names. `notes` say what
    could not be made again.
    """

    rows: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[int]] = field(default_factory=dict)
    unreadable: dict[str, list[int]] = field(default_factory=dict)
    proven: dict[str, int] = field(default_factory=dict)
    bad_rows: int = 0
    notes: list[str] = field(default_factory=list)
    has_schema: bool = True


def read_objects(view: StateView) -> list[SchemaObject]:
    """Return the schema's objects, as far as its pages can be read."""
    found: list[SchemaObject] = []
    reader = TreeReader(view)
    for row in reader.rows(1):
        if len(row.stored) < 5 or row.rowid is None or len(found) > _MAX_OBJECTS:
            continue
        kind, name, table, root, sql = row.stored[:5]
        if isinstance(kind, str) and isinstance(name, str) and isinstance(table, str):
            number = root if isinstance(root, int) and root >= 0 else 0
            found.append(
                SchemaObject(kind, name, table, number, sql if isinstance(sql, str) else "")
            )
    return found


def salvage(
    state: State, conn: sqlite3.Connection, objects: Sequence[SchemaObject], additions: Additions
) -> Salvage:
    """Fill the empty database `conn` with the rows of `state`; `conn` has a transaction open."""
    view = state.view()
    result = Salvage(has_schema=bool(objects))
    reader = TreeReader(view)
    _create(conn, objects, result, kinds=("table",))
    roots = {item.name.lower(): item.root for item in objects if item.type == "table"}
    damaged: list[Table] = []
    for table in tables_of(conn):
        root = roots.get(table.name.lower(), 0)
        if not root:
            continue
        if table.name.lower() == "sqlite_sequence":
            conn.execute("DELETE FROM sqlite_sequence")
        if _fill(conn, table, root, reader, state, additions, result):
            damaged.append(table)
    _skip_other_trees(reader, objects)
    _orphans(conn, view, reader, state, damaged, additions, result)
    _create(conn, objects, result, kinds=("index",))
    for table in damaged:
        result.proven[table.name] = add_from_indexes(view, state, table, objects, additions)
    _create(conn, objects, result, kinds=("view", "trigger"))
    return result


def _create(
    conn: sqlite3.Connection, objects: Sequence[SchemaObject], result: Salvage, kinds: Sequence[str]
) -> None:
    """Create what the schema has of these kinds; virtual tables come back by their text alone."""
    for item in objects:
        if item.type not in kinds or not item.sql or item.name.lower().startswith("sqlite_"):
            continue
        try:
            if item.sql[:15].upper() == "CREATE VIRTUAL ":
                conn.execute("PRAGMA writable_schema = ON")
                conn.execute(
                    "INSERT INTO sqlite_schema VALUES ('table', ?, ?, 0, ?)",
                    (bindable(item.name), bindable(item.table), bindable(item.sql)),
                )
                conn.execute("PRAGMA writable_schema = OFF")
            elif item.sql[:7].upper() == "CREATE ":
                conn.execute(item.sql)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            result.notes.append(f"{item.type} {item.name} could not be made again: {error}")


def _fill(
    conn: sqlite3.Connection,
    table: Table,
    root: int,
    reader: TreeReader,
    state: State,
    additions: Additions,
    result: Salvage,
) -> bool:
    """Insert the rows of one table; return True if pages of its tree are gone."""
    count = 0
    before = len(reader.missing), len(reader.unreadable), reader.bad_rows
    for row in reader.rows(root):
        values = table.values(row.rowid, row.stored)
        if (row.rowid is None) == table.has_rowid:
            reader.bad_rows += 1
            continue
        if insert_row(conn, table, values, row.rowid):
            count += 1
            continue
        file, frame = state.source(row.page)
        additions.set_aside(
            table, values, row.rowid,
            Source(file, row.page, frame, note="a constraint of the table forbids it"),
        )  # fmt: skip
    result.rows[table.name] = count
    missing, unreadable = reader.missing[before[0] :], reader.unreadable[before[1] :]
    if missing:
        result.missing[table.name] = missing
    if unreadable:
        result.unreadable[table.name] = unreadable
    result.bad_rows += reader.bad_rows - before[2]
    return bool(missing or unreadable)


def _skip_other_trees(reader: TreeReader, objects: Sequence[SchemaObject]) -> None:
    """Mark the pages of the schema and of the indexes as seen."""
    bad = reader.bad_rows, len(reader.missing), len(reader.unreadable)
    for root in (1, *(item.root for item in objects if item.type == "index" and item.root)):
        for _ in reader.rows(root):
            pass
    reader.bad_rows = bad[0]
    del reader.missing[bad[1] :], reader.unreadable[bad[2] :]


# -- pages whose tree is gone ----------------------------------------------------------------------


def _orphans(
    conn: sqlite3.Connection,
    view: StateView,
    reader: TreeReader,
    state: State,
    damaged: Sequence[Table],
    additions: Additions,
    result: Salvage,
) -> None:
    """Attribute pages that no tree leads to: to a damaged table that they fit, or to new tables."""
    if result.has_schema and not damaged:
        return
    kinds = {TABLE_LEAF} if any(t.has_rowid for t in damaged) or not result.has_schema else set()
    if any(not table.has_rowid for table in damaged):
        kinds |= {INDEX_LEAF, INDEX_INTERIOR}
    trees = None if result.has_schema else UnnamedTrees(conn, view)
    for page in orphan_pages(view, reader.seen, free_pages(view), kinds):
        rows = list(reader.rows_in(page))
        owner = trees.table(page, rows) if trees and rows else _owner(damaged, rows)
        if owner is not None:
            for row in rows:
                _add_orphan(owner, row, state, additions, result, is_made=trees is not None)
    if trees is not None:
        result.rows |= trees.add_tables_without_rowids(reader)


def _owner(damaged: Sequence[Table], rows: Sequence[StoredRow]) -> Table | None:
    """Return the only damaged table that all rows of a page fit."""
    fitting = [t for t in damaged if all(t.fits(row.rowid, row.stored) for row in rows)]
    return fitting[0] if rows and len(fitting) == 1 else None


def _add_orphan(
    table: Table,
    row: StoredRow,
    state: State,
    additions: Additions,
    result: Salvage,
    *,
    is_made: bool,
) -> None:
    values = table.values(row.rowid, row.stored)
    file, frame = state.source(row.page)
    if is_made:
        marks = ", ".join("?" * (len(values) + 1))
        additions.conn.execute(
            f"INSERT INTO {quoted(table.name)} VALUES ({marks})",
            (row.rowid, *map(bindable, values)),
        )
        result.rows[table.name] = result.rows.get(table.name, 0) + 1
        return
    source = Source(file, row.page, frame, confidence=0.9, note="told from its page alone")
    if not additions.fit(table, values, row.rowid, source):
        additions.set_aside(table, values, row.rowid, source)


def free_pages(view: StateView) -> PageSet:
    """Return the pages on the freelist, as far as its trunk pages can be read."""
    free = PageSet()
    trunk = view.header.freelist_trunk
    while trunk and free.add(trunk):
        try:
            data = view.page(trunk)
        except CorruptPageError:
            break
        count = min(int.from_bytes(data[4:8], "big"), view.usable // 4 - 2)
        for n in range(count):
            free.add(int.from_bytes(data[8 + 4 * n : 12 + 4 * n], "big"))
        trunk = int.from_bytes(data[:4], "big")
    return free


def orphan_pages(
    view: StateView, seen: PageSet, free: PageSet, kinds: set[int]
) -> Iterator[BtreePage]:
    """Yield the pages of these kinds that are part of no known tree, nor free, in their order."""
    for number in range(1, view.page_count + 1):
        if number in seen or number in free:
            continue
        try:
            page = view.btree_page(number)
        except CorruptPageError:
            continue
        if page.kind in kinds and (number == 1 or looks_like_tree(page.data)):
            yield page
