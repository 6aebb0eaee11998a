from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from modelstore.database import fold
from modelstore.database.checkpoint import Checkpoint
from modelstore.database.connection import OpenDatabase
from modelstore.database.live_log import LOG_DELETED, LOG_EMPTIED
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import HAS_WAL_RESET_BUG
from modelstore.errors import ExitCode, RefusedError
from tests.database.outside import (
    IMPATIENT_WRITER,
    IS_ROOT,
    LOCK_HOLDER,
    REPOSITORY,
    STRANGER_WITHOUT_PATIENCE,
    Child,
    child,
    crashed,
    frames_in_log,
    reader,
    rows_in_main_alone,
    run,
)
from tests.database.test_connection import insert

CHECKPOINT_LOCK, RECOVER_LOCK = 121, 122


def at_each_pause(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, act: Callable[[], object]
) -> None:
    """Act each time that a fold of ours has found somebody in the way, before it tries again."""

    def pause() -> float:
        act()
        return 0.0

    monkeypatch.setattr(module, "pauses", lambda: pause)


PAUSES = 5


def commit_at_each_pause(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, writer: Child, held: Child
) -> list[list[object]]:
    """Let a stranger commit while a fold waits for a reader, who ends after some pauses.

    Returns what the stranger said, as it comes.
    """
    said: list[list[object]] = []

    def commit() -> None:
        writer.tell()
        said.append(writer.hear())
        if len(said) == PAUSES:
            held.end()

    at_each_pause(monkeypatch, module, commit)
    return said


def write(path: Path, rows: int = 1, timeout: float = 0.3) -> Checkpoint:
    with open_database(str(path), purpose=Purpose.WRITE, timeout=timeout) as opened:
        for number in range(rows):
            insert(opened, f"row {number}")
    assert opened.checkpoint is not None
    return opened.checkpoint


def test_what_was_written_is_in_the_main_file(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    result = write(path, 3)
    assert result.exit_code("write") is ExitCode.OK
    assert (result.log, result.checkpointed, result.left, result.busy) == (8, 8, 0, False)
    assert (result.moved, result.bytes_moved, result.exact) == (8, 8 * 4096, True)
    assert (result.wal_size_before, result.wal_size_after) == (32 + 8 * (24 + 4096), 0)
    assert result.in_main_file
    assert rows_in_main_alone(path) == 8


def test_nothing_to_fold_is_said_in_zeros(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    write(path)
    with open_database(str(path), purpose=Purpose.READ) as opened:
        pass
    assert opened.checkpoint is not None
    assert opened.checkpoint.wal_line() == "WAL pages: 0 in log, 0 checkpointed, 0 left; busy: no"


def test_the_numbers_are_those_of_the_log_itself(tmp_path: Path) -> None:
    """The frames in the file and mxFrame of the wal-index, both read by code of their own."""
    path = crashed(tmp_path / "app.db", rows=17)
    opened = open_database(str(path), purpose=Purpose.WRITE)
    with opened.write() as db:
        db.conn.executemany("INSERT INTO t (v) VALUES (?)", [("x" * 3000,) for _ in range(40)])
    shm = struct.unpack("=I", run_raw(path, "-shm", 16, 4))[0]
    frames = frames_in_log(path)
    result = opened.close()
    assert result.log == frames == shm
    assert (result.checkpointed, result.left, result.exact) == (frames, 0, True)


def run_raw(path: Path, suffix: str, offset: int, size: int) -> bytes:
    """Read bytes in another process: closing the -shm here would drop our own locks."""
    code = f"say(open(path + {suffix!r}, 'rb').read()[{offset}:{offset + size}].hex())"
    return bytes.fromhex(run(code, path)[0][0])


def test_batches_add_up(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=4)
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        for expected in (5, 6, 7):
            insert(opened)
            assert opened.fold_now().log == expected
    assert opened.checkpoint is not None
    assert (opened.checkpoint.log, opened.checkpoint.moved) == (7, 7)
    assert opened.checkpoint.exact


def test_an_older_snapshot_elsewhere_is_busy_and_named(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path) as other:
        result = write(path, 2)
        assert result.exit_code("write") is ExitCode.BUSY
        assert result.exit_code("write", allow_pending=True) is ExitCode.OK
        assert result.exit_code("read") is ExitCode.OK
        assert (result.log, result.checkpointed, result.left) == (7, 0, 7)
        assert result.busy
        assert result.wal_synced
        assert not result.in_main_file
        (blocker,) = result.blockers
        assert blocker.pid == other.pid
        assert "say(conn.execute" in blocker.command
        assert blocker.frame == 5
        assert set(blocker.blocks) >= {"backfill", "truncate"}
        assert rows_in_main_alone(path) == 0  # as whole as it was
        other.end()
    with open_database(str(path), purpose=Purpose.READ) as opened:
        pass
    assert opened.checkpoint is not None
    assert opened.checkpoint.left == 0
    assert rows_in_main_alone(path) == 7


STRANGER = """
conn = connect()
conn.execute("insert into t (v) values ('stranger')")
say(*conn.execute('pragma wal_checkpoint(passive)').fetchone())
"""


def test_a_frame_that_nbackfill_has_passed_may_still_be_missing(tmp_path: Path) -> None:
    """A checkpoint skips each page that has a newer frame beyond the reader that stops it."""
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE, timeout=0.2)
    insert(opened)
    with reader(path):
        assert run(STRANGER, path) == [[0, 7, 6]]  # our frame is the sixth
        assert rows_in_main_alone(path) == 0
        result = opened.close()
        assert result.exit_code("write") is ExitCode.BUSY
        assert (result.log, result.checkpointed, result.left) == (7, 6, 1)


def test_a_close_that_cannot_be_whole_leaves_the_main_file_whole(tmp_path: Path) -> None:
    """It would mix old pages with new ones, and the copy of the .db alone would be malformed."""
    path = crashed(tmp_path / "app.db")
    grow = """
conn = connect()
conn.execute('create table filler (v)')
conn.execute('insert into filler select zeroblob(3000) from t')
conn.execute('update t set v = v || zeroblob(2000)')
"""
    run(grow, path)
    assert rows_in_main_alone(path) == 5
    with child(grow.replace("filler", "more") + "say(1); hear()", path) as other:
        other.hear()
        with reader(path):
            run(grow.replace("filler", "most"), path)
            for purpose in (Purpose.READ, Purpose.WRITE):
                with open_database(str(path), purpose=purpose, timeout=0.1) as opened:
                    if purpose is Purpose.WRITE:
                        insert(opened)
                assert opened.checkpoint is not None
                assert opened.checkpoint.left > 0
                assert rows_in_main_alone(path) == 5
    with open_database(str(path), purpose=Purpose.READ):
        pass
    assert rows_in_main_alone(path) == 6


def test_a_reader_of_the_newest_frame_keeps_the_log_but_not_the_rows(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE, timeout=0.3)
    insert(opened)
    with reader(path):
        result = opened.close()
    assert result.exit_code("write") is ExitCode.OK
    assert (result.log, result.checkpointed, result.left) == (6, 6, 0)
    assert result.wal_size_after > 0
    if not HAS_WAL_RESET_BUG:  # else it is not even tried
        assert result.busy
        assert [set(blocker.blocks) for blocker in result.blockers] == [{"reset", "truncate"}]


def test_no_writer_waits_while_we_wait_for_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE, timeout=3600.0)
    with reader(path) as held, child(STRANGER_WITHOUT_PATIENCE, path) as writer:
        insert(opened)
        writer.hear()
        committed = commit_at_each_pause(monkeypatch, fold, writer, held)
        result = opened.close()
    assert committed == [[True]] * PAUSES
    assert result.exit_code("write") is ExitCode.OK
    assert rows_in_main_alone(path) == 6


def test_strangers_commits_are_not_waited_for(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with child(IMPATIENT_WRITER, path, 60.0) as writer:
        writer.hear()
        results = [write(path, timeout=60.0) for _ in range(10)]
        assert [result.exit_code("write") for result in results] == [ExitCode.OK] * 10
        assert rows_in_main_alone(path) == 15
        writer.tell()
        assert writer.hear()[1] == 0


def test_another_checkpoint_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE, timeout=3600.0)
    insert(opened)
    with child(LOCK_HOLDER, path, CHECKPOINT_LOCK) as other:
        other.hear()
        at_each_pause(monkeypatch, fold, other.end)
        result = opened.close()
        assert other.process.poll() == 0
    assert result.exit_code("write") is ExitCode.OK
    assert (result.log, result.left) == (6, 0)


def test_a_checkpoint_without_end_is_busy_and_named(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE, timeout=0.2)
    insert(opened)
    with child(LOCK_HOLDER, path, CHECKPOINT_LOCK) as other:
        other.hear()
        result = opened.close()
        assert result.exit_code("write") is ExitCode.BUSY
        assert (result.log, result.checkpointed, result.left) == (6, 0, 6)
        assert [(b.pid, b.lock) for b in result.blockers] == [(other.pid, "CHECKPOINT")]
        assert result.wal_synced


def test_a_reader_has_no_patience_with_another_checkpoint(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.READ, timeout=3600.0)
    with child(LOCK_HOLDER, path, CHECKPOINT_LOCK) as other:
        other.hear()
        result = opened.close()
    assert (result.left, result.busy) == (5, True)
    assert result.exit_code("read") is ExitCode.OK


def test_what_another_process_folded_is_not_folded_again(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE)
    insert(opened)
    run("c = connect(); c.execute('pragma wal_checkpoint(passive)').fetchone()", path)
    result = opened.close()
    assert (result.log, result.checkpointed, result.moved) == (6, 6, 0)
    assert result.exact


def test_a_log_that_another_process_restarted_was_folded(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE)
    insert(opened)
    with child(
        "c = connect(); c.execute('pragma wal_checkpoint(truncate)'); "
        "c.execute('insert into t (v) values (1)'); c.execute('begin'); "
        "c.execute('select * from t').fetchall(); say(1); hear()",
        path,
    ) as other:
        other.hear()
        result = opened.close()
    assert result.exit_code("write") is ExitCode.OK
    assert (result.log, result.left) == (7, 0)


def test_a_log_deleted_in_use_is_folded_while_that_is_possible(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE)
    insert(opened)
    os.unlink(f"{path}-wal")
    result = opened.close()
    assert result.log_deleted
    assert result.in_main_file
    assert result.exit_code("write") is ExitCode.OK
    assert rows_in_main_alone(path) == 6


@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_deleted_in_use_that_cannot_be_folded_is_a_loss(
    tmp_path: Path, replaced: bool
) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path):
        opened = open_database(str(path), purpose=Purpose.WRITE, timeout=0.1)
        insert(opened)
        os.unlink(f"{path}-wal")
        if replaced:
            Path(f"{path}-wal").write_bytes(b"")
        result = opened.close()
    assert result.log_deleted
    assert not result.wal_synced
    assert result.reason == LOG_DELETED
    assert result.exit_code("write", allow_pending=True) is ExitCode.FAILED


def test_nothing_is_committed_into_a_log_that_was_emptied(tmp_path: Path) -> None:
    """A frame beyond the end makes a hole, and a checkpoint would take its zeros for pages."""
    path = crashed(tmp_path / "app.db")
    main = path.read_bytes()
    with reader(path), open_database(str(path), purpose=Purpose.WRITE) as opened:
        with pytest.raises(RefusedError):
            insert_and_empty_the_log(opened)
        assert not opened.commits
    assert path.read_bytes() == main


def insert_and_empty_the_log(opened: OpenDatabase) -> None:
    with opened.write() as db:
        db.execute("insert into t (v) values ('new')")
        os.truncate(f"{opened.path}-wal", 0)


def test_a_log_that_was_emptied_in_use_is_not_folded(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    main = path.read_bytes()
    with reader(path):
        opened = open_database(str(path), purpose=Purpose.READ)
        size = os.path.getsize(f"{path}-wal")
        os.truncate(f"{path}-wal", 0)
        os.truncate(f"{path}-wal", size)  # as the next frame of another writer does
        result = opened.close()
    assert result.reason == LOG_EMPTIED
    assert result.exit_code("read") is ExitCode.FAILED
    assert path.read_bytes() == main


def test_a_database_replaced_in_use_is_no_success(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    opened = open_database(str(path), purpose=Purpose.WRITE)
    insert(opened)
    crashed(tmp_path / "other.db")
    os.replace(tmp_path / "other.db", path)
    result = opened.close()
    assert not result.in_main_file
    assert "replaced" in (result.reason or "")
    assert result.exit_code("write", allow_pending=True) is ExitCode.FAILED


def test_killed_after_the_end_nothing_is_missing(tmp_path: Path) -> None:
    """The log and its index deleted as well, as a clean-up job does."""
    path = crashed(tmp_path / "app.db")
    code = """
import os, signal, sys
from modelstore.database.open import Purpose, open_database
opened = open_database(sys.argv[1], purpose=Purpose.WRITE, timeout=0.1)
with opened.write() as db:
    db.conn.executemany("insert into t (v) values (?)", [("x" * 500,) for _ in range(995)])
opened.close()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with reader(path):  # so that the log stays, and cannot help
        process = subprocess.run(
            [sys.executable, "-c", code, str(path)], cwd=REPOSITORY, check=False
        )
        assert process.returncode == -signal.SIGKILL
    with reader(path):
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=REPOSITORY, check=False)
        for suffix in ("-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
    assert isinstance(rows_in_main_alone(path), int)
    path = crashed(tmp_path / "second.db")
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=REPOSITORY, check=False)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    assert rows_in_main_alone(path) == 1000


def test_trouble_with_the_fold_does_not_hide_the_bodys_error(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path):
        opened = open_database(str(path), purpose=Purpose.WRITE, timeout=0.1)
        with pytest.raises(ValueError, match="the body's own"):
            fail_in_body(opened)
    assert opened.checkpoint is not None
    assert opened.checkpoint.log_deleted


def fail_in_body(opened: OpenDatabase) -> None:
    with opened:
        insert(opened)
        os.unlink(f"{opened.path}-wal")
        raise ValueError("the body's own")


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount")
def test_a_full_disk_keeps_the_rows_in_the_log_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "small"
    target.mkdir()
    options = ["-o", "size=512k"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "none", target], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        path = crashed(target / "app.db")
        opened = open_database(str(path), purpose=Purpose.WRITE, timeout=0.2)
        with opened.write() as db:
            db.conn.executemany("INSERT INTO t (v) VALUES (?)", [("x" * 4000,) for _ in range(30)])
        room = os.statvfs(target)
        (target / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize))
        result = opened.close()
        assert result.exit_code("write") is ExitCode.BUSY
        assert result.wal_synced
        assert "the disk is full" in (result.reason or "")
        (target / "ballast").unlink()
        with open_database(str(path), purpose=Purpose.READ) as opened:
            assert opened.conn.execute("SELECT count(*) FROM t").fetchone() == (35,)
        assert rows_in_main_alone(path) == 35
    finally:
        subprocess.run(["umount", target], check=True)


# -- an SQLite with the WAL-reset bug ------------------------------------------------------------

# The interpreter's own SQLite in the place of pysqlite3, each checkpoint noted with whether the
# write lock is held at that moment, by a connection that tries to have it.
ON_AFFECTED = """
sys.modules['pysqlite3'] = None
from modelstore.database import sqlite as door
if not door.HAS_WAL_RESET_BUG:
    say('not affected', door.SQLITE_VERSION)
    sys.exit()
from modelstore.database import live_log
from modelstore.database.open import Purpose, open_database
calls = []
run = live_log._run
def noted(db, mode):
    import subprocess
    probe = (
        "import sqlite3, sys; conn = sqlite3.connect(sys.argv[1], timeout=0); "
        "conn.execute('begin immediate')"
    )
    held = subprocess.run([sys.executable, '-ISc', probe, path], capture_output=True).returncode
    calls.append((mode, bool(held)))
    return run(db, mode)
live_log._run = noted
opened = open_database(path, purpose=Purpose.WRITE, timeout=float(sys.argv[2]))
with opened.write() as db:
    db.execute("insert into t (v) values ('x')")
result = opened.close()
code = int(result.exit_code("write"))
say(code, result.log, result.left, result.exact, calls, opened.warnings)
"""


def on_affected(path: Path, timeout: float) -> list[object]:
    (answer,) = run(ON_AFFECTED, path, timeout)
    if answer[0] == "not affected":
        pytest.skip(f"the interpreter's own SQLite {answer[1]} is sound")
    return answer


def test_on_an_affected_sqlite_nothing_is_copied_but_under_the_write_lock(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    code, log, left, exact, calls, _ = on_affected(path, 1)
    assert (code, log, left, exact) == (ExitCode.OK, 6, 0, True)
    # No TRUNCATE: somebody could come just before it, and then rows were lost. Closing does it.
    assert calls == [["PASSIVE", True]]
    assert not Path(f"{path}-wal").exists()
    assert rows_in_main_alone(path) == 6


def test_on_an_affected_sqlite_the_log_of_others_is_not_truncated(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    idle = "c = connect(); c.execute('select 1 from t').fetchall(); say(1); hear()"
    with child(idle, path) as other:
        other.hear()
        code, log, left, _, calls, warnings = on_affected(path, 1)
    assert (code, log, left) == (ExitCode.OK, 6, 0)
    assert calls == [["PASSIVE", True]]
    assert isinstance(warnings, list)
    assert "walresetbug" in warnings[0]
