"""Loss with files that are missing, empty, damaged or disguised."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from itertools import chain, combinations
from pathlib import Path

import pytest

from modelstore.errors import RefusedError
from modelstore.wal.format import WalFault
from modelstore.wal.loss import analyse_loss
from modelstore.wal.loss_report import Fate
from modelstore.wal.main_file import MainState
from modelstore.wal.page_owners import PageRole
from modelstore.wal.scan import scan_wal
from tests.wal.children import holding_index
from tests.wal.loss_build import NUMBERS, Database
from tests.wal.loss_oracle import check, contents, copy_files

ALL = 1_000_000
SETUP = "CREATE TABLE models(id INTEGER PRIMARY KEY, name TEXT);"
EIGHTEEN = NUMBERS.format(18) + "INSERT INTO models SELECT i, 'model '||i FROM s;"


def test_no_log_loses_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP + EIGHTEEN, "")
    for content in (b"", None):
        if content is None:
            os.unlink(database.path + "-wal")
        report = analyse_loss(database.path)
        assert report.scan.fault is (WalFault.ABSENT if content is None else WalFault.EMPTY)
        assert not report.differing
        assert (report.main.state, report.main.commit) == (MainState.CONSISTENT, 0)
        assert report.main.readable
        assert not report.tables


def test_a_log_that_is_folded_already(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP, EIGHTEEN + "PRAGMA wal_checkpoint(PASSIVE);", shm=True)
    with holding_index(database.path):
        report = analyse_loss(database.path)
    assert report.is_same
    assert (report.main.commit, report.main.is_proven) == (report.scan.commit_count, True)
    assert set(report.held) == {1}
    os.unlink(database.path + "-shm")
    report = analyse_loss(database.path)
    assert report.is_same
    assert (report.main.commit, report.main.is_proven) == (report.scan.commit_count, False)


def test_a_log_without_its_database(tmp_path: Path) -> None:
    database = Database(tmp_path, "", SETUP + EIGHTEEN, truncate=False)
    os.unlink(database.path)
    for report in (
        analyse_loss(database.path, names=("models", "name")),
        analyse_loss(
            str(tmp_path / "none"), wal_path=database.path + "-wal", names=("models", "name")
        ),
    ):
        assert report.main.state is MainState.ABSENT
        assert not report.main.readable
        assert not report.is_same
        (table,) = report.tables
        assert (table.fate, table.lost.count, table.is_exact) == (Fate.VANISHES, 18, True)
        assert table.lost.texts[0] == "model 1"
        assert report.live_problem is None


def test_a_log_without_its_database_that_needs_it(tmp_path: Path) -> None:
    setup = SETUP + NUMBERS.format(3000) + "INSERT INTO models SELECT i, 'model '||i FROM s;"
    database = Database(tmp_path, setup, "UPDATE models SET name = 'x' WHERE id IN (1, 2000)")
    os.unlink(database.path)
    report = analyse_loss(database.path)
    assert report.live_problem is not None
    assert report.unattributed == report.pages == 2
    assert not report.is_exact


def test_a_main_file_of_no_bytes(tmp_path: Path) -> None:
    database = Database(tmp_path, "", SETUP + EIGHTEEN, truncate=False)
    for content in (b"", b"S"):
        Path(database.path).write_bytes(content)
        report = analyse_loss(database.path, limit=ALL)
        assert report.main.state is MainState.EMPTY
        live = contents(database.live_path, "mode=ro")
        check(report, live, contents(database.path, "immutable=1"))
        assert report.lost == 18


def test_a_main_file_cut_short(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP + EIGHTEEN, "INSERT INTO models(name) VALUES ('x')")
    whole = Path(database.path).read_bytes()
    for size in (2, 99, 100, 4095, 4096, len(whole) - 4096):
        Path(database.path).write_bytes(whole[:size])
        report = analyse_loss(database.path)
        assert report.main.state is MainState.TORN
        assert not report.main.readable
        assert report.main.problem
        assert contents(database.path, "immutable=1").problem


CUT = {
    "a leaf that is free at its end": ("CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"),
    "an overflow page": (
        "CREATE TABLE t(a); INSERT INTO t VALUES (printf('%06000d', 1))",
        "UPDATE t SET a = 'new'||a",
    ),
}


@pytest.mark.parametrize("kind", CUT)
def test_sqlite_reads_zeros_for_the_rest_of_a_page_that_is_cut(tmp_path: Path, kind: str) -> None:
    database = Database(tmp_path, *CUT[kind])
    whole = Path(database.path).read_bytes()
    for cut in (1, 2000, 4000):
        Path(database.path).write_bytes(whole[:-cut])
        report = analyse_loss(database.path, limit=ALL)
        assert (report.main.state, report.main.readable) == (MainState.TORN, True)
        alone = contents(database.path, "immutable=1")
        assert alone.is_sound
        check(report, contents(database.live_path, "mode=ro"), alone)


def test_a_cut_page_of_zeros_is_no_page_of_rows(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP + EIGHTEEN, "UPDATE models SET id = id + 100")
    Path(database.path).write_bytes(Path(database.path).read_bytes()[:-2000])
    report = analyse_loss(database.path)
    assert (report.main.state, report.main.readable) == (MainState.TORN, False)
    assert not contents(database.path, "immutable=1").is_sound


def test_a_page_that_is_cut_and_not_in_the_log_makes_no_file_whole(tmp_path: Path) -> None:
    change = "INSERT INTO t VALUES (1); PRAGMA wal_checkpoint(PASSIVE)"
    database = Database(tmp_path, "CREATE TABLE t(a); CREATE TABLE u(a)", change)
    assert analyse_loss(database.path).is_same
    Path(database.path).write_bytes(Path(database.path).read_bytes()[:-1])
    assert contents(database.path, "immutable=1").is_sound
    report = analyse_loss(database.path)
    assert (report.differing, report.main.readable, report.is_same) == (0, True, False)


DROPPED = {
    "an integer": ("id INTEGER PRIMARY KEY, a, b", "'model '||i", "i % 2", 1),
    "zeros and ones": ("id INTEGER PRIMARY KEY, a, b", "i % 2", "i % 2", 1),
    "a long text": ("id INTEGER PRIMARY KEY, a, b", "i", "printf('%040000d', i)", 1),
    "the middle one": ("id INTEGER PRIMARY KEY, a, b, c", "i", "i % 2", 20),
}


@pytest.mark.parametrize("kind", DROPPED)
def test_a_schema_that_is_copied_before_its_rows(tmp_path: Path, kind: str) -> None:
    columns, a, b, reverted = DROPPED[kind]
    setup = f"""
        CREATE TABLE models({columns});
        {NUMBERS.format(18)} INSERT INTO models(id, a, b) SELECT i, {a}, {b} FROM s;
        INSERT INTO models(id, a, b) VALUES (30, NULL, 1), (31, 1, NULL), (32, 0, 0);
    """
    change = "ALTER TABLE models DROP COLUMN b; UPDATE models SET a = 'new' WHERE id = 3;"
    assert _reverted(tmp_path, setup, change) == reverted


def test_pages_that_are_copied_before_the_count_of_pages(tmp_path: Path) -> None:
    setup = SETUP + "CREATE TABLE other(a)"
    database = Database(tmp_path, setup, NUMBERS.format(999) + "INSERT INTO other SELECT i FROM s")
    with closing(sqlite3.connect(database.live_path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    first = Path(database.path).read_bytes()[:4096]
    Path(database.path).write_bytes(first + Path(database.live_path).read_bytes()[4096:])
    alone = sqlite3.connect(f"file:{database.path}?immutable=1", uri=True)
    with closing(alone), pytest.raises(sqlite3.DatabaseError):
        alone.execute("SELECT sum(a) FROM other")
    report = analyse_loss(database.path)
    assert (report.main.state, report.main.readable) == (MainState.MIXED, False)
    assert not report.is_known


KEPT = "CREATE TABLE models(id); INSERT INTO models VALUES (1), (2), (3);"
ON_LONG_KEYS = "CREATE INDEX i ON models(printf('%01900d', id));"  # of overflow pages
ON_IDS = "CREATE INDEX j ON models(id);"
FILLER = "CREATE TABLE filler AS SELECT zeroblob(9000);"
NO_ROW_DIFFERS = {
    "a page that moved to the end": (KEPT + ON_LONG_KEYS, "CREATE TABLE x(a); DROP TABLE x;"),
    "a page that moved to the front": (
        f"{FILLER} {KEPT} {ON_LONG_KEYS} DELETE FROM filler;",
        "PRAGMA incremental_vacuum;",
    ),
    "another order of indexes": (
        KEPT + ON_LONG_KEYS + ON_IDS,
        "DROP INDEX i; DROP INDEX j;" + ON_IDS + ON_LONG_KEYS,
    ),
}


@pytest.mark.parametrize("kind", NO_ROW_DIFFERS)
def test_an_index_that_is_copied_in_part(tmp_path: Path, kind: str) -> None:
    setup, change = NO_ROW_DIFFERS[kind]
    pragmas = ("auto_vacuum = incremental",)
    database = Database(tmp_path, setup, change, page_size=512, pragmas=pragmas)
    whole, log = Path(database.path).read_bytes(), Path(database.path + "-wal").read_bytes()
    scan = scan_wal(database.path + "-wal")
    images = {
        page: log[scan.offset(frame) :][: scan.page_size] for page, frame in scan.latest().items()
    }
    malformed = sound = 0
    for copied in ([], [1], sorted(images)[1:], [max(images)]):
        with open(database.path, "wb") as main:
            main.write(whole)
            for page in copied:
                main.seek((page - 1) * scan.page_size)
                main.write(images[page])
        report = analyse_loss(database.path)
        assert not report.has_row_changes
        assert not report.has_schema_changes
        alone = sqlite3.connect(f"file:{database.path}?immutable=1", uri=True)
        with closing(alone):
            try:
                if alone.execute("PRAGMA integrity_check").fetchall() == [("ok",)]:
                    sound += 1
                    assert report.main.readable
            except sqlite3.DatabaseError:
                malformed += 1
                assert not report.main.readable
                assert not report.is_known
    assert malformed
    assert sound


def test_a_schema_that_is_copied_in_part(tmp_path: Path) -> None:
    """It may name a table twice: SQLite then reads nothing of it."""
    setup = "".join(f"CREATE TABLE t{i}({'x' * 60}{i});" for i in range(7))
    database = Database(
        tmp_path, setup, "DROP TABLE t0; DROP TABLE t1; DROP TABLE t2;", page_size=512
    )
    whole, log = Path(database.path).read_bytes(), Path(database.path + "-wal").read_bytes()
    scan = scan_wal(database.path + "-wal")
    unreadable = 0
    for copied in chain.from_iterable(combinations(scan.latest().items(), r) for r in range(4)):
        with open(database.path, "wb") as main:
            main.write(whole)
            for page, frame in copied:
                main.seek((page - 1) * scan.page_size)
                main.write(log[scan.offset(frame) :][: scan.page_size])
        alone = sqlite3.connect(f"file:{database.path}?immutable=1", uri=True)
        with closing(alone):
            try:
                alone.execute("SELECT name FROM sqlite_master").fetchall()
            except sqlite3.DatabaseError:
                unreadable += 1
                assert not analyse_loss(database.path).main.readable, copied
    assert unreadable


def test_a_schema_that_is_copied_before_rows_without_rowids(tmp_path: Path) -> None:
    setup = f"""
        CREATE TABLE models(id INT PRIMARY KEY, a, b) WITHOUT ROWID;
        {NUMBERS.format(18)} INSERT INTO models SELECT i, 'model '||i, i % 2 FROM s;
    """
    change = "ALTER TABLE models DROP COLUMN b; UPDATE models SET a = 'new' WHERE id = 3;"
    assert _reverted(tmp_path, setup, change) == 1


_MIXED = "CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN i ELSE 'text '||i END"
GONE = {
    "the last one": ("id INTEGER PRIMARY KEY, a, b)", "DROP COLUMN b", _MIXED, 0),
    "the middle one": ("id INTEGER PRIMARY KEY, b, a)", "DROP COLUMN b", _MIXED, 0),
    "beside one that is added": (
        "id INTEGER PRIMARY KEY, b, c, a)",
        "DROP COLUMN b; ALTER TABLE models DROP COLUMN c; ALTER TABLE models ADD COLUMN d",
        _MIXED,
        17,
    ),
    "without rowids": ("id INT PRIMARY KEY, b, a) WITHOUT ROWID", "DROP COLUMN b", _MIXED, 0),
    "a large one": (
        "id INTEGER PRIMARY KEY, a, b)",
        "DROP COLUMN b",
        "zeroblob((i = 5) * 1100000)",
        0,
    ),
}


@pytest.mark.parametrize("kind", GONE)
def test_a_dropped_column_counts_alike_in_all_rows(tmp_path: Path, kind: str) -> None:
    """DROP COLUMN changes no other value; if more has changed, no row is what it was."""
    columns, change, b, others = GONE[kind]
    setup = f"""
        CREATE TABLE models({columns};
        {NUMBERS.format(18)} INSERT INTO models(id, a, b) SELECT i, i % 5, {b} FROM s;
        ALTER TABLE models ADD COLUMN late DEFAULT 7;
    """
    change = f"ALTER TABLE models {change}; UPDATE models SET a = 'new' WHERE id = 3;"
    database = Database(tmp_path, setup, change)
    report = analyse_loss(database.path, limit=ALL)
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))
    (table,) = report.tables
    assert table.reverted.count == 1 + others


_ANEW = (
    "CREATE TABLE new(a, id {} PRIMARY KEY, b); INSERT INTO new SELECT * FROM models;"
    "DROP TABLE models; ALTER TABLE new RENAME TO models;"
    "UPDATE models SET a = 'new' WHERE id = 3;"
)
KEYS = {
    "no record changes": (
        "INTEGER",
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_schema SET sql = replace(sql, ' PRIMARY KEY', '') WHERE type = 'table';",
        18,
    ),
    "no more": ("INTEGER", _ANEW.format("INT"), 1),
    "from now on": ("INT", _ANEW.format("INTEGER"), 1),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_is_the_rowid_on_one_side_alone(tmp_path: Path, kind: str) -> None:
    """A record holds NULL in an INTEGER PRIMARY KEY, and the value in a key of another type."""
    key, change, reverted = KEYS[kind]
    setup = f"""
        CREATE TABLE models(a, id {key} PRIMARY KEY, b);
        {NUMBERS.format(18)} INSERT INTO models SELECT i % 5, i, zeroblob(i * 400) FROM s;
    """
    database = Database(tmp_path, setup, change)
    report = analyse_loss(database.path, limit=ALL)
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))
    (table,) = report.tables
    assert (table.lost.count, table.reverted.count, table.returning.count) == (0, reverted, 0)


ADDED = [
    *(
        "TEXT DEFAULT 'x'",
        "DEFAULT 'it''s'",
        "INTEGER DEFAULT 0",
        "INT DEFAULT -129",
        "REAL DEFAULT 2",
    ),
    *(
        "REAL DEFAULT 0.5",
        "REAL DEFAULT 2.0",
        "NUMERIC DEFAULT 2.0",
        "TEXT DEFAULT 007",
        "DEFAULT 8388608",
    ),
    *("TEXT NOT NULL DEFAULT '' CHECK (x <> 'y')", "BLOB DEFAULT NULL", "REAL DEFAULT -7.0"),
]


@pytest.mark.parametrize(
    "key", ["id INTEGER PRIMARY KEY, a)", "id INT PRIMARY KEY, a) WITHOUT ROWID"]
)
@pytest.mark.parametrize("column", ADDED)
def test_a_row_that_is_older_than_a_column_has_its_default(
    tmp_path: Path, column: str, key: str
) -> None:
    setup = f"""
        CREATE TABLE models({key};
        {NUMBERS.format(18)} INSERT INTO models SELECT i, 'model '||i FROM s;
    """
    change = f"""
        ALTER TABLE models ADD COLUMN x {column};
        ALTER TABLE models ADD COLUMN y; UPDATE models SET a = a;
        UPDATE models SET x = 'other' WHERE id = 3; UPDATE models SET y = 1 WHERE id = 4;
    """
    assert _reverted(tmp_path, setup, change) == 2


def _reverted(directory: Path, setup: str, change: str) -> int:
    """Cut a checkpoint off after the schema; return the rows that revert, as SQLite has them."""
    database = Database(directory, setup, change)
    folded = copy_files(database.live_path, str(directory / "folded"))
    with closing(sqlite3.connect(folded)) as conn:
        conn.execute("PRAGMA wal_checkpoint").fetchall()
    with open(database.path, "r+b") as file:
        file.write(Path(folded).read_bytes()[:4096])
    database.share_main()
    report = analyse_loss(database.path, limit=ALL)
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))
    (table,) = report.tables
    return table.reverted.count


DEFAULTS: tuple[str, ...] = (
    "5",
    "-5",
    "1e3",
    "0x10",
    "TRUE",
    "NULL",
    "'x'",
    "x'00ff'",
    "(5)",
    "((-5))",
    "('x')",
)
DEFAULTS = (
    *DEFAULTS,
    "9223372036854775807",
    "9223372036854775808",
    "2147483648",
    ".5",
    '"dq"',
    "bare",
)
DECLARED = ("INTEGER", "TEXT", "REAL", "NUMERIC")


@pytest.mark.parametrize("declared", DECLARED)
def test_any_constant_is_a_default(tmp_path: Path, declared: str) -> None:
    columns = [
        f"ALTER TABLE models ADD COLUMN n{at} {declared} DEFAULT {default};"
        for at, default in enumerate(DEFAULTS)
    ]
    names = ", ".join(f"n{at} = n{at}" for at in range(len(DEFAULTS)))
    change = f"UPDATE models SET {names}; UPDATE models SET name = 'new' WHERE id = 3;"
    database = Database(tmp_path, SETUP + EIGHTEEN + "".join(columns), change)
    (table,) = analyse_loss(database.path).tables
    assert (table.reverted.count, table.reverted.keys, table.is_exact) == (1, (3,), True)


@pytest.mark.parametrize("default", ["(CAST('5' AS INTEGER))", "2.0"])
def test_a_default_that_is_not_known_makes_no_figure_exact(tmp_path: Path, default: str) -> None:
    """SQLite 3.40 takes 2.0 for an integer where no type is declared, and 3.53 does not."""
    column = f"ALTER TABLE models ADD COLUMN n DEFAULT {default};"
    change = "UPDATE models SET n = 7; UPDATE models SET name = 'new' WHERE id = 3;"
    database = Database(tmp_path, SETUP + EIGHTEEN + column, change)
    (table,) = analyse_loss(database.path).tables
    assert (table.reverted.count, table.is_exact) == (1, False)


def test_a_key_whose_column_was_renamed(tmp_path: Path) -> None:
    setup = f"CREATE TABLE t(a, k, PRIMARY KEY(k)) WITHOUT ROWID; {NUMBERS.format(9)} INSERT INTO t"
    setup += " SELECT 'v', i FROM s;"
    change = "INSERT INTO t VALUES ('late', 100); ALTER TABLE t RENAME COLUMN k TO key;"
    database = Database(tmp_path, setup, change)
    (table,) = analyse_loss(database.path).tables
    assert (table.lost.count, table.reverted.count, table.returning.count) == (1, 0, 0)


def test_a_main_file_that_is_no_database(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP, EIGHTEEN)
    Path(database.path).write_bytes(b"GGUF" * 5000)
    report = analyse_loss(database.path)
    assert (report.main.state, report.main.readable) == (MainState.FOREIGN, False)
    assert not report.tables


def test_the_log_of_a_database_with_other_pages(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    database = Database(tmp_path / "a", SETUP, EIGHTEEN)
    other = Database(tmp_path / "b", SETUP, EIGHTEEN, page_size=1024)
    shutil.copy(other.path + "-wal", database.path + "-wal")
    report = analyse_loss(database.path)
    assert report.main.state is MainState.FOREIGN
    assert report.main.problem == "its pages have 4096 bytes, not 1024"


def test_the_log_of_another_database(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    database = Database(tmp_path / "a", SETUP + EIGHTEEN, "")
    other = Database(
        tmp_path / "b", "", "CREATE TABLE others(a); CREATE TABLE more(b)", truncate=False
    )
    shutil.copy(other.path + "-wal", database.path + "-wal")
    fates = {table.name: table.fate for table in analyse_loss(database.path).tables}
    assert fates == {"others": Fate.VANISHES, "more": Fate.VANISHES, "models": Fate.RETURNS}


def test_a_damaged_log_counts_as_far_as_sqlite_would_read_it(tmp_path: Path) -> None:
    inserts = "".join(f"INSERT INTO models(name) VALUES ('m{i}');" for i in range(30))
    database = Database(tmp_path, SETUP, inserts)
    raw = bytearray(Path(database.path + "-wal").read_bytes())
    raw[32 + 5 * (4096 + 24) + 100] ^= 1
    for path in (database.path, database.live_path):
        Path(path + "-wal").write_bytes(raw)
    report = analyse_loss(database.path, limit=ALL)
    assert report.scan.is_damaged
    assert not report.is_same
    assert report.lost == report.scan.max_frame == 5
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))


def test_corrupt_pages_are_said_and_the_rest_is_told(tmp_path: Path) -> None:
    setup = SETUP + "CREATE TABLE good(a); CREATE TABLE bad(a);"
    for name in ("good", "bad"):
        setup += NUMBERS.format(40) + f"INSERT INTO {name} SELECT randomblob(500) FROM s;"
    change = "DELETE FROM good WHERE rowid = 3; DELETE FROM bad"
    database = Database(tmp_path, setup, change)
    with closing(sqlite3.connect(f"file:{database.path}?immutable=1", uri=True)) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'bad'").fetchone()
    with open(database.path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x63")
    report = analyse_loss(database.path)
    losses = {table.name: table for table in report.tables}
    assert (losses["good"].returning.count, losses["good"].problem) == (1, None)
    assert losses["bad"].problem == f"page {root} is no b-tree page (type 99)"
    assert (report.main.readable, report.is_exact) == (False, False)
    assert report.live_problem is None


def test_counts_beyond_the_budget_are_lower_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = SETUP + NUMBERS.format(5000) + "INSERT INTO models SELECT i, 'model '||i FROM s;"
    pragmas = ("secure_delete = OFF",)  # else the freed pages are in the log
    database = Database(tmp_path, setup, "DELETE FROM models", page_size=512, pragmas=pragmas)
    monkeypatch.setattr("modelstore.wal.loss._BUDGET", 10)
    (table,) = analyse_loss(database.path).tables
    assert not table.is_exact
    assert 0 < table.returning.count < 5000
    report = analyse_loss(database.path, deep=True)
    assert report.tables[0].returning.count == 5000
    assert report.is_exact


def test_pages_of_nobody_are_counted_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(conn: sqlite3.Connection) -> None:
        with conn.blobopen("blobs", "data", 7) as blob:
            blob.seek(20_000)
            blob.write(b"changed in place")

    setup = (
        "CREATE TABLE blobs(data);"
        + NUMBERS.format(20)
        + "INSERT INTO blobs SELECT zeroblob(30000) FROM s"
    )
    database = Database(tmp_path, setup, write)
    monkeypatch.setattr("modelstore.wal.loss._BUDGET", 3)
    report = analyse_loss(database.path)
    assert (report.unattributed, report.is_exact) == (1, False)
    assert report.objects[-1].roles == {PageRole.UNKNOWN: 1}
    assert analyse_loss(database.path, deep=True).tables[0].reverted.keys == (7,)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="neither a database"):
        analyse_loss(str(tmp_path / "nothing\x1b.db"))
    with pytest.raises(RefusedError, match="a directory"):
        analyse_loss(str(tmp_path))
    path = str(tmp_path / "a.db")
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE a(b)")
    if hasattr(os, "mkfifo"):
        os.mkfifo(path + "-wal")
        with pytest.raises(RefusedError, match="not a file"):
            analyse_loss(path)


def test_a_link_is_followed_to_the_database_as_sqlite_does(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP, EIGHTEEN)
    link = tmp_path / "link.db"
    link.symlink_to(database.path)
    assert analyse_loss(str(link)).lost == 18


def test_the_page_count_may_be_out_of_date(tmp_path: Path) -> None:
    # Written by SQLite before 3.7.0: the header's count is to be ignored.
    database = Database(tmp_path, SETUP + EIGHTEEN, "INSERT INTO models(name) VALUES ('x')")
    with open(database.path, "r+b") as file:
        file.seek(28)
        file.write(struct.pack(">I", 77))
        file.seek(92)
        file.write(struct.pack(">I", 12345))
    database.share_main()
    report = analyse_loss(database.path, limit=ALL)
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))
    assert (report.lost, report.main.page_count) == (1, 2)


def test_a_small_log_needs_no_numpy_and_no_sqlite(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP, EIGHTEEN)
    program = (
        "import sys; from modelstore.wal.loss import analyse_loss;"
        "print(analyse_loss(sys.argv[1]).lost);"
        "print(sorted({'numpy', 'sqlite3', 'pysqlite3'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, database.path], check=True, capture_output=True, text=True
    )
    assert answer.stdout.split("\n")[:2] == ["18", "[]"]


def test_nothing_is_changed_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    database = Database(tmp_path, SETUP, EIGHTEEN, shm=True)

    def state() -> list[tuple[bytes, int]]:
        paths = (database.path + suffix for suffix in ("", "-wal", "-shm"))
        return [(Path(path).read_bytes(), os.stat(path).st_mtime_ns) for path in paths]

    def next_descriptor() -> int:
        fd = os.open(database.path, os.O_RDONLY)
        os.close(fd)
        return fd

    before = state(), next_descriptor()
    analyse_loss(database.path)
    assert (state(), next_descriptor()) == before
