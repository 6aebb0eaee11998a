"""Logs that change no row, and changes that look like other ones, against SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.wal.file_difference import DifferenceKind
from modelstore.wal.loss import analyse_loss
from modelstore.wal.loss_report import Fate, LossReport
from tests.wal.loss_build import NUMBERS, Script, connect
from tests.wal.loss_oracle import contents, copy_files

SETUP = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE INDEX i ON t(x);"
    "INSERT INTO t VALUES(1, 'a');"
)


def logged(directory: Path, setup: Script, change: Script, *pragmas: str) -> str:
    """Return a database with `setup` in the main file and `change` in the log alone."""
    origin = str(directory / "origin.db")
    with closing(connect(origin, pragmas=pragmas)) as conn:
        for script in (setup, "PRAGMA wal_checkpoint(TRUNCATE);", change):
            if isinstance(script, str):
                conn.executescript(script)
            else:
                script(conn)
        return copy_files(origin, str(directory / "copy"))


def kinds(report: LossReport) -> set[str]:
    return {difference.kind.value for difference in report.file_differences}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("PRAGMA user_version = 7;", {"user_version", "pages"}),
        ("PRAGMA application_id = 7;", {"application_id", "pages"}),
        ("PRAGMA default_cache_size = 70;", {"default_cache_size", "pages"}),
        ("PRAGMA schema_version = 70;", {"schema_cookie", "pages"}),
        ("UPDATE t SET x = x;", set()),
    ],
)
def test_a_change_of_no_row_is_named(tmp_path: Path, change: str, expected: set[str]) -> None:
    report = analyse_loss(logged(tmp_path, SETUP, change))
    assert (report.lost, report.reverted, report.returning) == (0, 0, 0)
    assert report.scan.max_frame
    assert kinds(report) == expected
    assert report.is_same == (not expected)


def test_two_bits_of_the_header_are_the_text_encoding(tmp_path: Path) -> None:
    path = logged(tmp_path, SETUP, "CREATE TABLE u(x);")
    with open(path, "r+b") as file:
        file.seek(56)
        file.write((0x80001).to_bytes(4, "big"))
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn:
        assert conn.execute("PRAGMA encoding").fetchone() == ("UTF-8",)
    assert "text_encoding" not in kinds(analyse_loss(path))


@pytest.mark.parametrize(("encoding", "written"), [("UTF-16le", 6), ("UTF-16be", 0x103)])
def test_names_and_texts_are_read_by_these_two_bits(
    tmp_path: Path, encoding: str, written: int
) -> None:
    path = tmp_path / "origin.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA encoding = '{encoding}'")
        conn.execute("CREATE TABLE fär(k TEXT PRIMARY KEY, x) WITHOUT ROWID")
        conn.execute("INSERT INTO fär VALUES('ä', 1), ('b', 2)")
    with open(path, "r+b") as file:
        file.seek(56)
        file.write(written.to_bytes(4, "big"))
    with closing(connect(str(path))) as conn:
        conn.executescript("INSERT INTO fär VALUES('ö', 3); ALTER TABLE fär ADD y DEFAULT 'é';")
        copy = copy_files(str(path), str(tmp_path / "copy"))
    (table,) = analyse_loss(copy, names=("fär", "k")).tables
    assert (table.name, table.lost.count, table.lost.texts) == ("fär", 1, ("ö",))


def test_the_mode_of_auto_vacuum_is_named(tmp_path: Path) -> None:
    path = logged(tmp_path, SETUP, "PRAGMA auto_vacuum = 2;", "auto_vacuum = 1")
    (mode,) = (
        d for d in analyse_loss(path).file_differences if d.kind is DifferenceKind.AUTO_VACUUM
    )
    assert (mode.with_log, mode.alone) == ("incremental", "full")


def test_a_vacuum_is_named_by_its_pages(tmp_path: Path) -> None:
    setup = SETUP + NUMBERS.format(3000) + "INSERT OR REPLACE INTO t SELECT i, 'row '||i FROM s;"
    setup += "DELETE FROM t WHERE id % 7 = 0;"
    report = analyse_loss(logged(tmp_path, setup, "VACUUM;"))
    assert (report.lost, report.reverted, report.returning) == (0, 0, 0)
    assert {"page_count", "pages", "index"} <= kinds(report)
    assert not report.is_same


def renumbered(directory: Path, later: str = "") -> LossReport:
    setup = "CREATE TABLE t(x);" + NUMBERS.format(3000) + "INSERT INTO t SELECT 'row '||i FROM s;"
    path = logged(directory, setup + "DELETE FROM t WHERE x LIKE '%7%';", "VACUUM;" + later)
    return analyse_loss(path)


def test_a_vacuum_that_gives_rows_new_rowids_loses_none(tmp_path: Path) -> None:
    report = renumbered(tmp_path)
    assert (report.lost, report.reverted, report.returning) == (0, 0, 0)
    (table,) = report.tables
    assert table.new_rowids
    assert "rowids" in kinds(report)


def test_changes_after_such_a_vacuum_are_counted(tmp_path: Path) -> None:
    report = renumbered(
        tmp_path, "INSERT INTO t VALUES('new'); UPDATE t SET x = 'other' WHERE rowid = 5;"
    )
    assert (report.lost, report.reverted, report.returning) == (1, 1, 0)


def test_rows_without_a_declared_key_that_changed_are_matched_by_rowid(tmp_path: Path) -> None:
    setup = "CREATE TABLE t(x); INSERT INTO t VALUES('a'), ('b'), ('c');"
    change = "UPDATE t SET x = 'B' WHERE x = 'b'; DELETE FROM t WHERE x = 'a';"
    report = analyse_loss(logged(tmp_path, setup, change))
    assert (report.lost, report.reverted, report.returning) == (0, 1, 1)


def in_encoding(encoding: str) -> Callable[[sqlite3.Connection], None]:
    def restore(conn: sqlite3.Connection) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as source:
            source.execute(f"PRAGMA encoding = '{encoding}'")
            source.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x)")
            source.execute("CREATE TABLE w(k TEXT PRIMARY KEY, x) WITHOUT ROWID")
            source.execute("INSERT INTO t VALUES(1, 'ä'), (2, 'changed'), (3, NULL)")
            source.execute("INSERT INTO w VALUES('ä', 1), ('b', 2)")
            source.backup(conn)

    return restore


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_rows_of_another_encoding_are_compared_by_value(tmp_path: Path, encoding: str) -> None:
    setup = (
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1, 'ä'), (2, 'b'), (4, 4);"
        "CREATE TABLE w(k TEXT PRIMARY KEY, x) WITHOUT ROWID;"
        "INSERT INTO w VALUES('ä', 1), ('c', 2);"
    )
    report = analyse_loss(logged(tmp_path, setup, in_encoding(encoding)))
    by_name = {
        table.name: (table.lost.count, table.reverted.count, table.returning.count)
        for table in report.tables
    }
    assert by_name == {"t": (1, 1, 1), "w": (1, 0, 1)}
    assert "text_encoding" in kinds(report)


@pytest.mark.parametrize("size", [57, 58, 59, 122, 186, 5000])
def test_a_key_of_any_size_is_read(tmp_path: Path, size: int) -> None:
    setup = "CREATE TABLE w(k BLOB PRIMARY KEY, a, b) WITHOUT ROWID;"
    change = f"INSERT INTO w VALUES(zeroblob({size}), NULL, NULL), (x'01', zeroblob({size}), NULL);"
    report = analyse_loss(logged(tmp_path, setup, change))
    assert report.live_problem is None
    assert (report.lost, report.is_exact) == (2, True)


@pytest.mark.parametrize(
    "names", [("K", "\N{KELVIN SIGN}"), ("\N{LATIN SMALL LETTER SHARP S}", "SS"), ("ä", "Ä")]
)
def test_names_are_compared_by_ascii_case_alone(tmp_path: Path, names: tuple[str, str]) -> None:
    setup = "".join(f'CREATE TABLE "{name}"(x);' for name in names)
    change = f'INSERT INTO "{names[0]}" VALUES(1); INSERT INTO "{names[1]}" VALUES(1), (2);'
    report = analyse_loss(logged(tmp_path, setup, change))
    assert {table.name: table.lost.count for table in report.tables} == {names[0]: 1, names[1]: 2}


@pytest.mark.parametrize(
    "columns", ["x, y DEFAULT 5", "x, note TEXT CHECK (note <> 'DEFAULT')", "x, y DEFAULT NULL"]
)
def test_a_default_is_that_of_its_column(tmp_path: Path, columns: str) -> None:
    setup = f"CREATE TABLE t({columns}); INSERT INTO t(x) VALUES(1);"
    change = "ALTER TABLE t ADD COLUMN z; UPDATE t SET z = NULL, x = x;"
    report = analyse_loss(logged(tmp_path, setup, change))
    assert (report.lost, report.reverted, report.returning) == (0, 0, 0)


def test_a_table_of_the_same_shape_and_root_is_another_one(tmp_path: Path) -> None:
    setup = "CREATE TABLE a(x); INSERT INTO a VALUES(1), (2);"
    path = logged(tmp_path, setup, "DROP TABLE a; CREATE TABLE b(x); INSERT INTO b VALUES(9);")
    report = analyse_loss(path)
    fates = {
        table.name: (table.fate, table.lost.count, table.returning.count) for table in report.tables
    }
    assert fates == {"b": (Fate.VANISHES, 1, 0), "a": (Fate.RETURNS, 0, 2)}


def test_a_renamed_table_keeps_its_rows(tmp_path: Path) -> None:
    setup = "CREATE TABLE a(x); INSERT INTO a VALUES(1), (2);"
    path = logged(tmp_path, setup, "ALTER TABLE a RENAME TO b; INSERT INTO b VALUES(3);")
    (table,) = analyse_loss(path).tables
    assert (table.fate, table.former_name, table.lost.count) == (Fate.RENAMED, "a", 1)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (
            "PRAGMA writable_schema = ON;"
            "UPDATE sqlite_schema SET tbl_name = 'T' WHERE type = 'index';",
            set(),
        ),
        ("ALTER TABLE t RENAME TO x; ALTER TABLE x RENAME TO T;", {"T", "i"}),
    ],
    ids=["in the schema", "with the SQL"],
)
def test_an_index_of_a_table_in_another_case_is_the_same(
    tmp_path: Path, change: str, changed: set[str]
) -> None:
    setup = "CREATE TABLE t(x UNIQUE); CREATE INDEX i ON t(x); INSERT INTO t VALUES(1);"
    report = analyse_loss(logged(tmp_path, setup, change))
    assert {item.name for item in report.schema_changes} == changed
    assert not report.has_row_changes
    assert not report.is_same


def test_pages_beyond_the_end_are_not_missed(tmp_path: Path) -> None:
    # Without this page the log of an auto-vacuum database that shrank would look pending for ever.
    setup = "CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(400000));"
    change = "DELETE FROM t; INSERT INTO t VALUES(1); PRAGMA wal_checkpoint(PASSIVE);"
    path = logged(tmp_path, setup, change, "auto_vacuum = 1")
    report = analyse_loss(path)
    assert max(report.scan.page_numbers) >= report.scan.page_count
    assert report.is_same
    assert contents(path, "immutable=1").is_sound


def test_the_log_of_a_large_schema_is_read(tmp_path: Path) -> None:
    def views(conn: sqlite3.Connection) -> None:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("BEGIN")
        conn.executemany(
            "INSERT INTO sqlite_master VALUES('view', ?, ?, 0, ?)",
            ((f"v{n}", f"v{n}", f"CREATE VIEW v{n} AS SELECT 1") for n in range(51_000)),
        )
        conn.execute("COMMIT")
        conn.execute("CREATE TABLE t(x)")

    report = analyse_loss(logged(tmp_path, views, "INSERT INTO t VALUES(1);"))
    assert (report.live_problem, report.lost) == (None, 1)
