"""Random schemas as SQL: every kind of table and index, generated columns, hostile names."""

from __future__ import annotations

import random
from dataclasses import dataclass

NAMES = (
    "t",
    "T2",
    "notes",
    'a"b',
    "two words",
    "new\nline",
    "sélection",
    "Éa",
    "éA",
    "it's",
    "[/red]",
    "\x1b[31mred",
    "order",
    "7",
    "\u202eflip",
    "k" * 70,
)


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the SQL that makes it, its columns, and expressions of `i` that fill them.

    `fill` has one SQL expression for each of `columns`; `key` names the column or expression that
    the steps select rows by. `virtual` marks FTS5 and R*Tree tables.
    """

    name: str
    sql: str
    columns: tuple[str, ...]
    fill: tuple[str, ...]
    key: str
    change: str  # a column that updates set
    value: str  # an expression of the column's type, of the row's own values
    virtual: bool = False


def text(rng: random.Random) -> str:
    """Return an expression of `i`: a text of random length that differs from row to row."""
    number = f"i * {rng.randint(1, 9)} + {rng.randint(0, 999)}"
    if rng.random() < 0.15:  # a few rows on overflow pages
        length = "(CASE i % 9 WHEN 0 THEN 9000 WHEN 4 THEN 2500 ELSE 20 END)"
        return f"printf('%0' || {length} || 'd', {number})"
    return f"printf('%0{rng.choice((4, 9, 20, 60, 200, 700))}d', {number})"


def value(rng: random.Random) -> str:
    """Return an expression of `i` of any type."""
    length = rng.choice((0, 1, 12, 57, 58, 59, 122, 186, 250, 1000))
    return rng.choice(
        (
            text(rng),
            f"CAST(printf('%0{max(length, 1)}d', i) AS BLOB)",
            f"zeroblob({length})",
            "NULL",
            "i",
            "i * 4294967296",
            "-i",
            "i * 0.5",
            "i * 1.0",
            "'ünï' || i || '漢字'",
            "''",
            f"CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN i ELSE {text(rng)} END",
        )
    )


def table(rng: random.Random, name: str, *, virtual: bool = True) -> Table:
    """Return a random table of that name."""
    makers = [_plain, _plain, _keyed, _keyed, _auto, _clustered, _blob_key, _strict, _generated]
    makers += [_defaults, _unique]
    if virtual:
        makers += [_search, _boxes]
    return rng.choice(makers)(rng, name)


def _plain(rng: random.Random, name: str) -> Table:
    columns = ("a", "b", "c")[: rng.randint(1, 3)]
    sql = f"CREATE TABLE {quoted(name)}({', '.join(columns)})"
    return Table(name, sql, columns, tuple(value(rng) for _ in columns), "rowid", "a", "a || 'x'")


def _keyed(rng: random.Random, name: str) -> Table:
    kind = rng.choice(("TEXT", "BLOB", "", "REAL", "INT", "NUMERIC"))
    sql = f"CREATE TABLE {quoted(name)}(id INTEGER PRIMARY KEY, a TEXT, b {kind})"
    return Table(name, sql, ("a", "b"), (text(rng), value(rng)), "id", "a", "a || '!'")


def _auto(rng: random.Random, name: str) -> Table:
    sql = f"CREATE TABLE {quoted(name)}(id INTEGER PRIMARY KEY AUTOINCREMENT, a)"
    return Table(name, sql, ("a",), (value(rng),), "id", "a", "coalesce(a, 0) || 1")


def _clustered(rng: random.Random, name: str) -> Table:
    order = rng.choice(("n, k", "k, n", "n DESC, k"))
    sql = f"CREATE TABLE {quoted(name)}(v, k TEXT, n INT, w, PRIMARY KEY({order})) WITHOUT ROWID"
    return Table(name, sql, ("v", "k", "n"), (value(rng), text(rng), "i"), "n", "v", "n || 'z'")


def _blob_key(rng: random.Random, name: str) -> Table:
    length = rng.choice((4, 57, 58, 59, 122, 186, 250, 700))
    sql = f"CREATE TABLE {quoted(name)}(k BLOB PRIMARY KEY, n) WITHOUT ROWID"
    key = f"CAST(printf('%0{length}d', i) AS BLOB)"
    return Table(name, sql, ("k", "n"), (key, "i"), "n", "n", "n + 1000000")


def _strict(rng: random.Random, name: str) -> Table:
    sql = (
        f"CREATE TABLE {quoted(name)}(id INTEGER PRIMARY KEY, a TEXT, b INT, c BLOB, d ANY, r REAL)"
        " STRICT"
    )
    fill = (text(rng), "i", "zeroblob(i % 70)", value(rng), "i")
    return Table(name, sql, ("a", "b", "c", "d", "r"), fill, "id", "b", "b + 7")


def _generated(rng: random.Random, name: str) -> Table:
    sql = (
        f"CREATE TABLE {quoted(name)}(id INTEGER PRIMARY KEY, g AS (a || 'x') VIRTUAL, a TEXT,"
        " s INT AS (length(a)) STORED, b)"
    )
    return Table(name, sql, ("a", "b"), (text(rng), value(rng)), "id", "a", "a || '+'")


def _defaults(rng: random.Random, name: str) -> Table:
    sql = (
        f"CREATE TABLE {quoted(name)}(id INTEGER PRIMARY KEY, a DEFAULT 'no DEFAULT ''here''',"
        ' "default" TEXT DEFAULT (1 + 2), c NOT NULL DEFAULT -5 CHECK (c <> 77))'
    )
    return Table(name, sql, ("a", "c"), (value(rng), "i"), "id", "c", "c + 100")


def _unique(rng: random.Random, name: str) -> Table:
    sql = f"CREATE TABLE {quoted(name)}(a TEXT UNIQUE COLLATE NOCASE, b, UNIQUE(b, a))"
    return Table(name, sql, ("a", "b"), (text(rng), "i"), "b", "b", "b + 500000")


def _search(rng: random.Random, name: str) -> Table:
    content = rng.choice(("", ", content=''", ", prefix='2 3'"))
    sql = f"CREATE VIRTUAL TABLE {quoted(name)} USING fts5(a, b{content})"
    fill = ("'word' || i || ' common'", "'other ' || (i % 7)")
    return Table(name, sql, ("a", "b"), fill, "rowid", "a", "'changed'", virtual=True)


def _boxes(rng: random.Random, name: str) -> Table:
    sql = f"CREATE VIRTUAL TABLE {quoted(name)} USING rtree(id, x0, x1)"
    return Table(
        name, sql, ("id", "x0", "x1"), ("i", "i", "i + 1"), "id", "x1", "x1 + 1", virtual=True
    )


def index(rng: random.Random, on: Table, name: str) -> str:
    """Return the SQL of a random index on a table that is not virtual."""
    column = quoted(rng.choice(on.columns))
    expression = rng.choice(
        (
            column,
            f"{column} DESC",
            f"length({column})",
            f"{column} COLLATE NOCASE",
            f"{column}, {quoted(on.columns[0])} DESC",
        )
    )
    partial = f" WHERE {column} IS NOT NULL" if rng.random() < 0.25 else ""
    return f"CREATE INDEX {quoted(name)} ON {quoted(on.name)}({expression}){partial}"


def view(name: str, on: Table) -> str:
    """Return the SQL of a view."""
    return f"CREATE VIEW {quoted(name)} AS SELECT * FROM {quoted(on.name)}"


def trigger(name: str, on: Table) -> str:
    """Return the SQL of a trigger that changes nothing."""
    return f"CREATE TRIGGER {quoted(name)} AFTER DELETE ON {quoted(on.name)} BEGIN SELECT 1; END"
