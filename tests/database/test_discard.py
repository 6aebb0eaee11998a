from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelstore.database.discard import discard_damaged
from modelstore.database.probe import probe
from modelstore.errors import RefusedError
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
)


def damaged(path: Path) -> Path:
    crashed(path, rows=30)
    flip(path, 6)
    return path


def test_both_files_are_saved_before_the_rest_of_the_log_is_given_up(tmp_path: Path) -> None:
    path = damaged(tmp_path / "app.db")
    before = contents(path)
    result = discard_damaged(str(path))
    assert Path(result.saved_database).read_bytes() == before["app.db"]
    assert Path(result.saved_log).read_bytes() == before["app.db-wal"]
    assert (result.kept_commits, result.dropped_commits) == (5, 25)
    assert (result.checkpoint.log, result.checkpoint.left) == (5, 0)
    assert rows_in_main_alone(path) == 5
    assert probe(str(path)).why_not_fold is None


def test_the_copies_are_no_more_open_than_the_database(tmp_path: Path) -> None:
    path = damaged(tmp_path / "app.db")
    os.chmod(path, 0o640)
    if IS_ROOT:
        os.chown(path, NOBODY, NOBODY)
    result = discard_damaged(str(path))
    for name in (result.saved_database, result.saved_log):
        assert os.stat(name).st_mode & 0o777 == 0o640
        assert os.stat(name).st_uid == os.stat(path).st_uid


def test_a_second_time_writes_over_no_earlier_copy(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    names = {discard_damaged(str(damaged(fresh(path)))).saved_database for _ in range(3)}
    assert len(names) == 3
    assert all(probe(name).damaged for name in names)


def fresh(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def test_a_foreign_log_is_set_aside_and_the_database_left_as_it_is(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=3)
    run("c = connect(); c.execute('create table x (v)')", path)
    run(CRASH_WITH_PAGE_1, path)
    log = Path(f"{path}-wal").read_bytes()
    run("c = connect(); [c.execute(f'create table n{i} (v)') for i in range(9)]", path)
    Path(f"{path}-wal").write_bytes(log)
    before = path.read_bytes()
    result = discard_damaged(str(path))
    assert path.read_bytes() == before
    assert not os.path.exists(f"{path}-wal")
    assert Path(result.saved_log).read_bytes() == log
    assert (result.checkpoint.mode, result.checkpoint.moved) == ("none", 0)
    assert result.checkpoint.db_size_before == result.checkpoint.db_size_after == len(before)
    assert result.checkpoint.wal_size_before == len(log)
    assert result.kept_commits == 0


def test_a_sound_log_is_not_discarded(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db")
    before = contents(path)
    with pytest.raises(RefusedError, match="sound"):
        discard_damaged(str(path))
    assert contents(path) == before


def test_a_log_in_use_is_not_discarded(tmp_path: Path) -> None:
    path = crashed(tmp_path / "app.db", rows=30)
    with reader(path):
        flip(path, 6)
        with pytest.raises(RefusedError, match="in use"):
            discard_damaged(str(path))
