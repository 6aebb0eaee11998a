from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.database.handle import Database
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.errors import DamageError, ExitCode, RefusedError
from tests.database.outside import (
    CRASH_WITH_PAGE_1,
    IS_ROOT,
    NOBODY,
    contents,
    crashed,
    flip,
    reader,
    rows_in_main_alone,
    run,
    run_as_nobody,
)
from tests.database.situations import INSERT, LiveApp
from tests.database.test_connection import count, descriptors_below, insert

root_only = pytest.mark.skipif(not IS_ROOT, reason="only root can act as another user")


def test_a_new_database_is_in_wal_mode_with_the_tuned_pragmas(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "models.db"
    with open_database(str(path), purpose=Purpose.CREATE, timeout=5.0) as opened:
        values = {
            name: opened.conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                *("journal_mode", "busy_timeout", "synchronous", "cache_size", "temp_store"),
                *("foreign_keys", "wal_autocheckpoint"),
            )
        }
    assert values == {
        "journal_mode": "wal",
        "busy_timeout": 5000,
        "synchronous": 1,
        "cache_size": -64000,
        "temp_store": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
    }
    assert opened.journal_mode == "wal"
    assert opened.warnings == []


@pytest.mark.parametrize("purpose", [Purpose.READ, Purpose.WRITE])
def test_only_create_makes_a_file(tmp_path: Path, purpose: Purpose) -> None:
    with pytest.raises(RefusedError, match="does not exist"):
        open_database(str(tmp_path / "typo.db"), purpose=purpose)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a b?mode=memory.db", "x#y%41%.db", "näme;'\".db", "bytes\udcff\udcfe.db", "a&b=c.db"]
)
def test_any_path_is_opened_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with open_database(str(path), purpose=Purpose.CREATE) as opened:
        opened.db.table("t").create({"v": str})
        assert {os.fsencode(n) for n in os.listdir(tmp_path)} == {
            os.fsencode(name + suffix) for suffix in ("", "-wal", "-shm")
        }
    assert [os.fsencode(n) for n in os.listdir(tmp_path)] == [os.fsencode(name)]


@pytest.mark.parametrize("purpose", list(Purpose))
def test_another_program_keeps_its_journal_mode(tmp_path: Path, purpose: Purpose) -> None:
    path = tmp_path / "app.db"
    run("c = connect(); c.execute('create table t (v)')", path)
    before = contents(path)
    with open_database(str(path), purpose=purpose) as opened:
        assert opened.journal_mode == "delete"
        assert count(opened) == 0
    assert contents(path) == before
    assert opened.checkpoint is not None
    assert opened.checkpoint.mode == "none"
    assert opened.checkpoint.in_main_file
    assert "journal mode delete" in (opened.checkpoint.reason or "")


@pytest.mark.parametrize(("own", "mode"), [(True, "wal"), (False, "delete")])
def test_only_a_database_of_the_callers_own_is_put_into_wal_mode(
    tmp_path: Path, own: bool, mode: str
) -> None:
    path = tmp_path / "app.db"
    run("c = connect(); c.execute('create table t (v)')", path)
    asked = []

    def check(db: Database, asked_path: str) -> bool:
        asked.append((tuple(db.table_names()), asked_path))
        return own

    with open_database(str(path), purpose=Purpose.READ, check=check) as opened:
        assert opened.journal_mode == mode
    assert set(asked) == {(("t",), str(path))}


@pytest.mark.parametrize("purpose", list(Purpose))
def test_what_the_callers_check_refuses_is_not_opened(tmp_path: Path, purpose: Purpose) -> None:
    path = crashed(tmp_path / "app.db")

    def refuse(_db: Database, _path: str) -> bool:
        raise RefusedError("not this one")

    with pytest.raises(RefusedError, match="not this one"):
        open_database(str(path), purpose=purpose, check=refuse)
    assert descriptors_below(tmp_path) == []


def test_reading_folds_what_others_left(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    assert rows_in_main_alone(path) == 0
    with open_database(str(path), purpose=Purpose.READ) as opened:
        assert count(opened) == 5
    assert opened.checkpoint is not None
    assert opened.checkpoint.exit_code("read") is ExitCode.OK
    assert rows_in_main_alone(path) == 5
    assert os.listdir(tmp_path) == ["app.db"]


def test_without_the_fold_database_and_log_keep_every_byte(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    before = contents(path)
    with open_database(str(path), purpose=Purpose.READ, fold=False) as opened:
        assert opened.access == "copy"
        assert count(opened) == 5
    assert contents(path) == before
    result = opened.checkpoint
    assert result is not None
    assert (result.log, result.checkpointed, result.left) == (5, 0, 5)
    assert result.reason == "nothing was folded, as asked"


def test_a_damaged_log_is_read_from_a_copy_and_never_folded(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=30)
    flip(path, 6)
    before = contents(path)
    with open_database(str(path), purpose=Purpose.READ) as opened:
        assert opened.access == "copy"
        assert count(opened) == 5
        copies = opened.conn.execute("PRAGMA database_list").fetchone()[2]
        copy = open(copies, "rb")  # it outlives the copy's name
        assert os.stat(os.path.dirname(copies)).st_mode & 0o777 == 0o700
        assert os.stat(copies).st_mode & 0o777 == 0o600
        with pytest.raises(sqlite3.OperationalError):
            opened.conn.execute("DELETE FROM t")
    with copy:
        assert copy.read() == before["app.db"], "the log of the copy was folded"
    assert contents(path) == before
    assert not os.path.exists(copies)
    assert "frame 6 of the log is damaged" in opened.warnings[0]
    assert "24 commits after it" in opened.warnings[0]
    assert opened.checkpoint is not None
    assert not opened.checkpoint.in_main_file


@pytest.mark.parametrize("purpose", [Purpose.WRITE, Purpose.CREATE])
def test_a_damaged_log_is_not_written_over(tmp_path: Path, purpose: Purpose) -> None:
    path = crashed(tmp_path / "app.db", rows=30)
    flip(path, 6)
    before = contents(path)
    with pytest.raises(RefusedError) as caught:
        open_database(str(path), purpose=purpose)
    assert contents(path) == before
    assert caught.value.exit_code is ExitCode.REFUSED
    assert f"`modelstore recover {path}`" in (caught.value.hint or "")
    assert "--discard-damaged" in (caught.value.hint or "")


def test_a_foreign_log_is_not_replayed(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3)
    run("c = connect(); c.execute('create table x (v)')", path)
    run(CRASH_WITH_PAGE_1, path)
    log = Path(f"{path}-wal").read_bytes()
    run("c = connect(); [c.execute(f'create table n{i} (v)') for i in range(9)]", path)
    Path(f"{path}-wal").write_bytes(log)
    before = contents(path)
    with pytest.raises(RefusedError, match="does not belong"):
        open_database(str(path), purpose=Purpose.WRITE)
    with open_database(str(path), purpose=Purpose.READ) as opened:
        assert opened.access == "immutable"
        assert opened.conn.execute("SELECT count(*) FROM n8").fetchone() == (0,)
    assert "does not belong" in opened.warnings[0]
    assert contents(path) == before


def test_a_damaged_database_is_said_to_be(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3)
    Path(f"{path}-wal").unlink()
    raw = bytearray(path.read_bytes())
    raw[100:200] = b"\xff" * 100  # the root page of the schema
    path.write_bytes(raw)
    with pytest.raises(DamageError) as caught:
        open_database(str(path), purpose=Purpose.READ)
    assert caught.value.exit_code is ExitCode.FAILED


def test_damage_that_is_met_while_reading_is_said_to_be(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3000)
    fold = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM')"
    subprocess.run([sys.executable, "-c", fold, path], check=True)
    raw = bytearray(path.read_bytes())
    raw[8192:] = b"\xff" * (len(raw) - 8192)
    path.write_bytes(raw)
    with (
        pytest.raises(DamageError, match="is damaged"),
        open_database(str(path), purpose=Purpose.READ) as opened,
    ):
        opened.conn.execute("SELECT sum(length(v)) FROM t").fetchone()


# -- what the files allow ------------------------------------------------------------------------

READ_AS_NOBODY = """
try:
    with open_database(path, purpose=Purpose.READ) as opened:
        rows = opened.conn.execute('select count(*) from t').fetchone()[0]
    say(opened.access, rows, opened.warnings, opened.checkpoint.reason, opened.checkpoint.left)
except ModelstoreError as error:
    say(int(error.exit_code), error.message, error.hint)
"""
WRITE_AS_NOBODY = READ_AS_NOBODY.replace("Purpose.READ", "Purpose.WRITE")


def folded(path: Path) -> Path:
    """Leave a WAL database with everything in its main file and no log."""
    crashed(path)
    run("c = connect(); c.execute('select count(*) from t').fetchone()", path)
    assert not os.path.exists(f"{path}-wal")
    return path


def closed_to_others(path: Path, *, directory: int = 0o555, files: int = 0o444) -> None:
    for name in os.listdir(path.parent):
        os.chmod(path.parent / name, files)
    os.chmod(path.parent, directory)


def test_a_log_without_index_in_a_read_only_directory_is_read_from_a_copy(open_dir: Path) -> None:
    path = crashed(open_dir / "app.db")
    os.unlink(f"{path}-shm")
    closed_to_others(path)
    before = contents(path)
    ((access, rows, warnings, reason, left),) = run_as_nobody(READ_AS_NOBODY, path)
    assert (access, rows, left) == ("copy", 5, 5)
    assert "private copy" in warnings[0]
    assert "a copy was read" in reason
    assert contents(path) == before


def test_a_clean_database_in_a_read_only_directory_is_read_as_it_is(open_dir: Path) -> None:
    path = folded(open_dir / "app.db")
    closed_to_others(path)
    ((access, rows, _, reason, left),) = run_as_nobody(READ_AS_NOBODY, path)
    assert (access, rows, left) == ("immutable", 5, 0)
    assert "read-only" in reason


def test_files_that_are_all_read_only_are_read_and_not_folded(open_dir: Path) -> None:
    path = crashed(open_dir / "app.db")
    with reader(path):
        closed_to_others(path)
        ((access, rows, _, reason, left),) = run_as_nobody(READ_AS_NOBODY, path)
    assert (access, rows, left) == ("ro", 5, 5)
    assert "read-only" in reason


def test_reading_anothers_database_leaves_no_files_of_ours(open_dir: Path) -> None:
    path = folded(open_dir / "app.db")
    os.chmod(open_dir, 0o777)  # we could make a -wal here, and its owner could not write to it
    os.chmod(path, 0o644)
    if not IS_ROOT:
        os.chmod(path, 0o444)
    ((access, rows, *_),) = run_as_nobody(READ_AS_NOBODY, path)
    assert (access, rows) == ("immutable", 5)
    assert os.listdir(open_dir) == ["app.db"]


def test_a_log_beside_a_database_in_rollback_mode_gets_no_index(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    log = Path(f"{path}-wal").read_bytes()[: 32 + 24 + 4096]  # one frame, and no commit
    Path(f"{path}-shm").unlink(missing_ok=True)
    run("c = connect(); c.execute('pragma journal_mode = delete')", path)
    Path(f"{path}-wal").write_bytes(log)
    before = contents(path)
    with open_database(str(path), purpose=Purpose.READ, fold=False) as opened:
        assert count(opened) == 5
    assert contents(path) == before


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_cannot_be_written_is_named(open_dir: Path, suffix: str) -> None:
    path = crashed(open_dir / "app.db")
    closed_to_others(path, directory=0o777, files=0o666)
    os.chmod(f"{path}{suffix}", 0o444)
    before = contents(path)
    ((exit_code, message, hint),) = run_as_nobody(WRITE_AS_NOBODY, path)
    assert exit_code == ExitCode.REFUSED
    assert message.startswith(f"{path}{suffix} cannot be written")
    assert hint
    ((_, rows, *_),) = run_as_nobody(READ_AS_NOBODY, path)
    assert rows == 5
    after = contents(path)
    assert after["app.db"] == before["app.db"]
    assert after["app.db-wal"] == before["app.db-wal"]


def test_a_directory_that_cannot_be_written_is_named(open_dir: Path) -> None:
    path = folded(open_dir / "app.db")
    closed_to_others(path, files=0o666)
    ((exit_code, message, _),) = run_as_nobody(WRITE_AS_NOBODY, path)
    assert exit_code == ExitCode.REFUSED
    assert message.startswith(f"{open_dir} cannot be written")


def test_a_database_that_cannot_be_created_is_named(open_dir: Path) -> None:
    code = WRITE_AS_NOBODY.replace("Purpose.WRITE", "Purpose.CREATE")
    os.chmod(open_dir, 0o555)
    ((exit_code, message, _),) = run_as_nobody(code, open_dir / "deep" / "new.db")
    assert exit_code == ExitCode.REFUSED
    assert "cannot be created" in message


@root_only
def test_root_leaves_log_and_index_to_the_owner_of_the_database(open_dir: Path) -> None:
    path = folded(open_dir / "app.db")
    os.chown(open_dir, NOBODY, NOBODY)
    os.chown(path, NOBODY, NOBODY)
    os.chmod(path, 0o640)
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        insert(opened)
        for suffix in ("-wal", "-shm"):
            status = os.stat(f"{path}{suffix}")
            assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
            assert status.st_mode & 0o777 == 0o640
    ((access, rows, *_),) = run_as_nobody(READ_AS_NOBODY, path)
    assert (access, rows) == ("rw", 6)


@root_only
def test_a_read_only_file_system_is_read(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    target = tmp_path / "mount"
    target.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", target], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        shutil.copy(path, target)
        shutil.copy(f"{path}-wal", target)
        subprocess.run(["mount", "-o", "remount,ro", target], check=True)
        inside = target / "app.db"
        with open_database(str(inside), purpose=Purpose.READ) as opened:
            assert (opened.access, count(opened)) == ("copy", 5)
        with pytest.raises(RefusedError, match="cannot be written"):
            open_database(str(inside), purpose=Purpose.WRITE)
    finally:
        subprocess.run(["umount", target], check=True)


def test_a_copy_that_fails_is_told_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int, path: str) -> None:
        Path(path).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = crashed(tmp_path / "app.db", rows=30)
    flip(path, 6)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("modelstore.database.files.copy_to", fail)
    with pytest.raises(RefusedError, match=os.strerror(errno.ENOSPC)) as caught:
        open_database(str(path), purpose=Purpose.READ)
    assert caught.value.hint
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_writer_refuses_if_the_log_went_since_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        opened = open_database(str(path), purpose=Purpose.WRITE)
        try:
            os.remove(f"{path}-wal")
            with pytest.raises(RefusedError, match=str(app.pid)), opened.write() as db:
                db.execute(INSERT)
            assert not os.path.exists(f"{path}-wal")
        finally:
            opened.close()
        assert app.do(INSERT)
        app.end("crash")
