"""SQLite itself as the oracle of loss: the row difference between its two views of a database."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelstore.wal.loss_report import Fate, LossReport, RowSet
from modelstore.wal.main_file import MainState

Row = tuple[Any, ...]
Rows = dict[Row, Row]


@dataclass
class Contents:
    """The content of one view of a database; `problem` if SQLite cannot read it."""

    tables: dict[str, Rows] = field(default_factory=dict)
    defaults: dict[str, dict[str, Any]] = field(default_factory=dict)  # by column
    broken: set[str] = field(default_factory=set)
    schema: dict[tuple[str, str], str] = field(default_factory=dict)
    problem: str | None = None
    is_sound: bool = False


def copy_files(path: str, target: str, *, shm: bool = False) -> str:
    """Copy a database and its log into the directory `target`; return the copy's path."""
    os.makedirs(target, exist_ok=True)
    copy = os.path.join(target, os.path.basename(path))
    for suffix in ("", "-wal", "-shm") if shm else ("", "-wal"):
        if os.path.exists(path + suffix):
            shutil.copy(path + suffix, copy + suffix)
    return copy


def contents(path: str, parameters: str) -> Contents:
    """Return every row of every table, by rowid or primary key, as SQLite reads them."""
    found = Contents()
    conn = sqlite3.connect(f"file:{path}?{parameters}", uri=True)
    conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        rows = conn.execute("SELECT type, name, sql, rootpage FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        found.problem = str(error)
        conn.close()
        return found
    for kind, name, sql, root in rows:
        found.schema[kind, name] = sql
        if kind == "table" and root:
            try:
                found.tables[name], found.defaults[name] = _rows(conn, name)
            except sqlite3.DatabaseError:
                found.broken.add(name)
    try:
        found.is_sound = conn.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)]
    except sqlite3.DatabaseError:
        found.is_sound = False
    conn.close()
    return found


def dbstat(conn: sqlite3.Connection) -> list[tuple[str, int, str]]:
    """Return object, number and type of each page, as SQLite has them."""
    try:
        rows = conn.execute("SELECT name, pageno, pagetype FROM dbstat").fetchall()
    except sqlite3.OperationalError:
        pytest.skip("this SQLite was built without dbstat")
    return [(name.replace("sqlite_master", "sqlite_schema"), *rest) for name, *rest in rows]


def has_module(name: str) -> bool:
    """Tell whether the SQLite of this process has a module for virtual tables."""
    with closing(sqlite3.connect(":memory:")) as conn:
        return (name,) in conn.execute("SELECT name FROM pragma_module_list").fetchall()


def _rows(conn: sqlite3.Connection, name: str) -> tuple[Rows, dict[str, Any]]:
    quoted = '"' + name.replace('"', '""') + '"'
    info = conn.execute(f"PRAGMA table_info({quoted})").fetchall()
    defaults = {
        column[1]: conn.execute("SELECT " + (column[4] or "NULL")).fetchone()[0] for column in info
    }
    is_without = conn.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
    ).fetchone()[0]
    if not is_without:
        query = f"SELECT _rowid_, * FROM {quoted} NOT INDEXED"
        return {row[:1]: row[1:] for row in conn.execute(query)}, defaults
    places = sorted((column[5], column[0]) for column in info if column[5])
    rows = {
        tuple(row[place] for _, place in places): row
        for row in conn.execute(f"SELECT * FROM {quoted}")
    }
    return rows, defaults


@dataclass
class Difference:
    lost: set[Row]
    reverted: set[Row]
    returning: set[Row]


def _fitted(row: Row, own: dict[str, Any], defaults: dict[str, Any]) -> Row:
    """Return a row of columns `own` without those that the log drops, and with those it adds."""
    if own.keys() > defaults.keys():
        return tuple(value for value, name in zip(row, own, strict=True) if name in defaults)
    return row + tuple(defaults.values())[len(row) :]


def difference(live: Rows, main: Rows, defaults: dict[str, Any], own: dict[str, Any]) -> Difference:
    """Return the keys of rows that differ; old rows have the defaults of columns added later.

    `defaults` are those with the log, `own` those of the main file. Dropped columns do not count.
    """
    return Difference(
        lost=live.keys() - main.keys(),
        reverted={
            key
            for key in live.keys() & main.keys()
            if repr(live[key]) != repr(_fitted(main[key], own, defaults))
        },
        returning=main.keys() - live.keys(),
    )


def _short(key: Row) -> Row:
    """Return a key with its long texts cut, as reports have them."""
    return tuple(value[:1000] if isinstance(value, str) else value for value in key)


def _keys(rows: RowSet) -> list[str]:
    keys = (key if isinstance(key, tuple) else (key,) for key in rows.keys)
    return sorted(repr(_short(key)) for key in keys)


def check(report: LossReport, live: Contents, main: Contents) -> None:
    """Assert that SQLite agrees with `report`, whose limit exceeds the number of rows."""
    assert not report.raced
    assert live.problem is None
    assert report.live_problem is None
    assert live.is_sound
    if not report.main.readable:
        assert not main.is_sound, report.main
    if report.main.readable and report.main.state in (MainState.CONSISTENT, MainState.EMPTY):
        assert main.is_sound, report.main
    if main.problem:
        assert not report.main.readable, main.problem
        return
    seen = set()
    former_names = set()
    for table in report.tables:
        seen.add(table.name)
        if table.problem:
            assert not report.main.readable, table
            continue
        former = table.former_name or table.name
        former_names.add(table.former_name)
        if former in main.broken:
            continue
        wanted = difference(
            live.tables.get(table.name, {}),
            main.tables.get(former, {}),
            live.defaults.get(table.name, {}),
            main.defaults.get(former, {}),
        )
        assert table.is_exact
        for name in ("lost", "reverted", "returning"):
            rows: RowSet = getattr(table, name)
            expected_keys = getattr(wanted, name)
            assert rows.count == len(expected_keys), (table.name, name)
            assert _keys(rows) == sorted(repr(_short(key)) for key in expected_keys)
        expected = {
            (True, True): Fate.STAYS,
            (True, False): Fate.VANISHES,
            (False, True): Fate.RETURNS,
        }[table.name in live.tables, former in main.tables]
        assert table.fate is (Fate.RENAMED if table.former_name else expected)
    for name in (live.tables.keys() | main.tables.keys()) - seen - former_names - main.broken:
        rest = difference(
            live.tables.get(name, {}),
            main.tables.get(name, {}),
            live.defaults.get(name, {}),
            main.defaults.get(name, {}),
        )
        assert rest == Difference(set(), set(), set()), name
    changed = {(change.type, change.name): change.fate for change in report.schema_changes}
    for key in live.schema.keys() | main.schema.keys():
        if live.schema.get(key, 0) == main.schema.get(key, 0):
            assert key not in changed
        else:
            fate = (
                Fate.RETURNS
                if key not in live.schema
                else Fate.VANISHES
                if key not in main.schema
                else Fate.REVERTS
            )
            assert changed[key] is fate
