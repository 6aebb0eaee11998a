"""Copies of a busy database's pages: a look at them says what a look at the files says."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from modelstore.wal import loss
from modelstore.wal.capture import Capture
from modelstore.wal.loss import analyse_loss
from modelstore.wal.loss_report import LossReport
from modelstore.wal.stillness import OpenFiles, Stamp
from tests.wal.children import SQL, holding_index, running
from tests.wal.loss_build import NUMBERS, Database

SETUP = f"""
    CREATE TABLE a(id INTEGER PRIMARY KEY, key, text);
    CREATE INDEX i ON a(key);
    CREATE TABLE gone(id PRIMARY KEY, text) WITHOUT ROWID;
    {NUMBERS.format(20_000)} INSERT INTO a SELECT i, i * 7919 % 60000, printf('%0300d', i) FROM s;
    {NUMBERS.format(300)} INSERT INTO gone SELECT i, printf('%0700d', i) FROM s;
"""
FILL = f"{NUMBERS.format(99)} INSERT INTO t SELECT hex(zeroblob(1000)) FROM s"
CHANGE = f"""
    UPDATE a SET text = printf('%0900d', id) WHERE id % 997 = 0;
    DELETE FROM a WHERE id BETWEEN 5000 AND 6000;
    {NUMBERS.format(900)} INSERT INTO a(key, text) SELECT i, printf('%0300d', i) FROM s;
    DROP TABLE gone;
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return Database(tmp_path, SETUP, CHANGE, page_size=1024, shm=True).path


def same(one: LossReport, two: LossReport) -> bool:
    """Compare all but the account of the reading itself."""
    left, right = (replace(r, attempts=0, pages_read=0, owners=None) for r in (one, two))
    hidden = ("page_numbers", "commit_sizes", "marks")
    scans = [replace(report.scan, unexamined=0, stale=0) for report in (left, right)]
    assert [getattr(scans[0], n)[: one.scan.max_frame] for n in hidden] == [
        getattr(scans[1], n)[: one.scan.max_frame] for n in hidden
    ]
    return replace(left, scan=scans[0]) == replace(right, scan=scans[1])


@pytest.mark.parametrize("races", [1, 2, 3])
def test_a_look_at_copies_says_the_same(
    path: str, monkeypatch: pytest.MonkeyPatch, races: int
) -> None:
    with holding_index(path):
        with monkeypatch.context() as at_files:
            at_files.setattr(loss, "_COPIED_AT_ONCE", 0)
            calm = analyse_loss(path)
        assert (calm.attempts, calm.raced) == (1, False)
        assert calm.lost == 900
        honest = Stamp.settles
        left = [False] * races

        def settles(stamp: Stamp, after: Stamp) -> bool:
            return left.pop() if left else honest(stamp, after)

        monkeypatch.setattr(Stamp, "settles", settles)
        raced = analyse_loss(path)
    assert not left
    assert not raced.raced
    assert same(calm, raced)


def test_frames_behind_the_last_commit_are_counted_while_nobody_commits(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    spilled = "CREATE TABLE t(x)", "PRAGMA cache_size = 1", "BEGIN", FILL
    with running(SQL, path, *spilled):
        report = analyse_loss(path)
    assert (report.scan.commit_count, report.scan.unexamined) == (1, 0)
    assert report.scan.uncommitted > 20


def test_pages_that_no_copy_has_are_asked_for(path: str) -> None:
    with holding_index(path), ExitStack() as stack:
        files = OpenFiles.open(path, path + "-wal", stack)
        copy = Capture.take(files, (), stack)
        assert copy is not None
        assert not copy.lacks(copy.main.pages)
        assert copy.lacks([1_000_000])
        with_more = Capture.take(files, [2], stack)
        assert with_more is not None
        assert not with_more.lacks([2])


def test_a_large_log_is_not_copied(path: str) -> None:
    with holding_index(path), ExitStack() as stack:
        files = OpenFiles.open(path, path + "-wal", stack)
        assert Capture.take(files, (), stack, most=50_000) is None


def test_the_first_copy_of_a_log_in_use_has_all_that_a_look_needs(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking: list[bool] = []
    honest = Capture.lacks

    def lacks(copy: Capture, numbers: Iterable[int]) -> bool:
        lacking.append(honest(copy, numbers))
        return lacking[-1]

    monkeypatch.setattr(Capture, "lacks", lacks)
    with holding_index(path):
        assert analyse_loss(path).lost == 900
    assert lacking == [False]
