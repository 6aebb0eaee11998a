"""The progress of a checkpoint is measured from outside, and disturbs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelstore.database import copying
from modelstore.database.open import Purpose, open_database
from modelstore.database.sqlite import HAS_WAL_RESET_BUG
from modelstore.wal.scan import scan_wal
from tests.database.outside import crashed, rows_in_main_alone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts bytes written")
ROWS = 1500


@pytest.mark.skipif(HAS_WAL_RESET_BUG, reason="this SQLite copies through another connection")
def test_a_fold_tells_how_much_of_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db", ROWS, 900)
    scan = scan_wal(f"{path}-wal")
    size = len(set(scan.page_numbers[: scan.max_frame])) * scan.page_size
    monkeypatch.setattr(copying, "_EVERY", 0.0005)
    told: list[tuple[object, ...]] = []
    locks: list[int] = []

    def tell(*words: object) -> None:
        told.append(words)
        locks.append(own_locks(Path(f"{path}-shm")))

    with open_database(str(path), purpose=Purpose.FOLD) as opened:
        assert opened.totals is not None
        opened.totals.progress = tell
        before = own_locks(Path(f"{path}-shm"))
    assert before >= 1
    assert min(locks) >= before  # SQLite's locks stay while we look
    done = [(words[1], words[2]) for words in told if words[0] == "folding the log"]
    assert done
    assert {total for _, total in done} == {size}
    assert done == sorted(done)
    assert ("syncing the main file", 0) in told
    assert opened.checkpoint is not None
    assert opened.checkpoint.in_main_file
    assert rows_in_main_alone(path) == ROWS


def own_locks(path: Path) -> int:
    """Count the locks on a file by the kernel's own table; the file itself stays unopened."""
    inode = f":{path.stat().st_ino} "
    return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_without_counters_it_says_that_it_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db", ROWS, 900)
    monkeypatch.setattr(copying, "_EVERY", 0.0005)
    monkeypatch.setattr(copying, "_COUNTERS", "/proc/self/absent")
    told: list[tuple[object, ...]] = []
    with open_database(str(path), purpose=Purpose.FOLD) as opened:
        assert opened.totals is not None
        opened.totals.progress = lambda *words: told.append(words)
    assert set(told) == {("folding the log", 0), ("syncing the main file", 0)}
    assert rows_in_main_alone(path) == ROWS
