"""What an application has after we came by, against a control run in which nobody did.

Each situation is made twice: once left alone, once with a database opened and closed beside it. The
application then commits three times more and crashes. What is on the disk must be no less.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from modelstore.database.checkpoint_modes import run_checkpoint
from modelstore.database.handle import Database
from modelstore.database.holders import HolderProblem
from modelstore.database.live_log import LiveLog
from modelstore.database.open import Purpose, open_database
from modelstore.errors import ExitCode, LockedError, ModelstoreError
from tests.database.situations import HARMFUL, INSERT, SETUP, LiveApp, Situation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")


def on_disk(path: Path) -> tuple[int, str]:
    """Return the rows and the state of the database, as the next program finds them."""
    if not path.exists():
        return -1, "missing"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        try:
            state = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            return db.execute("SELECT count(*) FROM t").fetchone()[0], state
        except sqlite3.Error as error:
            return -1, str(error)


def come_by(path: Path, purpose: Purpose) -> ExitCode:
    """Open and close a database as a command of this purpose does; return its exit code."""
    try:
        with open_database(str(path), purpose=purpose, timeout=0.2) as opened:
            if purpose is Purpose.FOLD:
                return run_checkpoint(opened, "truncate", 0.2).exit_code("checkpoint")
            with suppress(sqlite3.Error):
                opened.db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except ModelstoreError as error:
        return error.exit_code
    assert opened.checkpoint is not None
    return opened.checkpoint.exit_code("read")


def played(situation: Situation, directory: Path, purpose: Purpose | None) -> tuple[int, str, int]:
    """Return what is on the disk at the end, and the number of commits that succeeded."""
    directory.mkdir()
    app, path = situation.make(directory)
    with app:
        if purpose is not None:
            code = come_by(path, purpose)
            if purpose is not Purpose.READ:
                assert code in (ExitCode.FAILED, ExitCode.REFUSED)
        commits = sum(app.do(INSERT) for _ in range(3))
        app.end("crash")
    return *on_disk(path), commits


@pytest.mark.parametrize("situation", HARMFUL, ids=lambda situation: situation.name)
def test_an_application_has_no_row_less_than_without_us(
    situation: Situation, tmp_path: Path
) -> None:
    if not all(map(shutil.which, situation.needs)) or (situation.needs and os.geteuid()):
        pytest.skip("needs unshare, and root")
    rows, state, commits = played(situation, tmp_path / "control", None)
    for purpose in (Purpose.READ, Purpose.WRITE, Purpose.FOLD):
        after = played(situation, tmp_path / purpose.value, purpose)
        assert after[0] >= rows, (purpose, after)
        assert after[1] in ("ok", state), (purpose, after)
        assert after[2] == commits, (purpose, after)


def test_our_last_close_keeps_a_log_that_is_not_folded(tmp_path: Path) -> None:
    """Another process drops its locks between our look and our close: SQLite must not unlink."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        opened = open_database(str(path), purpose=Purpose.READ, timeout=0.2)
        names = (str(path), f"{path}-shm")
        app.do(f"py:[open(name).close() for name in {names!r}]")
        opened.close()
        assert Path(f"{path}-wal").stat().st_ino == log_of(app)
        assert app.do(INSERT)
        app.end("crash")
    assert on_disk(path) == (31, "ok")


@pytest.mark.parametrize("parameters", ["vfs=unix-none", "vfs=unix-dotfile", "nolock=1"])
@pytest.mark.parametrize("purpose", [Purpose.READ, Purpose.FOLD])
def test_transaction_that_begins_without_locks_is_not_rolled_back(
    tmp_path: Path, parameters: str, purpose: Purpose
) -> None:
    """An application in rollback mode writes half a transaction while we have its database open."""

    def begin(app: LiveApp, path: Path) -> None:
        assert app.do("BEGIN")
        assert app.do("UPDATE t SET x = hex(zeroblob(900))")
        assert os.path.getsize(f"{path}-journal")

    def begin_beside_us(app: LiveApp, path: Path) -> None:
        with open_database(str(path), purpose=purpose) as opened:
            begin(app, path)
            opened.db.execute("SELECT count(*) FROM t").fetchone()

    def play(name: str, *, is_beside: bool) -> tuple[int, str]:
        path = tmp_path / name / "app.db"
        path.parent.mkdir()
        with LiveApp.start(path, *SETUP[2:], "PRAGMA cache_size=1", parameters=parameters) as app:
            if is_beside:
                with pytest.raises(LockedError):
                    begin_beside_us(app, path)
                come_by(path, purpose)
            else:
                begin(app, path)
            assert app.do(INSERT)
            assert app.do("COMMIT")
            app.end("close")
        return on_disk(path)

    assert play("beside", is_beside=True) == play("control", is_beside=False) == (31, "ok")


def log_of(app: LiveApp) -> int:
    """Return the inode of the log that an application has open."""
    names = Path(f"/proc/{app.pid}/fd")
    (log,) = (name for name in names.iterdir() if os.readlink(name).endswith("-wal"))
    return log.stat().st_ino


def test_guard_is_one_more_reader_and_goes_with_a_complete_fold(tmp_path: Path) -> None:
    """Nobody waits for our lock, and a fold that is complete lets SQLite remove the log."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        with open_database(str(path), purpose=Purpose.READ, timeout=0.2):
            assert app.do(INSERT)
            assert app.do("PRAGMA wal_checkpoint(TRUNCATE)")
        app.end("close")
    with open_database(str(path), purpose=Purpose.READ):
        pass
    assert not Path(f"{path}-wal").exists()
    assert on_disk(path) == (31, "ok")


def test_log_that_a_reader_keeps_outlives_our_close(tmp_path: Path) -> None:
    """The reader ends just before we close: only our lock keeps SQLite from folding uncounted."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as writer:
        with LiveApp.start(path, "BEGIN", "SELECT count(*) FROM t") as reader:
            writer.do(INSERT)
            writer.end("crash")
            opened = open_database(str(path), purpose=Purpose.READ, timeout=0.0)
            result = opened.fold_now()
            assert result.left
            opened.may_fold = False
            reader.end("crash")
        opened.close()
    assert os.path.getsize(f"{path}-wal")
    assert on_disk(path) == (31, "ok")


def test_our_last_close_keeps_a_log_whose_user_loses_its_locks_at_that_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our very last look and SQLite's own, the application opens and closes its files."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        close = Database.close

        def close_late(db: Database) -> None:
            if db is opened.db:
                names = (str(path), f"{path}-shm")
                assert app.do(f"py:[open(name).close() for name in {names!r}]")
            close(db)

        opened = open_database(str(path), purpose=Purpose.READ, timeout=0.2)
        monkeypatch.setattr(Database, "close", close_late)
        assert opened.close().complete
        assert Path(f"{path}-wal").stat().st_ino == log_of(app)
        assert app.do(INSERT)
        app.end("crash")
    assert on_disk(path) == (31, "ok")


def test_fold_is_doubted_when_its_log_is_deleted_right_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:

        def sync_and_delete(log: LiveLog) -> None:
            sync(log)
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)

        sync = LiveLog.sync_database
        monkeypatch.setattr(LiveLog, "sync_database", sync_and_delete)
        with open_database(str(path), purpose=Purpose.FOLD) as opened:
            result = run_checkpoint(opened, "truncate", 0.2)
        assert not result.in_main_file
        assert HolderProblem.OTHER_LOG in result.forbidden
        assert result.exit_code("checkpoint") is ExitCode.FAILED
        app.end("crash")
