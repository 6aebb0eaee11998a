from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.database import checkpoint_modes
from modelstore.database.checkpoint import Checkpoint, Mode, Work
from modelstore.database.checkpoint_modes import run_checkpoint
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import HAS_WAL_RESET_BUG
from modelstore.errors import ExitCode
from modelstore.wal.locks import Blocker
from tests.database.outside import (
    LOCK_HOLDER,
    STRANGER_WITHOUT_PATIENCE,
    child,
    crashed,
    reader,
    rows_in_main_alone,
    run,
)
from tests.database.test_connection import insert
from tests.database.test_fold import CHECKPOINT_LOCK, PAUSES, commit_at_each_pause

FOLDED = Checkpoint(mode="truncate", log=5, checkpointed=5)
PENDING = Checkpoint(
    mode="truncate", busy=True, log=5, checkpointed=3, left=2, in_main_file=False, wal_synced=True
)
BLOCKER = Blocker(4121, "python app.py", "READ1", 1, 127, ("backfill", "reset", "truncate"))


@pytest.mark.parametrize(
    ("result", "work", "allow_pending", "code"),
    [
        (FOLDED, "write", False, ExitCode.OK),
        (FOLDED, "read", False, ExitCode.OK),
        (PENDING, "write", False, ExitCode.BUSY),
        (PENDING, "write", True, ExitCode.OK),
        (PENDING, "read", False, ExitCode.OK),
        (PENDING._replace(wal_synced=False), "write", False, ExitCode.FAILED),
        (PENDING._replace(wal_synced=False), "write", True, ExitCode.FAILED),
        (PENDING._replace(log_deleted=True), "write", True, ExitCode.FAILED),
        (PENDING._replace(log_deleted=True), "read", False, ExitCode.FAILED),
        (FOLDED._replace(log_deleted=True), "write", False, ExitCode.OK),
        (FOLDED._replace(busy=True), "write", False, ExitCode.OK),  # kept, but nothing is missing
        (FOLDED, "checkpoint", False, ExitCode.OK),
        (PENDING, "checkpoint", False, ExitCode.BUSY),
        (FOLDED._replace(in_main_file=False), "checkpoint", False, ExitCode.BUSY),  # not synced
        (PENDING._replace(log_deleted=True), "checkpoint", False, ExitCode.FAILED),
    ],
)
def test_a_fold_gives_each_kind_of_command_its_exit_code(
    result: Checkpoint, work: Work, allow_pending: bool, code: ExitCode
) -> None:
    assert result.exit_code(work, allow_pending=allow_pending) is code


def test_the_line_that_every_command_shows() -> None:
    assert FOLDED.wal_line() == "WAL pages: 5 in log, 5 checkpointed, 0 left; busy: no"
    assert PENDING.wal_line() == "WAL pages: 5 in log, 3 checkpointed, 2 left; busy: yes"
    assert "at least" in FOLDED._replace(exact=False).wal_line()


def test_json_carries_every_field() -> None:
    result = json.loads(json.dumps(PENDING._replace(blockers=(BLOCKER,)).as_json()))
    assert set(result) == set(Checkpoint._fields) - {"unseen"}
    assert result["blockers"] == [
        {
            "pid": 4121,
            "command": "python app.py",
            "lock": "READ1",
            "frame": 127,
            "blocks": ["backfill", "reset", "truncate"],
            "is_stopped": False,
        }
    ]


@pytest.mark.parametrize("mode", ["passive", "full", "restart", "truncate"])
def test_each_mode_brings_everything_into_the_main_file(tmp_path: Path, mode: Mode) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        result = run_checkpoint(opened, mode, 1.0)
        assert (result.mode, result.log, result.checkpointed, result.left) == (mode, 5, 5, 0)
        assert (result.busy, result.exact, result.in_main_file) == (False, True, True)
        assert result.exit_code("write") is ExitCode.OK
        assert (result.wal_size_after == 0) is (mode == "truncate")
        assert rows_in_main_alone(path) == 5


@pytest.mark.parametrize("mode", ["passive", "full", "restart", "truncate"])
def test_an_old_reader_is_named_while_it_is_waited_for(tmp_path: Path, mode: Mode) -> None:
    path = crashed(tmp_path / "app.db")
    waits: list[tuple[tuple[Blocker, ...], float]] = []
    with reader(path) as other:
        run("c = connect(); c.execute('insert into t (v) values (1)')", path)
        with open_database(str(path), purpose=Purpose.WRITE) as opened:
            result = run_checkpoint(
                opened, mode, 0.2, lambda who, seconds: waits.append((who, seconds))
            )
        assert (result.log, result.checkpointed, result.left) == (6, 5, 1)
        assert result.busy
        assert not result.in_main_file
        assert result.exit_code("write") is ExitCode.BUSY
        assert [blocker.pid for blocker in result.blockers] == [other.pid]
        assert result.wal_synced
    assert bool(waits) is (mode != "passive")
    assert all(blocker.pid == other.pid for who, _ in waits for blocker in who)


@pytest.mark.parametrize("mode", ["restart", "truncate"])
def test_the_mode_is_done_when_the_reader_ends(tmp_path: Path, mode: Mode) -> None:
    path = crashed(tmp_path / "app.db")
    with (
        reader(path) as other,
        open_database(str(path), purpose=Purpose.WRITE) as opened,
    ):
        result = run_checkpoint(opened, mode, 60.0, lambda *_: other.end())
    assert (result.busy, result.left) == (False, 0)


def test_a_reader_of_the_newest_frame_does_not_make_it_fail(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with reader(path), open_database(str(path), purpose=Purpose.WRITE) as opened:
        full = run_checkpoint(opened, "full", 0.1)
        assert (full.busy, full.left, full.exit_code("write")) == (False, 0, ExitCode.OK)
        result = run_checkpoint(opened, "truncate", 0.1)
    assert result.busy is not HAS_WAL_RESET_BUG  # then it is not even tried
    assert result.left == 0
    assert result.exit_code("write") is ExitCode.OK


@pytest.mark.parametrize("mode", ["full", "restart", "truncate"])
def test_no_writer_waits_while_a_checkpoint_waits(
    tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db")
    with (
        reader(path) as held,
        child(STRANGER_WITHOUT_PATIENCE, path) as writer,
        open_database(str(path), purpose=Purpose.WRITE) as opened,
    ):
        writer.hear()
        insert(opened)
        committed = commit_at_each_pause(monkeypatch, checkpoint_modes, writer, held)
        result = run_checkpoint(opened, mode, 3600.0)
    assert committed == [[True]] * PAUSES
    assert (result.busy, result.left) == (False, 0)


def test_passive_waits_for_another_checkpoint_only(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with (
        open_database(str(path), purpose=Purpose.WRITE) as opened,
        child(LOCK_HOLDER, path, CHECKPOINT_LOCK) as other,
    ):
        other.hear()
        result = run_checkpoint(opened, "passive", 3600.0, lambda *_: other.end())
        assert other.process.poll() == 0
    assert (result.busy, result.left) == (False, 0)


def test_a_database_without_a_log_has_nothing_to_fold(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    run("c = connect(); c.execute('create table t (v)')", path)
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        result = run_checkpoint(opened, "truncate", 1.0)
    assert result.mode == "none"
    assert result.reason is not None
    assert result.exit_code("write") is ExitCode.OK


def test_the_close_after_it_counts_no_frame_twice(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    with open_database(str(path), purpose=Purpose.WRITE) as opened:
        run_checkpoint(opened, "passive", 1.0)
    assert opened.checkpoint is not None
    assert (opened.checkpoint.log, opened.checkpoint.moved) == (5, 5)
