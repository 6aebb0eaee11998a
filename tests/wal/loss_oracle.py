"""SQLite itself as the oracle of loss: the row difference between its two views of a database."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from modelstore.wal.loss import Fate, LossReport, RowSet

Rows = dict[tuple[Any, ...], str]


@dataclass
class Contents:
    """What one view of a database holds; `problem` where SQLite cannot tell."""

    tables: dict[str, Rows] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    schema: dict[tuple[str, str], str] = field(default_factory=dict)
    problem: str | None = None


def copy_files(path: str, target: str, *, shm: bool = False) -> str:
    """Copy a database and its log into the directory `target`; return the copy's path."""
    os.makedirs(target, exist_ok=True)
    copy = os.path.join(target, os.path.basename(path))
    for suffix in ("", "-wal", "-shm") if shm else ("", "-wal"):
        if os.path.exists(path + suffix):
            shutil.copy(path + suffix, copy + suffix)
    return copy


def contents(
    path: str, parameters: str, padding: dict[str, tuple[Any, ...]] | None = None
) -> Contents:
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
                found.tables[name] = _rows(conn, name)
            except sqlite3.DatabaseError:
                found.broken.add(name)
    conn.close()
    return found


def _rows(conn: sqlite3.Connection, name: str) -> Rows:
    quoted = '"' + name.replace('"', '""') + '"'
    info = conn.execute(f"PRAGMA table_xinfo({quoted})").fetchall()
    is_without = conn.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
    ).fetchone()[0]
    if not is_without:
        query = f"SELECT _rowid_, * FROM {quoted} NOT INDEXED"
        return {row[:1]: repr(row[1:]) for row in conn.execute(query)}
    places = sorted((column[5], column[0]) for column in info if column[5])
    return {
        tuple(row[place] for _, place in places): repr(row)
        for row in conn.execute(f"SELECT * FROM {quoted}")
    }


@dataclass
class Difference:
    lost: set[tuple[Any, ...]]
    reverted: set[tuple[Any, ...]]
    returning: set[tuple[Any, ...]]


def difference(live: Rows, main: Rows) -> Difference:
    return Difference(
        lost=live.keys() - main.keys(),
        reverted={key for key in live.keys() & main.keys() if live[key] != main[key]},
        returning=main.keys() - live.keys(),
    )


def _keys(rows: RowSet) -> set[tuple[Any, ...]]:
    return {key if isinstance(key, tuple) else (key,) for key in rows.keys}


def check(report: LossReport, live: Contents, main: Contents) -> None:
    """Assert that `report`, made with a limit above the number of rows, is what SQLite says."""
    assert not report.raced
    assert live.problem is None
    assert report.live_problem is None
    if not report.main.readable:
        assert main.problem or main.broken, report.main
    if main.problem:
        assert not report.main.readable, main.problem
        return
    seen = set()
    former_names = set()
    for table in report.tables:
        seen.add(table.name)
        if table.problem:
            assert table.name in main.broken, table
            continue
        former = table.former_name or table.name
        former_names.add(table.former_name)
        if former in main.broken:
            continue
        wanted = difference(live.tables.get(table.name, {}), main.tables.get(former, {}))
        assert table.is_exact
        for name in ("lost", "reverted", "returning"):
            rows: RowSet = getattr(table, name)
            assert rows.count == len(getattr(wanted, name)), (table.name, name)
            assert _keys(rows) == getattr(wanted, name), (table.name, name)
        expected = {
            (True, True): Fate.STAYS,
            (True, False): Fate.VANISHES,
            (False, True): Fate.RETURNS,
        }[table.name in live.tables, former in main.tables]
        assert table.fate is (Fate.RENAMED if table.former_name else expected)
    for name in (live.tables.keys() | main.tables.keys()) - seen - former_names - main.broken:
        assert live.tables.get(name) == main.tables.get(name), name
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
