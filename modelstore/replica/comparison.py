"""Compare a database with its restored replica, row by row, and keep the rows that differ.

SQLite joins the two by their keys and streams: a million rows of 30 columns take 2 s, and memory
stays flat. (EXCEPT would build an index of every row.) Only rows that differ reach Python, where
they are kept as digests in a scratch database, so that a later look can tell if they still differ.

The comparison reads the live database in one read transaction. That holds up no reader and no
writer; but while it lasts, the log cannot start again from its beginning, and grows.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from modelstore.database.handle import connect, own_tree, quote_identifier, uri
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_ERROR, primary_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.database.handle import Database
    from modelstore.progress import Progress

ENGINES_OWN = frozenset((b"_litestream_lock", b"_litestream_seq"))
"""The tables in which Litestream keeps its own notes."""

_TABLES = "SELECT name FROM {}.sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
_OBJECTS = "SELECT type, name, tbl_name, sql FROM {}.sqlite_master"
_VECTOR = 400  # columns that one comparison of row values takes; SQLite's limit is far above
_LABEL = 80  # characters of a row's name
_ALIASES = ("rowid", "_rowid_", "oid")
_TICK = 200_000  # steps of SQLite's virtual machine between two signs of life


@dataclass(frozen=True, slots=True)
class TableDifference:
    """The rows of one table that differ. Counts of rows.

    `missing` rows are not in the replica, `changed` have other values there, and `returning` are
    in the replica alone: they were deleted.
    """

    name: str  # outside text
    rows: int
    replica_rows: int
    missing: int = 0
    changed: int = 0
    returning: int = 0

    @property
    def differing(self) -> int:
        """Rows that differ in any way."""
        return self.missing + self.changed + self.returning

    @property
    def common(self) -> int:
        """Rows that are the same in both."""
        return self.rows - self.missing - self.changed


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of one comparison. `unread` has tables that could not be compared, and why.

    `schema` counts tables, indexes, views and triggers that are not the same in both.
    """

    tables: tuple[TableDifference, ...]
    unread: dict[str, str] = field(default_factory=dict)
    schema: int = 0

    @property
    def rows(self) -> int:
        """The rows of the database."""
        return sum(table.rows for table in self.tables)

    @property
    def differing(self) -> int:
        """Rows that differ, those of the schema among them."""
        return sum(table.differing for table in self.tables) + self.schema

    @property
    def is_of_another(self) -> bool:
        """True if hardly a row is common: the replica is another database's."""
        fewer = min(self.rows, sum(table.replica_rows for table in self.tables))
        return fewer > 0 and 100 * sum(table.common for table in self.tables) < fewer


class Differences:
    """The rows that differ in every look so far, as digests in a scratch database.

    A row counts as the same difference only while both its versions stay as they were: a row that
    an application changes all the time never does.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._is_first = True

    @classmethod
    @contextmanager
    def in_file(cls, path: str) -> Iterator[Self]:
        """Keep them in a new database at `path` for a block."""
        with open(path, "xb"):
            pass
        db = connect(path, "rw")
        try:
            # plain SQL: sqlite-utils sets no pragma, and millions of rows are written here
            for statement in _SCRATCH:
                db.execute(statement)
            yield cls(db)
        finally:
            db.close()

    def take(self, found: Iterator[Row]) -> None:
        """Keep those of the rows of one look that every look before had as well."""
        self._db.begin()
        self._db.conn.executemany("INSERT OR IGNORE INTO latest VALUES (?, ?, ?, ?, ?, ?)", found)
        if self._is_first:
            self._db.execute("INSERT INTO kept SELECT * FROM latest")
        else:
            self._db.execute(_DROP_SETTLED)
        self._db.execute("DELETE FROM latest")
        self._db.commit()
        self._is_first = False

    def count(self) -> int:
        """Return the number of rows that differed in every look."""
        return self._db.table("kept").count

    def by_table(self) -> dict[str, tuple[int, int, int]]:
        """Return the counts of each table: rows missing, changed, and returning."""
        return {
            row["name"]: (row["missing"], row["changed"], row["back"])
            for row in self._db.query(_BY_TABLE)
        }

    def names(self, table: str, most: int) -> list[str]:
        """Return names of rows of one table, the missing ones first. Outside text."""
        rows = self._db.table("kept").rows_where(
            "name = ?",
            [table],
            select="label",
            order_by="replica IS NOT NULL, live IS NULL, place",
            limit=most,
        )
        return [row["label"] for row in rows]


Row = tuple[str, bytes, bytes | None, bytes | None, int, str]
"""Table, digest of the key, digests of the row here and in the replica (None where it is not),
place among the rows that differ, and name for people."""

_COLUMNS = """name TEXT, key BLOB, live BLOB, replica BLOB, place INTEGER, label TEXT,
    PRIMARY KEY (name, key)"""
_SCRATCH = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    f"CREATE TABLE kept ({_COLUMNS}) WITHOUT ROWID",
    f"CREATE TABLE latest ({_COLUMNS}) WITHOUT ROWID",
)
_DROP_SETTLED = """DELETE FROM kept WHERE NOT EXISTS (SELECT 1 FROM latest
    WHERE latest.name = kept.name AND latest.key = kept.key
        AND latest.live IS kept.live AND latest.replica IS kept.replica)"""
_BY_TABLE = """SELECT name, sum(replica IS NULL) AS missing,
    sum(live IS NOT NULL AND replica IS NOT NULL) AS changed, sum(live IS NULL) AS back
FROM kept GROUP BY name ORDER BY name"""


@contextmanager
def attached_replica(db: Database, path: str) -> Iterator[None]:
    """Attach a restored replica, which nobody else has open, as ``replica`` for a block."""
    # plain SQL: db.attach cannot say read-only
    db.execute("ATTACH DATABASE ? AS replica", [uri(path, "immutable")])
    before = db.conn.text_factory
    db.conn.text_factory = bytes  # every byte counts, also in a text that is no UTF-8
    try:
        yield
    finally:
        db.conn.text_factory = before
        if db.conn.in_transaction:
            db.rollback()
        db.execute("DETACH DATABASE replica")


def compare(db: Database, differences: Differences, tick: Progress) -> Compared:
    """Compare every table of `db` with that of its attached replica, and keep what differs.

    Raises `sqlite3.Error` for damage in one of the two. Litestream's own tables are left out, and
    so are virtual tables, which keep their rows in ordinary ones.
    """
    comparison = _Comparison(db)
    db.conn.set_progress_handler(lambda: comparison.tell(tick), _TICK)
    try:
        differences.take(comparison.rows())
    finally:
        db.conn.set_progress_handler(None, 0)
    return Compared(tuple(comparison.tables), comparison.unread, comparison.schema)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The stored columns of a table, and the expressions of its key: quoted, without a table.

    `own` is the clause that makes SQLite read the table itself: an index may differ from it.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    own: str
    typed: frozenset[str]  # columns in which 1 and 1.0 are two values
    title: int | None  # the place of a column called name


class _Comparison:
    """One comparison of all tables; its counts grow while `rows` is read."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.tables: list[TableDifference] = []
        self.unread: dict[str, str] = {}
        self.schema = 0
        self._at = ""  # the table at hand

    def tell(self, tick: Progress) -> int:
        """Give a sign of life while SQLite joins."""
        tick(f"comparing {self._at}", sum(table.rows for table in self.tables))
        return 0

    def rows(self) -> Iterator[Row]:
        """Yield the rows that differ, table by table."""
        yield from self._schema_rows()
        here, there = self._names("main"), self._names("replica")
        for raw in sorted(here | there):
            self._at = name = raw.decode("utf-8", "surrogateescape")
            try:
                yield from self._table(name, is_here=raw in here, is_there=raw in there)
            except UnicodeEncodeError:
                self.unread[name] = "its name is no text"
            except sqlite3.OperationalError as error:
                if primary_code(error) != SQLITE_ERROR:
                    raise
                self.unread[name] = str(error)

    def _schema_rows(self) -> Iterator[Row]:
        """Yield the objects of the two schemas that differ, as rows of ``sqlite_schema``."""
        here, there = (
            {
                (kind, name): (table, sql)
                for kind, name, table, sql in self._db.execute(_OBJECTS.format(schema))
                if table not in ENGINES_OWN
            }
            for schema in ("main", "replica")
        )
        for key in sorted(here.keys() | there.keys()):
            one, other = here.get(key), there.get(key)
            if one != other:
                yield (
                    "sqlite_schema",
                    _digest(key),
                    None if one is None else _digest(one),
                    None if other is None else _digest(other),
                    self.schema,
                    _label(key, None),
                )
                self.schema += 1

    def _names(self, schema: str) -> set[bytes]:
        found = {bytes(name) for (name,) in self._db.execute(_TABLES.format(schema))}
        return found - ENGINES_OWN

    def _table(self, name: str, *, is_here: bool, is_there: bool) -> Iterator[Row]:
        table = quote_identifier(name)
        live = self._shape("main", name) if is_here else None
        replica = self._shape("replica", name) if is_there else None
        counts = {"missing": 0, "changed": 0, "returning": 0}
        for place, row in enumerate(self._differing(table, live, replica)):
            here, there = row[1], row[2]
            kind = "missing" if there is None else "returning" if here is None else "changed"
            counts[kind] += 1
            title = (live or replica).title  # type: ignore[union-attr]  # one of them is there
            values = here if here is not None else there or ()
            yield (
                name,
                _digest(row[0]),
                None if here is None else _digest(here),
                None if there is None else _digest(there),
                place,
                _label(row[0], values[title] if title is not None else None),
            )
        self.tables.append(
            TableDifference(
                name,
                self._count("main", table) if is_here else 0,
                self._count("replica", table) if is_there else 0,
                **counts,
            )
        )

    def _differing(
        self, table: str, live: _Shape | None, replica: _Shape | None
    ) -> Iterator[tuple[_Values, _Values | None, _Values | None]]:
        """Yield key, values here and values in the replica, of each row that differs."""
        shapes = [(one.columns, one.key) for one in (live, replica) if one is not None]
        if live is not None and replica is not None and shapes[0] == shapes[1]:
            yield from self._joined(table, live, replica)
        elif live is not None:
            for row in self._db.execute(_select("main", table, live)):
                yield row[: len(live.key)], row[len(live.key) :], None
        elif replica is not None:
            for row in self._db.execute(_select("replica", table, replica)):
                yield row[: len(replica.key)], None, row[len(replica.key) :]

    def _joined(
        self, table: str, shape: _Shape, replica: _Shape
    ) -> Iterator[tuple[_Values, _Values | None, _Values | None]]:
        match = " AND ".join(f"r.{key} = l.{key}" for key in shape.key)
        width = len(shape.columns)
        values = ", ".join(f"{side}.{column}" for side in "lr" for column in shape.columns)
        keys = ", ".join(f"l.{key}" for key in shape.key)
        # plain SQL: the join that this module is about; tuples stream
        sql = (
            f"SELECT {values}, r.{shape.key[0]} IS NULL, {keys} "
            f"FROM main.{table} AS l {shape.own} "
            f"LEFT JOIN replica.{table} AS r {replica.own} ON {match} "
            f"WHERE r.{shape.key[0]} IS NULL OR {_unequal(shape)}"
        )
        for row in self._db.execute(sql):
            is_missing, key = row[2 * width], row[2 * width + 1 :]
            yield key, row[:width], None if is_missing else row[width : 2 * width]
        sql = (
            f"{_select('replica', table, replica)} "
            f"WHERE NOT EXISTS (SELECT 1 FROM main.{table} AS l {shape.own} WHERE {match})"
        )
        for row in self._db.execute(sql):
            yield row[: len(shape.key)], None, row[len(shape.key) :]

    def _count(self, schema: str, table: str) -> int:
        count = self._db.execute(f"SELECT count(*) FROM {schema}.{table} NOT INDEXED")
        return int(count.fetchone()[0])

    def _shape(self, schema: str, name: str) -> _Shape:
        """Read the columns of a table; its key is the rowid, or the primary key where it has none.

        Raises `sqlite3.OperationalError` where other columns hide the rowid under all its names.
        """
        table = quote_identifier(name)
        # plain SQL: names may be no text
        info = self._db.execute(f"PRAGMA {schema}.table_xinfo({table})").fetchall()
        columns = [row for row in info if row[6] in (0, 3)]  # no generated ones
        names = [bytes(row[1]).decode("utf-8", "surrogateescape") for row in columns]
        taken = {name.lower() for name in names}
        primary = [
            quote_identifier(name)
            for _, name in sorted((row[5], name) for row, name in zip(columns, names, strict=True))
            if _ > 0
        ]
        alias = next((alias for alias in _ALIASES if alias not in taken), None)
        has_rowid = alias is not None and self._has_rowid(schema, table, alias)
        typed = (
            quote_identifier(name)
            for row, name in zip(columns, names, strict=True)
            if re.fullmatch(rb"(?i)any|(?!.*(int|char|clob|text)).*blob.*|", bytes(row[2] or b""))
        )
        own = own_tree(self._db, name, schema)
        if not has_rowid and own == "NOT INDEXED":
            own = ""  # its hidden rowid is no key: rows are looked up by the primary key's index
        return _Shape(
            tuple(map(quote_identifier, names)),
            (alias,) if has_rowid and alias is not None else tuple(primary) or ("rowid",),
            own,
            frozenset(typed),
            names.index("name") if "name" in names else None,
        )

    def _has_rowid(self, schema: str, table: str, alias: str) -> bool:
        try:
            self._db.execute(f"SELECT {alias} FROM {schema}.{table} LIMIT 0").fetchall()
        except sqlite3.OperationalError as error:
            if primary_code(error) != SQLITE_ERROR:
                raise
            return False
        return True


_Values = tuple[object, ...]


def _select(schema: str, table: str, shape: _Shape) -> str:
    columns = ", ".join((*shape.key, *shape.columns))
    return f"SELECT {columns} FROM {schema}.{table} AS r {shape.own}"


def _unequal(shape: _Shape) -> str:
    """Return the SQL that is true where a stored value of l and r differs.

    Row values, because a chain of OR is limited to 1,000 (sqlite.org/limits.html); COLLATE BINARY,
    because a column's own collation may call two texts the same.
    """
    parts = []
    for first in range(0, len(shape.columns), _VECTOR):
        columns = shape.columns[first : first + _VECTOR]
        pairs = [(f"l.{column} COLLATE BINARY", f"r.{column}") for column in columns]
        pairs += [
            (f"typeof(l.{column})", f"typeof(r.{column})")
            for column in columns
            if column in shape.typed
        ]
        left, right = (", ".join(side) for side in zip(*pairs, strict=True))
        parts.append(f"({left}) IS NOT ({right})")
    return " OR ".join(parts)


def _digest(values: Sequence[object]) -> bytes:
    return hashlib.blake2b(repr(values).encode(), digest_size=16).digest()


def _label(key: _Values, title: object) -> str:
    shown = [title] if isinstance(title, bytes) and title else key
    texts = (
        one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else str(one)
        for one in shown
    )
    return ", ".join(texts)[:_LABEL]
