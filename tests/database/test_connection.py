from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from modelstore.database.connection import OpenDatabase
from modelstore.database.handle import connect
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_damage, primary_code
from modelstore.errors import DamageError, ExitCode, LockedError, RefusedError
from tests.database.outside import (
    child,
    crashed,
    rows_in_main_alone,
    run,
)


def insert(opened: OpenDatabase, value: str = "new") -> None:
    with opened.write() as db:
        db.execute("INSERT INTO t (v) VALUES (?)", (value,))


def count(opened: OpenDatabase) -> int:
    return int(opened.conn.execute("SELECT count(*) FROM t").fetchone()[0])


HOLD_WRITE_LOCK = """
conn = connect()
conn.execute('begin immediate')
say('locked')
hear()
"""


def descriptors_below(directory: Path) -> list[str]:
    """The files below a directory that this process has open, where the system tells."""
    names = []
    if os.path.isdir("/proc/self/fd"):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                names.append(os.readlink(f"/proc/self/fd/{name}"))
    return [name for name in names if name.startswith(str(directory))]


def test_patience_that_ends_names_the_writer(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with (
        child(HOLD_WRITE_LOCK, path) as other,
        open_database(str(path), purpose=Purpose.WRITE, timeout=0.3) as opened,
    ):
        other.hear()
        with pytest.raises(LockedError) as caught:
            insert(opened)
        assert caught.value.exit_code is ExitCode.LOCKED
        assert f"pid {other.pid}" in caught.value.message
        assert count(opened) == 5


def delete_and_raise(opened: OpenDatabase, error: BaseException) -> None:
    with opened.write() as db:
        db.execute("DELETE FROM t")
        raise error


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        with pytest.raises(ZeroDivisionError):
            delete_and_raise(opened, ZeroDivisionError())
        assert count(opened) == 5
        assert not opened.has_written
        insert(opened)
        assert opened.lock_seconds > 0
    assert rows_in_main_alone(path) == 6


def test_the_fault_of_a_statement_stays_what_it_is(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with (
        open_database(str(path), purpose=Purpose.WRITE) as opened,
        pytest.raises(sqlite3.IntegrityError),
        opened.write() as db,
    ):
        db.execute("INSERT INTO t (id, v) VALUES (1, 'again')")


def test_a_commit_that_was_rolled_back_is_not_tried_again(tmp_path: Path) -> None:
    class RolledBack:
        in_transaction = False
        commits = 0

        def execute(self, statement: str) -> None:
            if statement == "COMMIT":
                self.commits += 1
                error = sqlite3.OperationalError("locking protocol")
                error.sqlite_errorcode = 15
                raise error

    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        real, fake = opened.db.conn, RolledBack()
        opened.db.conn = fake  # type: ignore[assignment]
        with pytest.raises(sqlite3.OperationalError) as caught:
            opened._commit()
        opened.db.conn = real
    assert primary_code(caught.value) == 15
    assert fake.commits == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_body_what_was_committed_is_folded(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE)
    with pytest.raises(error):
        insert_and_raise(opened, error())
    assert rows_in_main_alone(path) == 6
    assert opened.checkpoint is not None
    assert opened.checkpoint.in_main_file


def insert_and_raise(opened: OpenDatabase, error: BaseException) -> None:
    with opened:
        insert(opened)
        opened.conn.execute("BEGIN IMMEDIATE")
        opened.conn.execute("DELETE FROM t")
        raise error


def test_an_open_cursor_does_not_keep_the_log_from_being_folded(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=50)
    opened = open_database(str(path), purpose=Purpose.READ)
    cursor = opened.conn.execute("SELECT * FROM t")
    assert cursor.fetchone()
    result = opened.close()
    assert result.reason is None
    assert result.left == 0
    assert rows_in_main_alone(path) == 50


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.READ)
    assert opened.close() is opened.close()


def test_opening_again_in_this_process_drops_no_lock(tmp_path: Path) -> None:
    """Else another program's close deletes the log that we go on writing to."""
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        insert(opened)
        with open_database(str(path), purpose=Purpose.READ, fold=False) as second:
            assert count(second) == 6
        with pytest.raises(RefusedError):
            open_database(f"{path}-wal", purpose=Purpose.READ)
        run("c = connect(); c.execute('select count(*) from t').fetchone(); c.close()", path)
        assert os.path.exists(f"{path}-wal")
        insert(opened)
    assert rows_in_main_alone(path) == 7


def test_descriptors_are_closed_in_the_end(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.READ):
        if os.path.isdir("/proc/self/fd"):
            assert descriptors_below(tmp_path)
    assert descriptors_below(tmp_path) == []


def test_ctrl_c_in_the_last_look_closes_everything_and_keeps_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.READ)

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(OpenDatabase, "_may_delete_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened.close()
    assert descriptors_below(tmp_path) == []
    assert os.path.exists(f"{path}-wal")


def test_message_that_is_no_utf8_is_damage(tmp_path: Path) -> None:
    """Python cannot decode SQLite's message, which quotes the name; its own error has no code."""
    path = str(tmp_path / "app.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_schema SET name = CAST(x'73A8' AS TEXT), sql = 'CREATE VIEW'")
    with contextlib.closing(connect(path, "ro")) as db, pytest.raises(sqlite3.Error) as caught:
        db.query("SELECT * FROM t").__next__()
    assert is_damage(caught.value)
    with pytest.raises(DamageError) as told, open_database(path, purpose=Purpose.READ):
        pass
    assert "s\\xa8" in told.value.message
