"""Damage that only SQLite's integrity_check sees, in the main file and in database and log."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.database import trial
from modelstore.database.checkpoint_modes import run_checkpoint
from modelstore.database.evidence import MALFORMED, FoldForbiddenError, codes
from modelstore.database.open import Purpose, open_database
from modelstore.database.probe import probe
from modelstore.errors import ExitCode
from tests.database.outside import contents, rows_in_main_alone, run
from tests.database.situations import LiveApp

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")

CRASH = """
conn = connect()
conn.execute('pragma synchronous = off')
conn.execute('pragma journal_mode = wal')
conn.execute('create table t (id integer primary key, v text check (v > 0))')
conn.execute('create index i on t (v)')
conn.execute('create table u (w)')
conn.execute("insert into t (v) values ('needle'), ('7')")
conn.execute('pragma wal_checkpoint(truncate)')
conn.execute('pragma ignore_check_constraints = on')
conn.execute(sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


def crashed_beside_damage(path: Path, statement: str) -> Path:
    """Leave a log of one commit beside a main file whose index misses a row of its table."""
    run(CRASH, path, statement)
    os.unlink(f"{path}-shm")
    path.write_bytes(path.read_bytes().replace(b"needle", b"noodle", 1))
    return path


CUT = """
conn = connect()
conn.execute('pragma page_size = 1024')
conn.execute('pragma synchronous = off')
conn.execute('pragma journal_mode = wal')
conn.execute('create table u (w)')
conn.execute('create table t (id integer primary key, v text)')
conn.execute('create index i on t (length(v))')
conn.execute('insert into t (v) values (?)', ('x' * 3000,))
conn.execute(sys.argv[2])
conn.execute('pragma wal_checkpoint(truncate)')
conn.execute(sys.argv[3])
os.kill(os.getpid(), signal.SIGKILL)
"""
DELETE, INSERT = "delete from t", "insert into u values (1)"
FILL = "insert into t (v) values (zeroblob(200000))"
REWRITE = "update t set v = replace(v, 'x', 'y')"


def crashed_and_cut(path: Path, cut: int, folded: str = "select 1", pending: str = INSERT) -> Path:
    """Leave a log of one commit beside a main file that was cut; its last page is an overflow one,
    or free if `folded` is DELETE."""
    run(CUT, path, folded, pending)
    os.unlink(f"{path}-shm")
    assert path.stat().st_size % 1024 == 0
    os.truncate(path, path.stat().st_size - cut)
    return path


def fold(path: Path) -> ExitCode:
    with open_database(str(path), purpose=Purpose.FOLD) as opened:
        return run_checkpoint(opened, "truncate", 0.2).exit_code("checkpoint")


def test_damage_that_the_log_does_not_mend_is_not_folded(tmp_path: Path) -> None:
    path = crashed_beside_damage(tmp_path / "app.db", "insert into u values (1)")
    before = contents(path)
    assert codes(probe(str(path)).reasons) == {MALFORMED}
    with pytest.raises(FoldForbiddenError) as caught:
        fold(path)
    assert caught.value.exit_code is ExitCode.FAILED
    assert "recover" in (caught.value.hint or "")
    with open_database(str(path), purpose=Purpose.READ) as opened:
        assert opened.db["u"].count == 1  # read from a copy
    assert contents(path) == before


@pytest.mark.parametrize("cut", [1, 500, 1024])
def test_overflow_page_that_is_cut_is_not_folded(tmp_path: Path, cut: int) -> None:
    path = crashed_and_cut(tmp_path / "app.db", cut)
    before = contents(path)
    with pytest.raises(FoldForbiddenError) as caught:
        fold(path)
    assert codes(caught.value.reasons) == {MALFORMED}
    assert contents(path) == before


@pytest.mark.parametrize(
    ("cut", "folded", "pending", "rows"),
    [
        (500, "select 1", REWRITE, 1),  # as a power cut during a checkpoint leaves it
        (1024, "select 1", REWRITE, 1),
        (500, DELETE, INSERT, 0),  # nobody reads a page that is free
        (1024, DELETE, INSERT, 0),
        (-500, "select 1", INSERT, 1),  # bytes behind the last page
    ],
)
def test_page_that_is_cut_and_not_needed_is_folded(
    tmp_path: Path, cut: int, folded: str, pending: str, rows: int
) -> None:
    path = crashed_and_cut(tmp_path / "app.db", cut, folded, pending)
    assert fold(path) is ExitCode.OK
    assert path.stat().st_size % 1024 == 0
    assert rows_in_main_alone(path) == rows


def test_log_is_not_folded_into_a_file_that_sqlite_finds_too_short(tmp_path: Path) -> None:
    """What is cut off is free, so both together are sound; but SQLite refuses to fold them."""
    path = crashed_and_cut(tmp_path / "app.db", 150_528, FILL, DELETE)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{tmp_path / 'copy.db'}{suffix}")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    before = contents(path)
    with pytest.raises(FoldForbiddenError) as caught:
        fold(path)
    assert codes(caught.value.reasons) == {MALFORMED}
    assert contents(path) == before


def test_damage_that_the_log_mends_is_folded(tmp_path: Path) -> None:
    """As a checkpoint that was killed halfway leaves it."""
    path = crashed_beside_damage(tmp_path / "app.db", "update t set v = v || '7' where id = 1")
    assert not isinstance(rows_in_main_alone(path), int)
    assert not probe(str(path)).reasons
    assert fold(path) is ExitCode.OK
    assert rows_in_main_alone(path) == 2


def test_row_that_breaks_a_check_is_no_damage(tmp_path: Path) -> None:
    run(CRASH, tmp_path / "app.db", "insert into t (v) values (-5)")
    assert fold(tmp_path / "app.db") is ExitCode.OK


@linux
def test_damage_beside_a_live_application_is_not_folded(tmp_path: Path) -> None:
    path = crashed_beside_damage(tmp_path / "app.db", "insert into u values (1)")
    with LiveApp.start(path, "INSERT INTO u VALUES (2)"):
        main = path.read_bytes()
        with pytest.raises(FoldForbiddenError) as caught:
            fold(path)
        assert codes(caught.value.reasons) == {MALFORMED}
        assert path.read_bytes() == main


@linux
@pytest.mark.parametrize("cut", [500, 1024])
def test_overflow_page_that_is_cut_beside_a_live_application_is_not_folded(
    tmp_path: Path, cut: int
) -> None:
    path = crashed_and_cut(tmp_path / "app.db", cut)
    with LiveApp.start(path, "INSERT INTO u VALUES (2)"):
        before = path.read_bytes()
        with pytest.raises(FoldForbiddenError) as caught:
            fold(path)
        assert codes(caught.value.reasons) == {MALFORMED}
        assert path.read_bytes() == before


@linux
def test_sound_database_of_a_live_application_is_folded(tmp_path: Path) -> None:
    path = crashed_beside_damage(tmp_path / "app.db", "update t set v = v || '7' where id = 1")
    with LiveApp.start(path, "INSERT INTO u VALUES (2)"):
        assert fold(path) is ExitCode.OK
    assert rows_in_main_alone(path) == 2


def test_check_that_takes_too_long_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed_beside_damage(tmp_path / "app.db", "insert into u values (1)")
    monkeypatch.setattr(trial, "_STEPS", 1)
    monkeypatch.setattr(trial, "_MOST_TIME", -1)
    assert codes(probe(str(path)).reasons) == set()
