"""Tables as counts of rows and digests, so that two views of a database can be compared.

sqlite-utils names and quotes tables here, but plain SQL reads them: `Database.query` makes a dict
of each row, and its introspection decodes names that may be no text.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.handle import own_tree, quote_identifier
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import SQLITE_ERROR, primary_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.database.handle import Database
    from modelstore.progress import Progress

_BIG = 256  # bytes; it is cheaper to digest a value of that size as it is
_TELL_EVERY = 2000  # rows
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name, tbl_name"
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"

Wanted = frozenset[str] | None
"""Names of tables in lower case, as SQLite compares them; None for all."""


class Table(NamedTuple):
    """The number of rows of a table, and a digest of them in the order of their keys."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a database: a digest of its schema, and the tables that were wanted.

    `names` are all tables but virtual ones, which keep their rows in ordinary tables. `unread` has
    the tables that this SQLite cannot read, with the reason.
    """

    schema: str
    names: tuple[str, ...]
    tables: dict[str, Table] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The rows of all tables that were read."""
        return sum(table.rows for table in self.tables.values())


def read_content(db: Database, wanted: Wanted, tick: Progress) -> Content:
    """Read the schema and the wanted tables. Raises `sqlite3.Error` for damage."""
    digest = hashlib.blake2b(digest_size=16)
    # plain SQL: names may be no text, and db.query() makes a dict of each row
    with _exact_text(db.conn):
        for row in db.execute(_SCHEMA):
            digest.update(repr(row).encode())
        names = [bytes(name).decode("utf-8", "surrogateescape") for (name,) in db.execute(_TABLES)]
        content = Content(digest.hexdigest(), tuple(names))
        for name in names:
            if wanted is not None and name.lower() not in wanted:
                continue
            try:
                content.tables[name] = _read_table(db, name, tick)
            except UnicodeEncodeError:
                content.unread[name] = "its name is no text"
            except sqlite3.OperationalError as error:
                if primary_code(error) != SQLITE_ERROR:
                    raise
                content.unread[name] = str(error)
    return content


@contextmanager
def _exact_text(conn: sqlite3.Connection) -> Iterator[None]:
    """Read text as a bytearray: every byte counts, and no text equals a blob of the same bytes."""
    before: Callable[[bytes], object] = conn.text_factory
    conn.text_factory = bytearray
    try:
        yield
    finally:
        conn.text_factory = before


def _read_table(db: Database, name: str, tick: Progress) -> Table:
    digest = hashlib.blake2b(digest_size=16)
    update = digest.update
    rows = 0
    # in the order of the table's own b-tree, whatever its indexes are
    select = f"SELECT {_columns(db, name)} FROM {quote_identifier(name)} {own_tree(db, name)}"
    # plain SQL: tuples stream twice as fast as the dicts of db.query()
    for row in db.execute(select):
        rows += 1
        if any(value.__class__ in (bytes, bytearray) and len(value) > _BIG for value in row):
            for value in row:
                if isinstance(value, (bytes, bytearray)):
                    update(f"{type(value).__name__} {len(value)}:".encode())
                    update(value)
                else:
                    update(repr(value).encode())
        else:
            update(repr(row).encode())
        if rows % _TELL_EVERY == 0:
            tick(f"comparing {name}", rows)
    return Table(rows, digest.hexdigest())


def _columns(db: Database, name: str) -> str:
    """Return the columns that are stored: the rowid if there is one, and no generated column."""
    # plain SQL: names may be no text
    info = db.execute(f"PRAGMA table_xinfo({quote_identifier(name)})").fetchall()
    stored = [bytes(row[1]).decode("utf-8", "surrogateescape") for row in info if row[6] in (0, 3)]
    taken = {bytes(row[1]).lower() for row in info}
    columns = [quote_identifier(column) for column in stored]
    alias = next((a for a in ("rowid", "_rowid_", "oid") if a.encode() not in taken), None)
    if alias is not None and _has_rowid(db, name, alias):
        columns.insert(0, alias)
    return ", ".join(columns)


def _has_rowid(db: Database, name: str, alias: str) -> bool:
    try:
        # plain SQL: names may be no text
        db.execute(f"SELECT {alias} FROM {quote_identifier(name)} LIMIT 0").fetchall()
    except sqlite3.OperationalError as error:
        if primary_code(error) != SQLITE_ERROR:
            raise
        return False
    return True
