"""The order of a table's columns in its records, against SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.wal.schema_columns import TableColumns, parse_table

TABLES = [
    "t(a, b)",
    "t(a INTEGER PRIMARY KEY, b)",
    "t(a, b INTEGER, PRIMARY KEY(b))",
    "t(a INTEGER PRIMARY KEY DESC, b)",
    "t(a INTEGER, b, PRIMARY KEY(a DESC))",
    "t(a INT PRIMARY KEY, b)",
    "t(a INTEGER(8) PRIMARY KEY, b)",
    "t(a BIG INTEGER PRIMARY KEY, b)",
    "t(a 'integer' PRIMARY KEY, b)",
    "t(a DECIMAL(10, 2) DEFAULT (1 + (2)) UNIQUE, b)",
    "t(a TEXT DEFAULT 'x, y) PRIMARY KEY', b /* , c */, -- d,\n e)",
    't("a ""q"" ,(" PRIMARY KEY, [b ,(]) WITHOUT ROWID',
    "`t t`(`a``b` INTEGER PRIMARY KEY AUTOINCREMENT, 'c''d')",
    "t(a, v AS (a + 1), s INT GENERATED ALWAYS AS (a * 2) STORED, b)",
    "t(a INT, b ANY, c TEXT, PRIMARY KEY(c COLLATE NOCASE DESC, a)) WITHOUT ROWID, STRICT",
    "t(a, b, CONSTRAINT x UNIQUE(b) CONSTRAINT y PRIMARY KEY(b, b, a) CHECK (a > 1)) WITHOUT ROWID",
    't(a, b REFERENCES o(x) ON DELETE SET NULL, "primary", FOREIGN KEY(b) REFERENCES o(x))',
    "t(ä TEXT NOT NULL ON CONFLICT IGNORE PRIMARY KEY, b) without rowid",
    "t(\u00a0a TEXT,\u3000b\f\r,\u2003 INTEGER PRIMARY KEY)",
]


def rowid_alias(conn: sqlite3.Connection, table: str, columns: list[str]) -> str | None:
    """Return the column for which SQLite's bytecode reads the rowid."""
    for column in columns:
        quoted = '"' + column.replace('"', '""') + '"'
        program = conn.execute(f"EXPLAIN SELECT {quoted} FROM {table} NOT INDEXED")
        if any(step[1] == "Rowid" for step in program):
            return column
    return None


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_those_of_sqlite(table: str) -> None:
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute(f"CREATE TABLE {table}")
        name, sql = conn.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql LIKE '%(%'"
        ).fetchone()
        quoted = '"' + name.replace('"', '""') + '"'
        info = conn.execute(f"PRAGMA table_xinfo({quoted})").fetchall()
        (without,) = conn.execute("SELECT wr FROM pragma_table_list(?)", (name,)).fetchone()
        stored = [row[1].lower() for row in info if row[6] != 2]
        key = [row[1].lower() for row in sorted(info, key=lambda row: row[5]) if row[5]]
        if without:
            rest = [column for column in stored if column not in key]
            order = (*key, *rest)
            alias = None
        else:
            order, key = tuple(stored), []
            alias = rowid_alias(conn, quoted, stored)
        defaults = {row[1].lower() for row in info if row[4] is not None and row[6] == 0}
        required = max((at for at, name in enumerate(order, 1) if name in defaults), default=0)
        expected = TableColumns(tuple(order), len(key), alias, required)
    found = parse_table(sql)
    assert found is not None
    assert len(found.defaults) == required
    assert replace(found, defaults=()) == expected


def test_places() -> None:
    columns = TableColumns(("a", "b"), 0, None)
    assert [columns.place(name) for name in ("A", "b", "c")] == [0, 1, None]


def test_real_columns_without_a_rowid_are_known_by_their_places() -> None:
    columns = "CREATE TABLE t(a REAL, b INT PRIMARY KEY, c DOUBLE PRECISION, d TEXT)"
    found = [parse_table(sql) for sql in (columns, f"{columns} WITHOUT ROWID")]
    assert [table and table.reals for table in found] == [frozenset(), {1, 2}]


@pytest.mark.parametrize("sql", ["", "CREATE TABLE t", "CREATE TABLE t(a", "(" * 99, "x" * 300_000])
def test_what_cannot_be_told(sql: str) -> None:
    assert parse_table(sql) is None


@given(st.text("(),'\"`[]-*/\n aTKEY", max_size=80), st.text(max_size=20))
def test_any_text_has_an_answer(structure: str, text: str) -> None:
    for sql in (
        structure,
        text,
        f"CREATE TABLE t({structure}",
        f"CREATE TABLE t({text}{structure})",
    ):
        found = parse_table(sql)
        assert found is None or found.key_size <= len(found.stored)


@pytest.mark.parametrize("opening", ["'", '"', "`", "[", "/*", "--", "("])
def test_openings_without_an_end_take_linear_time(opening: str) -> None:
    assert parse_table(f"CREATE TABLE t({opening * 90_000}"[:199_000]) is None
