"""A database built anew from the rows that a damaged state still has.

The schema comes from the state, or from an older copy of it. Without any, tables are told from
their pages and have columns c0, c1 and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3
from modelstore.recovery.additions import Additions, Source, bindable, insert_row, key_text
from modelstore.recovery.indexes import add_from_indexes
from modelstore.recovery.orphans import Orphans, count_found
from modelstore.recovery.remains import Remains
from modelstore.recovery.tables import Table, tables_of
from modelstore.recovery.trees import Gap, StoredRow, TreePage, TreeReader
from modelstore.wal.schema import SchemaObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.recovery.states import State, StateView

_MAX_OBJECTS = 20_000
_LATIN_1 = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}  # of what surrogateescape gives


@dataclass(slots=True)
class Salvage:
    """The result: what could not be read of each table.

    `missing` are pages of trees that no file holds, `unreadable` pages with other content. `gaps`
    are the ranges of rowids that they and the unreadable cells may have had. `proven` counts
    missing rows that an index names. `notes` say what could not be made again.
    """

    missing: dict[str, list[int]] = field(default_factory=dict)
    unreadable: dict[str, list[int]] = field(default_factory=dict)
    gaps: dict[str, list[Gap]] = field(default_factory=dict)
    proven: dict[str, int] = field(default_factory=dict)
    bad_rows: int = 0
    notes: list[str] = field(default_factory=list)

    def missing_pages(self, table: str) -> int:
        """Return how many pages of a table cannot be read."""
        return len(self.missing.get(table, ())) + len(self.unreadable.get(table, ()))

    def missing_rows(self, table: str) -> int:
        """Return how many rows of a table are gone at least: one for each gap without a row."""
        empty = sum(not gap.found for gap in self.gaps.get(table, ()))
        return max(empty, self.proven.get(table, 0))

    def may_have_had(self, table: str, rowid: int | None) -> bool:
        """Return True if the row with this rowid may have been where nothing can be read."""
        return any(gap.has(rowid) for gap in self.gaps.get(table, ()))

    def count_found(self, table: str, rowid: int | None) -> None:
        """Count a missing row of a table that came back from elsewhere."""
        count_found(self.gaps.get(table, ()), rowid)
        self.proven[table] = max(0, self.proven.get(table, 0) - 1)


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
    work = _Salvager(state, conn, additions)
    objects = work.in_unicode(objects)
    work.create(objects, ("table",))
    work.fill(objects)
    work.add_lost_rows(objects)
    work.create(objects, ("index",))
    for table in work.damaged:
        proven = add_from_indexes(work.view, state, table, objects, additions)
        work.result.proven[table.name] = proven
    work.create(objects, ("view", "trigger"))
    return work.result


class _Salvager:
    """Builds one database; `damaged` are the tables of which something cannot be read.

    `unmade` are the roots of tables whose SQL is damaged.
    """

    def __init__(self, state: State, conn: sqlite3.Connection, additions: Additions) -> None:
        self.state = state
        self.conn = conn
        self.additions = additions
        self.view = state.view()
        self.result = Salvage()
        self.reader = TreeReader(self.view, mends=True)
        self.damaged: list[Table] = []
        self.unmade: list[int] = []

    def in_unicode(self, objects: Sequence[SchemaObject]) -> list[SchemaObject]:
        """Return the objects with Latin-1 letters for bytes that are no UTF-8: SQL takes no others.

        SQLite takes both in a name. An object whose name then is another's stays as it is.
        """
        taken = {item.key for item in objects}
        found = []
        for item in objects:
            name, table, sql = (
                part.translate(_LATIN_1) for part in (item.name, item.table, item.sql)
            )
            changed = replace(item, name=name, table=table, sql=sql)
            if changed == item or (changed.key != item.key and changed.key in taken):
                found.append(item)
                continue
            rest = "; older rows of it were not looked for" if item.type == "table" else ""
            self.result.notes.append(
                f"bytes in the definition of {item.type} {item.name} are no UTF-8, and become "
                f"Latin-1 letters in the new file{rest}"
            )
            taken.add(changed.key)
            found.append(changed)
        return found

    def create(self, objects: Sequence[SchemaObject], kinds: Sequence[str]) -> None:
        """Create what the schema has of these kinds; of virtual tables it has the text alone."""
        for item in objects:
            if item.type not in kinds or not item.sql or item.name.lower().startswith("sqlite_"):
                continue
            try:
                self._create(item)
            except UnicodeEncodeError:
                self.result.notes.append(
                    f"{item.type} {item.name} could not be made again: its definition is no UTF-8"
                )
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                self.result.notes.append(
                    f"{item.type} {item.name} could not be made again: {error}"
                )

    def _create(self, item: SchemaObject) -> None:
        if item.sql[:15].upper() == "CREATE VIRTUAL ":
            self.conn.execute("PRAGMA writable_schema = ON")
            self.conn.execute(
                "INSERT INTO sqlite_schema VALUES ('table', ?, ?, 0, ?)",
                (bindable(item.name), bindable(item.table), bindable(item.sql)),
            )
            self.conn.execute("PRAGMA writable_schema = OFF")
        elif item.sql[:7].upper() == "CREATE ":
            self.conn.execute(item.sql)

    def fill(self, objects: Sequence[SchemaObject]) -> None:
        """Insert the rows that the trees of the tables lead to."""
        roots = {item.name.lower(): item.root for item in objects if item.type == "table"}
        for table in tables_of(self.conn):
            root = roots.pop(table.name.lower(), 0)
            if not root:
                continue
            if table.name.lower() == "sqlite_sequence":
                self.conn.execute("DELETE FROM sqlite_sequence")
            self._fill(replace(table, root=root))
        self.unmade = [root for name, root in roots.items() if root and name[:7] != "sqlite_"]
        self._skip_other_trees(objects)

    def _fill(self, table: Table) -> None:
        """Insert the rows of one table."""
        reader, result = self.reader, self.result
        before = len(reader.missing), len(reader.unreadable), len(reader.gaps), reader.bad_rows
        for found in reader.pages(table.root, has_rowid=table.has_rowid):
            for row in reader.rows_in(found):
                self._put(table, found, row)
        missing, unreadable = reader.missing[before[0] :], reader.unreadable[before[1] :]
        if missing:
            result.missing[table.name] = missing
        if unreadable:
            result.unreadable[table.name] = unreadable
        result.bad_rows += reader.bad_rows - before[3]
        if reader.gaps[before[2] :]:
            result.gaps[table.name] = reader.gaps[before[2] :]
            self.damaged.append(table)

    def _put(self, table: Table, found: TreePage, row: StoredRow) -> None:
        """Insert a row; set it aside if it is not whole, or if a constraint forbids it."""
        is_possible = (row.rowid is None) is not table.has_rowid
        if not found.is_sound:
            is_possible = table.fits(row.rowid, row.stored) and found.gap.has(row.rowid)
        if not is_possible:
            self.reader.bad_rows += 1
            return
        values = table.values(row.rowid, row.stored)
        file, frame = self.state.source(row.page)
        source = Source(file, row.page, frame)
        if row.lost or row.is_doubtful:
            note = f"bytes are lost: {table.names_at(row.lost)}" if row.lost else row.doubt
            self.additions.set_aside(
                table, values, row.rowid, replace(source, confidence=0.5, note=note)
            )
        elif not insert_row(self.conn, table, values, row.rowid):
            note = "a constraint of the table forbids it"
            self.additions.set_aside(table, values, row.rowid, replace(source, note=note))
        elif row.doubt:
            self.additions.note(
                table.name, table.name, key_text(table, values, row.rowid),
                replace(source, confidence=0.7, note=row.doubt),
            )  # fmt: skip

    def _skip_other_trees(self, objects: Sequence[SchemaObject]) -> None:
        """Mark the pages of the schema and of the indexes as seen."""
        reader = self.reader
        kept = reader.bad_rows, len(reader.missing), len(reader.unreadable), len(reader.gaps)
        for root in (1, *(item.root for item in objects if item.type == "index" and item.root)):
            for _ in reader.pages(root):
                pass
        reader.bad_rows = kept[0]
        del reader.missing[kept[1] :], reader.unreadable[kept[2] :], reader.gaps[kept[3] :]

    def add_lost_rows(self, objects: Sequence[SchemaObject]) -> None:
        """Add rows of pages that no tree leads to, and of what is left of damaged pages."""
        gaps = {table.name: self.result.gaps[table.name] for table in self.damaged}
        if objects and not self.damaged and not self.unmade:
            return
        orphans = Orphans(self.state, self.reader, self.additions, gaps)
        if not objects:
            orphans.add_unnamed()
            return
        orphans.add_trees(self.unmade)
        if not self.damaged:
            return
        orphans.add(self.damaged)
        Remains(self.state, self.reader, self.additions, gaps, orphans.owners).add(self.damaged)
