"""Loss against SQLite itself: the difference between its `mode=ro` and `immutable=1` views."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.wal.loss import analyse_loss
from modelstore.wal.loss_report import Fate, LossReport
from modelstore.wal.main_file import MainState
from modelstore.wal.page_owners import PageRole
from tests.wal.children import holding_index
from tests.wal.loss_build import NUMBERS, Database, Script
from tests.wal.loss_oracle import check, contents, copy_files, dbstat, has_module

ALL = 1_000_000
SETUP = (
    """
    CREATE TABLE models(id INTEGER PRIMARY KEY, name TEXT, notes);
    CREATE TABLE places(kind TEXT, root, n INT, PRIMARY KEY(n, kind)) WITHOUT ROWID;
    CREATE INDEX by_name ON models(name);
    CREATE TABLE dropped(x);
    INSERT INTO dropped VALUES (1), (2);
    """
    + NUMBERS.format(600)
    + "INSERT INTO models SELECT i, 'model '||i, hex(randomblob(i % 400)) FROM s;"
    + NUMBERS.format(600)
    + "INSERT INTO places SELECT 'k'||i, hex(randomblob(i % 150)), i % 7 FROM s;"
)
CHANGE = """
    INSERT INTO models(name, notes) VALUES ('new ä', 1), ('long', hex(randomblob(70000)));
    DELETE FROM models WHERE id % 97 = 0;
    UPDATE models SET notes = 'x'||notes WHERE id % 101 = 0;
    UPDATE places SET root = root||'y' WHERE n = 3 AND kind LIKE '%1';
    DELETE FROM places WHERE n = 5 AND kind LIKE '%7';
    INSERT INTO places VALUES ('zz', 1, 2);
    DROP TABLE dropped;
    CREATE TABLE fresh(a, b);
    INSERT INTO fresh VALUES (1, 2), (3, 4);
    CREATE VIEW seen AS SELECT * FROM models;
    CREATE TRIGGER after_models AFTER INSERT ON models BEGIN SELECT 1; END;
"""
PRAGMAS = {
    "plain": (),
    "full auto-vacuum": ("auto_vacuum = FULL",),
    "incremental auto-vacuum": ("auto_vacuum = INCREMENTAL",),
    "UTF-16le": ("encoding = 'UTF-16le'",),
    "UTF-16be": ("encoding = 'UTF-16be'",),
    "secure delete": ("secure_delete = ON",),
}


def verified(
    directory: Path, setup: Script, change: Script, page_size: int = 4096, *pragmas: str
) -> LossReport:
    """Analyse, and hold every figure against SQLite."""
    database = Database(directory, setup, change, page_size=page_size, pragmas=pragmas, shm=True)
    with holding_index(database.path):
        report = analyse_loss(database.path, limit=ALL)
    assert report.main.is_proven
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))
    assert report.is_exact
    assert report.main.state is MainState.CONSISTENT
    return report


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("kind", PRAGMAS)
def test_every_row_is_accounted_for(tmp_path: Path, page_size: int, kind: str) -> None:
    report = verified(tmp_path, SETUP, CHANGE, page_size, *PRAGMAS[kind])
    assert report.lost == 5
    assert not report.is_same
    fates = {(change.name, change.fate) for change in report.schema_changes}
    assert {("seen", Fate.VANISHES), ("dropped", Fate.RETURNS)} <= fates
    assert sum(item.frames for item in report.objects) == report.scan.max_frame
    assert sum(item.pages for item in report.objects) == report.pages
    assert sum(item.differing for item in report.objects) == report.differing


CHANGES = {
    "a no-op": "UPDATE models SET id = id WHERE id < 5; CREATE TABLE a(b); DROP TABLE a",
    "all rows of a table": "DELETE FROM models",
    "empty tables": "CREATE TABLE e1(a, b); CREATE TABLE e2(a PRIMARY KEY) WITHOUT ROWID",
    "a new column": """
        ALTER TABLE models ADD COLUMN extra; UPDATE models SET extra = 1 WHERE id < 9""",
    "a new column, rows written again": """
        ALTER TABLE models ADD COLUMN extra; UPDATE models SET notes = notes;
        ALTER TABLE places ADD COLUMN extra; UPDATE places SET root = root""",
    "a new column with a default": "ALTER TABLE models ADD COLUMN extra DEFAULT 'x'",
    "a dropped column": "ALTER TABLE places DROP COLUMN root",
    "a renamed table": "ALTER TABLE models RENAME TO m2; DELETE FROM m2 WHERE id = 3",
    "swapped names": """
        ALTER TABLE dropped RENAME TO t; ALTER TABLE models RENAME TO dropped;
        ALTER TABLE t RENAME TO models""",
    "a table made anew": """
        DROP TABLE models; CREATE TABLE models(name TEXT PRIMARY KEY) WITHOUT ROWID;
        INSERT INTO models VALUES ('a'), ('b')""",
    "a table with another primary key": """
        DROP TABLE places; CREATE TABLE places(kind TEXT PRIMARY KEY, n) WITHOUT ROWID;
        INSERT INTO places VALUES ('new', 1)""",
    "vacuum": """
        DELETE FROM models WHERE id % 3 = 0; VACUUM; INSERT INTO models VALUES (9999, 1, 2)""",
    "a freelist": "DELETE FROM models WHERE id > 100; DELETE FROM places WHERE n > 2",
    "incremental vacuum": "DELETE FROM models WHERE id > 100; PRAGMA incremental_vacuum",
    "an index": "CREATE INDEX by_notes ON models(notes); DROP INDEX by_name",
    "new rowids": "UPDATE models SET id = id + 100000",
    "extreme rowids": """
        UPDATE models SET id = -id; INSERT INTO models VALUES (9223372036854775807, 1, 2);
        INSERT INTO models VALUES (-9223372036854775808, 1, 2)""",
    "other keys": "UPDATE places SET kind = kind||'!'",
    "the case of keys": """
        CREATE TABLE c(k TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID;
        INSERT INTO c VALUES ('a'); UPDATE c SET k = 'A'""",
    "odd names": """
        CREATE TABLE "a ""b"" [c]"("x,(y" INTEGER PRIMARY KEY, 'q');
        INSERT INTO "a ""b"" [c]" DEFAULT VALUES""",
    "values of all kinds": """
        INSERT INTO models VALUES (7000, NULL, 1.5), (7001, x'00ff', -1), (7002, '', 1e300),
        (7003, 1, 0), (7004, -9223372036854775808, 65536), (7005, 8388607, -129)""",
    "full-text search": """
        CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('hello'), ('there')""",
    "autoincrement": """
        CREATE TABLE a(i INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO a(x) VALUES (1), (2)""",
    "generated columns": """
        CREATE TABLE g(a, v AS (a + 1), s AS (a + 2) STORED, k, PRIMARY KEY(k, a)) WITHOUT ROWID;
        INSERT INTO g(a, k) VALUES (1, 2), (3, 4)""",
}


@pytest.mark.parametrize("page_size", [512, 4096])
@pytest.mark.parametrize("vacuum", ["NONE", "INCREMENTAL"])
@pytest.mark.parametrize("kind", CHANGES)
def test_each_kind_of_change(tmp_path: Path, kind: str, vacuum: str, page_size: int) -> None:
    if kind == "full-text search" and not has_module("fts5"):
        pytest.skip("this SQLite was built without fts5")
    verified(tmp_path, SETUP, CHANGES[kind], page_size, f"auto_vacuum = {vacuum}")


def test_reserved_bytes(tmp_path: Path) -> None:
    # Software such as encryption owns the end of each page; only apsw can ask for it.
    apsw = pytest.importorskip("apsw")
    path = str(tmp_path / "models.db")
    program = f"""
import apsw, ctypes, shutil, os, sys
db = apsw.Connection({path!r})
size = ctypes.c_int(32)
db.file_control("main", {apsw.SQLITE_FCNTL_RESERVE_BYTES}, ctypes.addressof(size))
db.execute("PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0")
db.execute({SETUP!r}); db.execute("PRAGMA wal_checkpoint(TRUNCATE)"); db.execute({CHANGE!r})
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    live = copy_files(path, str(tmp_path / "live"))
    assert Path(path).read_bytes()[20] == 32
    report = analyse_loss(path, limit=ALL)
    check(report, contents(live, "mode=ro"), contents(path, "immutable=1"))
    assert report.lost == 5


def test_rows_whose_overflow_pages_alone_changed(tmp_path: Path) -> None:
    for vacuum in ("NONE", "FULL"):
        directory = tmp_path / vacuum
        directory.mkdir()

        def write(conn: sqlite3.Connection) -> None:
            with conn.blobopen("blobs", "data", 7) as blob:
                blob.seek(20_000)
                blob.write(b"changed in place")

        setup = (
            "CREATE TABLE blobs(data);"
            + NUMBERS.format(20)
            + "INSERT INTO blobs SELECT zeroblob(30000) FROM s"
        )
        report = verified(directory, setup, write, 1024, f"auto_vacuum = {vacuum}")
        assert [table.reverted.keys for table in report.tables] == [(7,)]


def test_names_and_keys_of_rows(tmp_path: Path) -> None:
    change = """
        INSERT INTO models(name) VALUES ('first'), ('se'||char(27)||'cond'), (NULL), (4), (x'41');
        UPDATE models SET name = 'renamed', notes = hex(zeroblob(20000)) WHERE id = 2;
        DELETE FROM models WHERE id = 3;
    """
    database = Database(tmp_path, SETUP, change)
    report = analyse_loss(database.path, names=("MODELS", "Name"))
    (table,) = report.tables
    assert table.lost.texts == ("first", "se\x1bcond", None, "4", None)
    assert table.lost.keys == (601, 602, 603, 604, 605)
    assert table.reverted.texts == ("renamed",)
    assert table.returning.texts == ("model 3",)
    few = analyse_loss(database.path, names=("models", "name"), limit=2).tables[0]
    assert (few.lost.count, few.lost.keys) == (5, (601, 602))
    assert few.lost.texts == ("first", "se\x1bcond")
    by_id = analyse_loss(database.path, names=("models", "id")).tables[0]
    assert by_id.lost.texts[:2] == ("601", "602")
    assert (
        analyse_loss(database.path, names=("models", "nothing")).tables[0].lost.texts == (None,) * 5
    )
    assert analyse_loss(database.path).tables[0].lost.texts == ()


def test_names_in_utf_16_and_behind_long_values(tmp_path: Path) -> None:
    setup = "CREATE TABLE models(big, name TEXT)"
    change = "INSERT INTO models VALUES (zeroblob(100000), 'fär'), (zeroblob(2000000), 'too far')"
    database = Database(tmp_path, setup, change, pragmas=("encoding = 'UTF-16be'",))
    (table,) = analyse_loss(database.path, names=("models", "name")).tables
    assert table.lost.texts == ("fär", None)


def test_each_page_has_the_owner_that_sqlite_names(tmp_path: Path) -> None:
    for page_size, vacuum in ((512, "FULL"), (1024, "NONE"), (4096, "INCREMENTAL")):
        directory = tmp_path / vacuum
        directory.mkdir()
        pragmas = (f"auto_vacuum = {vacuum}",)
        database = Database(
            directory, "", SETUP + CHANGE, page_size=page_size, pragmas=pragmas, truncate=False
        )
        report = analyse_loss(database.path)
        with closing(sqlite3.connect(f"file:{database.live_path}?mode=ro", uri=True)) as conn:
            owners = {number: (name, kind) for name, number, kind in dbstat(conn)}
            free = conn.execute("PRAGMA freelist_count").fetchone()[0]
        pages = sorted(set(report.scan.page_numbers))
        found: dict[int, tuple[str, str]] = {}
        lists: dict[PageRole, int] = {}
        for number in pages:
            owner = report.owner(number)
            assert owner is not None
            if owner.object is None:
                lists[owner.role] = lists.get(owner.role, 0) + 1
            else:
                role = owner.role.text.replace("interior", "internal")
                found[number] = (owner.object.name, role)
        assert found == {number: owners[number] for number in pages if number in owners}
        assert lists.get(PageRole.TRUNK, 0) + lists.get(PageRole.FREE, 0) <= free
        assert bool(lists.get(PageRole.POINTER_MAP)) == (vacuum != "NONE")
        assert report.unattributed == 0
        assert report.owner(10**6) is None
