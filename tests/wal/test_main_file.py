"""Of which commit the main file is the state: against SQLite's own checkpoints, whole and cut."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from modelstore.wal.loss import analyse_loss
from modelstore.wal.loss_report import LossReport
from modelstore.wal.main_file import MainState
from modelstore.wal.scan import scan_wal
from tests.wal.children import holding_index
from tests.wal.loss_build import NUMBERS, Database, connect
from tests.wal.loss_oracle import check, contents, copy_files

ALL = 1_000_000
SETUP = (
    "CREATE TABLE models(id INTEGER PRIMARY KEY, name TEXT, notes);"
    "CREATE INDEX by_name ON models(name);"
    + NUMBERS.format(300)
    + "INSERT INTO models SELECT i, 'model '||i, hex(randomblob(100)) FROM s;"
)
COMMITS = tuple(
    f"UPDATE models SET notes = hex(randomblob(90)) WHERE id % 40 = {n};"
    f"INSERT INTO models SELECT id + {1000 * n}, name||'+{n}', notes FROM models WHERE id < 9;"
    for n in range(1, 9)
)


def in_transactions(statements: tuple[str, ...]) -> str:
    return "".join(f"BEGIN; {statement} COMMIT;" for statement in statements)


def backfill(database: Database, count: int) -> None:
    """Copy the first pages of the log into the main file, as a killed checkpoint leaves it."""
    found = scan_wal(database.path + "-wal")
    with open(database.path, "r+b") as main, open(database.path + "-wal", "rb") as log:
        for number, frame in sorted(found.latest().items())[:count]:
            log.seek(found.offset(frame))
            main.seek((number - 1) * found.page_size)
            main.write(log.read(found.page_size))
    database.share_main()


@pytest.mark.parametrize("page_size", [512, 4096])
def test_a_checkpoint_killed_at_every_page(tmp_path: Path, page_size: int) -> None:
    database = Database(tmp_path, SETUP, in_transactions(COMMITS), page_size=page_size)
    whole = Path(database.path).read_bytes()
    pages = len(scan_wal(database.path + "-wal").latest())
    malformed = 0
    for count in range(0, pages + 1, max(1, pages // 25)):
        Path(database.path).write_bytes(whole)
        backfill(database, count)
        report = analyse_loss(database.path, limit=ALL)
        main = contents(database.path, "immutable=1")
        check(report, contents(database.live_path, "mode=ro"), main)
        assert report.main.held_pages == count
        state = MainState.CONSISTENT if count in (0, pages) else MainState.MIXED
        assert report.main.state is state
        assert not report.main.is_proven
        malformed += not main.is_sound
        shutil.copy(database.path + "-wal", database.live_path + "-wal")
    assert malformed > pages // max(1, pages // 25) // 2  # else the test proves little


def look(reader: sqlite3.Connection) -> None:
    """Begin to read anew, at the newest commit."""
    if reader.in_transaction:
        reader.execute("COMMIT")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM models").fetchall()


def test_checkpoints_between_commits(tmp_path: Path) -> None:
    # A reader keeps the log from starting anew, so that each checkpoint leaves a commit number.
    path = str(tmp_path / "models.db")
    with closing(connect(path)) as conn, closing(sqlite3.connect(path)) as reader:
        conn.executescript(SETUP)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        folded = 0
        for commits, commit in enumerate(COMMITS, 1):
            conn.executescript(f"BEGIN; {commit} COMMIT;")
            if commits % 3 == 2:
                look(reader)
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                folded = commits
            for shm in (True, False):
                copy = copy_files(path, str(tmp_path / f"{commits}{shm}"), shm=shm)
                live = copy_files(path, str(tmp_path / f"{commits}{shm}live"))
                with holding_index(copy) if shm else nullcontext():
                    report = analyse_loss(copy, limit=ALL)
                assert report.scan.commit_count == commits
                assert (report.main.state, report.main.commit) == (MainState.CONSISTENT, folded)
                assert report.main.is_proven == shm
                check(report, contents(live, "mode=ro"), contents(copy, "immutable=1"))
    assert folded == 8


def test_a_checkpoint_that_a_reader_held_up_leaves_no_state_of_its_own(tmp_path: Path) -> None:
    # Pages that have newer versions beyond the reader's mark are left out, so that the main file
    # is no state that ever was, although nBackfill is a commit and nothing went wrong.
    path = str(tmp_path / "models.db")
    states = []
    with closing(connect(path, 512)) as conn, closing(sqlite3.connect(path)) as reader:
        conn.executescript(SETUP)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for commits, commit in enumerate(COMMITS, 1):
            copy = copy_files(path, str(tmp_path / f"{commits}"))
            states.append(contents(copy, "mode=ro").tables)
            conn.executescript(f"BEGIN; {commit} COMMIT;")
            if commits == 4:
                look(reader)
        busy, log, folded = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        assert (busy, 0 < folded < log) == (0, True)
        copy = copy_files(path, str(tmp_path / "copy"), shm=True)
        live = copy_files(path, str(tmp_path / "live"))
    with holding_index(copy):
        report = analyse_loss(copy, limit=ALL)
    assert report.index is not None
    assert report.index.backfill == folded
    main = contents(copy, "immutable=1")
    assert main.tables not in states
    assert (report.main.state, report.main.commit) == (MainState.MIXED, None)
    check(report, contents(live, "mode=ro"), main)


def test_what_a_proven_checkpoint_lacks_is_torn(tmp_path: Path) -> None:
    change = in_transactions(COMMITS) + "PRAGMA wal_checkpoint(PASSIVE);"
    database = Database(tmp_path, SETUP, change, shm=True)
    assert analyse_loss(database.path).main.state is MainState.CONSISTENT
    with open(database.path, "r+b") as file:
        file.seek(3 * 4096 + 2000)
        file.write(b"half of a page that never reached the disk")
    with holding_index(database.path):
        report = analyse_loss(database.path)
    assert (report.main.state, report.main.is_proven) == (MainState.TORN, True)
    assert not report.is_same


def test_pages_written_as_they_were_do_not_look_like_a_cut_checkpoint(tmp_path: Path) -> None:
    # Overflow pages of an updated row are written with the content that they had; SQLite 3.54
    # writes fewer of them.
    setup = "CREATE TABLE models(id INTEGER PRIMARY KEY, n, notes);" + NUMBERS.format(30)
    setup += "INSERT INTO models SELECT i, 1, zeroblob(20000) FROM s"
    change = "UPDATE models SET n = 2 WHERE id = 7; UPDATE models SET n = 3 WHERE id = 9"
    report = analyse_loss(Database(tmp_path, setup, change).path)
    assert report.main.held_pages > 0
    assert (report.main.state, report.main.commit) == (MainState.CONSISTENT, 0)


@pytest.mark.parametrize("shm", [True, False])
def test_commits_that_shrink_and_grow_the_database(tmp_path: Path, *, shm: bool) -> None:
    change = (
        "DELETE FROM models WHERE id > 20; VACUUM;"
        + NUMBERS.format(500)
        + "INSERT INTO models SELECT i + 5000, i, hex(randomblob(100)) FROM s;"
        "PRAGMA wal_checkpoint(PASSIVE); DELETE FROM models WHERE id > 5020; VACUUM;"
    )
    database = Database(tmp_path, SETUP, change, shm=shm, page_size=512)
    report: LossReport = analyse_loss(database.path, limit=ALL)
    check(report, contents(database.live_path, "mode=ro"), contents(database.path, "immutable=1"))
    assert report.main.state is MainState.CONSISTENT
