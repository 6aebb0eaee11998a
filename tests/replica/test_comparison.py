"""The oracle is a comparison of sets in Python, on rows that another SQLite reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.database.handle import connect
from modelstore.progress import silent
from modelstore.replica.comparison import Compared, Differences, attached_replica, compare

_VALUES = st.none() | st.integers(-3, 3) | st.sampled_from([1.0, 2.5, "a", "A", "1", b"a", b"\xff"])
_ROWS = st.dictionaries(st.integers(-2, 6), st.tuples(_VALUES, _VALUES), max_size=6)
_SHAPES = {
    "rowid": "CREATE TABLE t (x, y COLLATE NOCASE)",
    "integer key": "CREATE TABLE t (k INTEGER PRIMARY KEY, x, y)",
    "without rowid": "CREATE TABLE t (k INTEGER, x, y, PRIMARY KEY (k)) WITHOUT ROWID",
    "two keys": "CREATE TABLE t (x, k TEXT, y, j DEFAULT 7, PRIMARY KEY (k, j)) WITHOUT ROWID",
    "generated": "CREATE TABLE t (k INTEGER PRIMARY KEY, x, y, z AS (x || y))",
}


def _fill(path: Path, schema: str, rows: Mapping[int, tuple[object, object]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(schema)
        key = "k" if " k " in schema or "(k " in schema else "rowid"
        db.executemany(
            f"INSERT INTO t ({key}, x, y) VALUES (?, ?, ?)", [(k, *row) for k, row in rows.items()]
        )


def _compare(live: Path, replica: Path, *, looks: int = 1) -> tuple[Compared, Differences]:
    scratch = live.with_name("differences.db")
    scratch.unlink(missing_ok=True)
    with (
        Differences.in_file(str(scratch)) as differences,
        closing(connect(str(live), "ro")) as db,
    ):
        for _ in range(looks):
            with attached_replica(db, str(replica)):
                found = compare(db, differences, silent)
        counts = differences.by_table()
    assert sum(map(sum, counts.values())) == found.differing
    return found, differences


@settings(max_examples=25)
@given(shape=st.sampled_from(sorted(_SHAPES)), here=_ROWS, there=_ROWS)
def test_it_finds_what_a_comparison_of_sets_finds(
    shape: str, here: dict[int, tuple[object, object]], there: dict[int, tuple[object, object]]
) -> None:
    def typed(row: tuple[object, object]) -> tuple[object, ...]:
        return tuple((type(value), value) for value in row)

    with TemporaryDirectory() as directory:
        live, replica = Path(directory, "live.db"), Path(directory, "replica.db")
        _fill(live, _SHAPES[shape], here)
        _fill(replica, _SHAPES[shape], there)
        found, _ = _compare(live, replica)
    (table,) = found.tables
    both = here.keys() & there.keys()
    assert (table.rows, table.replica_rows) == (len(here), len(there))
    assert table.missing == len(here.keys() - there.keys())
    assert table.returning == len(there.keys() - here.keys())
    assert table.changed == sum(typed(here[k]) != typed(there[k]) for k in both)


def test_tables_that_only_one_has_or_of_another_shape_differ_with_all_their_rows(
    tmp_path: Path,
) -> None:
    live, replica = tmp_path / "live.db", tmp_path / "replica.db"
    rows = {1: ("a", "b"), 2: ("c", "d")}
    _fill(live, "CREATE TABLE t (x, y, z); CREATE TABLE new (n); INSERT INTO new VALUES (1)", rows)
    _fill(replica, "CREATE TABLE t (x, y); CREATE TABLE old (n); INSERT INTO old VALUES (1)", rows)
    found, _ = _compare(live, replica)
    assert {t.name: (t.missing, t.changed, t.returning) for t in found.tables} == {
        "new": (1, 0, 0),
        "old": (0, 0, 1),
        "t": (2, 0, 0),
    }
    assert found.schema == 3


def test_an_index_or_a_trigger_that_only_one_has_differs(tmp_path: Path) -> None:
    live, replica = tmp_path / "live.db", tmp_path / "replica.db"
    index = "CREATE INDEX i ON t (x);"
    _fill(live, "CREATE TABLE t (x, y);" + index, {1: (1, 2)})
    _fill(replica, "CREATE TABLE t (x, y);", {1: (1, 2)})
    found, _ = _compare(live, replica)
    assert (found.schema, found.differing, found.rows) == (1, 1, 1)


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE t (k INTEGER PRIMARY KEY, x, y); CREATE INDEX i ON t (x);",
        "CREATE TABLE t (k INT PRIMARY KEY, x, y) WITHOUT ROWID; CREATE INDEX i ON t (x, y, k);",
        "CREATE TABLE t (x, k INT PRIMARY KEY, y) WITHOUT ROWID; CREATE INDEX i ON t (k, x, y);",
    ],
)
@pytest.mark.parametrize("lacking", ["live.db", "replica.db"])
def test_rows_that_only_an_index_still_has_are_not_there(
    tmp_path: Path, schema: str, lacking: str
) -> None:
    for name in ("live.db", "replica.db"):
        _fill(tmp_path / name, schema, {k: ("x" * k, k) for k in range(1, 6)})
        with closing(sqlite3.connect(tmp_path / name, isolation_level=None)) as db:
            db.execute("ANALYZE")
            (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'").fetchone()
            db.execute("PRAGMA journal_mode = DELETE")
    with open(tmp_path / lacking, "r+b") as file:
        file.seek((root - 1) * 4096 + 3)
        file.write((2).to_bytes(2, "big"))  # the cells of the table's leaf
    found, _ = _compare(tmp_path / "live.db", tmp_path / "replica.db")
    table = next(table for table in found.tables if table.name == "t")
    rows = (2, 5) if lacking == "live.db" else (5, 2)
    assert (table.rows, table.replica_rows) == rows
    assert (table.missing, table.changed, table.returning) == (
        (0, 0, 3) if lacking == "live.db" else (3, 0, 0)
    )


def test_litestreams_own_tables_are_left_out(tmp_path: Path) -> None:
    live, replica = tmp_path / "live.db", tmp_path / "replica.db"
    own = "CREATE TABLE _litestream_seq (id, seq); INSERT INTO _litestream_seq VALUES (1, {})"
    _fill(live, "CREATE TABLE t (x, y);" + own.format(1), {1: (1, 2)})
    _fill(replica, "CREATE TABLE t (x, y);" + own.format(2), {1: (1, 2)})
    found, _ = _compare(live, replica)
    assert not found.differing
    assert [table.name for table in found.tables] == ["t"]


def test_a_full_text_index_is_compared_by_its_own_tables(tmp_path: Path) -> None:
    live, replica = tmp_path / "live.db", tmp_path / "replica.db"
    schema = "CREATE TABLE t (x, y); CREATE VIRTUAL TABLE f USING fts5(x);"
    _fill(live, schema + "INSERT INTO f VALUES ('one'), ('two')", {})
    _fill(replica, schema + "INSERT INTO f VALUES ('one')", {})
    found, _ = _compare(live, replica)
    assert found.unread == {}
    assert {table.name: table.missing for table in found.tables}["f_content"] == 1


def test_a_row_counts_only_while_both_its_versions_stay_as_they_were(tmp_path: Path) -> None:
    live, replica = tmp_path / "live.db", tmp_path / "replica.db"
    schema = "CREATE TABLE t (k INTEGER PRIMARY KEY, x, y)"
    _fill(live, schema, {1: ("lost", 1), 2: ("moving", 1), 3: ("same", 1)})
    _fill(replica, schema, {2: ("moving", 0), 3: ("same", 1)})
    with (
        Differences.in_file(str(tmp_path / "differences.db")) as differences,
        closing(connect(str(live), "ro")) as db,
    ):
        with attached_replica(db, str(replica)):
            compare(db, differences, silent)
        assert differences.by_table() == {"t": (1, 1, 0)}
        with closing(sqlite3.connect(live, isolation_level=None)) as other:
            other.execute("UPDATE t SET y = 2 WHERE k = 2")
        with attached_replica(db, str(replica)):
            compare(db, differences, silent)
        assert differences.by_table() == {"t": (1, 0, 0)}
        assert differences.names("t", 5) == ["1"]


@pytest.mark.parametrize("columns", [3, 900])
def test_a_wide_table_is_compared(tmp_path: Path, columns: int) -> None:
    names = ", ".join(f"c{number}" for number in range(columns))
    for name, last in (("live.db", 1), ("replica.db", 2)):
        with closing(sqlite3.connect(tmp_path / name, isolation_level=None)) as db:
            db.execute(f"CREATE TABLE t ({names})")
            db.execute(f"INSERT INTO t (c0, c{columns - 1}) VALUES (0, {last})")
    found, _ = _compare(tmp_path / "live.db", tmp_path / "replica.db")
    assert [table.changed for table in found.tables] == [1]
