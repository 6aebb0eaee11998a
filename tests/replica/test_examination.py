"""Replicas of a real Litestream, sound and spoilt."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from modelstore.replica.engine import Engine, Outcome, Restored
from modelstore.replica.examination import Verdict, examine
from modelstore.replica.name import ReplicaName
from tests.replica.litestream import (
    TABLE,
    change,
    daemon,
    make,
    needs_litestream,
    numbered,
    replicate_once,
    with_litestream,
)
from tests.waiting import PATIENCE, wait_until

pytestmark = needs_litestream


@pytest.fixture(autouse=True)
def _litestream_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", with_litestream()["PATH"])


def _name(replica: Path) -> ReplicaName:
    return ReplicaName(f"file://{replica}")


def test_a_sound_replica_is_the_same(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 500))
    replicate_once(database, tmp_path / "replica")
    found = examine(str(database), _name(tmp_path / "replica"), timeout=1, integrity="quick_check")
    assert found.verdict is Verdict.SAME
    assert found.compared is not None
    assert found.compared.rows == 500


def test_a_function_of_the_applications_own_stops_no_comparison(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 50))
    with closing(sqlite3.connect(database)) as db:
        db.create_function("mine", 1, str, deterministic=True)
        db.execute("CREATE INDEX i ON t (mine(name))")
    replicate_once(database, tmp_path / "replica")
    replica = _name(tmp_path / "replica")
    found = examine(str(database), replica, timeout=1, integrity="integrity_check")
    assert found.verdict is Verdict.SAME
    assert found.compared is not None
    assert (found.compared.rows, found.compared.unread) == (50, {})


def test_a_replica_that_nobody_moves_on_is_behind(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 100))
    replicate_once(database, tmp_path / "replica")
    change(
        database,
        numbered(101, 130) + "UPDATE t SET name = 'x' WHERE n = 7; DELETE FROM t WHERE n = 8",
    )
    found = examine(str(database), _name(tmp_path / "replica"), timeout=0.3)
    assert found.verdict is Verdict.BEHIND
    (loss,) = found.losses
    assert (loss.missing, loss.changed, loss.returning) == (30, 1, 1)
    assert loss.names[0] == "row 101"
    assert found.age is not None


def test_a_replica_of_another_database_is_called_so(tmp_path: Path) -> None:
    one = make(tmp_path / "one.db", TABLE + numbered(1, 300))
    other = make(tmp_path / "other.db", TABLE + numbered(1, 300) + "UPDATE t SET name = 'other'")
    replicate_once(other, tmp_path / "replica")
    found = examine(str(one), _name(tmp_path / "replica"), timeout=0.2)
    assert found.verdict is Verdict.ANOTHER


def test_nothing_there_is_absent_and_a_torn_one_is_damaged(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 3000))
    replicate_once(database, tmp_path / "replica")
    found = examine(str(database), _name(tmp_path / "none"), timeout=0.1)
    assert found.verdict is Verdict.ABSENT
    (piece,) = (tmp_path / "replica").rglob("*.ltx")
    piece.write_bytes(piece.read_bytes()[:-3000])
    found = examine(str(database), _name(tmp_path / "replica"), timeout=0.1)
    assert found.verdict is Verdict.DAMAGED
    assert found.reason


def test_a_gap_in_the_replica_is_damage(tmp_path: Path) -> None:
    database, replica = make(tmp_path / "app.db", TABLE + numbered(1, 10)), tmp_path / "replica"
    for first in (11, 21):
        replicate_once(database, replica)
        change(database, numbered(first, first + 9))
    replicate_once(database, replica)
    pieces = sorted((replica / "ltx" / "0").glob("*.ltx"))
    assert len(pieces) == 3
    pieces[1].unlink()
    found = examine(str(database), _name(replica), timeout=0.1)
    assert found.verdict in (Verdict.DAMAGED, Verdict.SAME)  # the last may be a whole copy
    pieces[2].unlink()
    assert examine(str(database), _name(replica), timeout=0.1).verdict is Verdict.BEHIND


WRITER = """
    import sqlite3, sys, time
    db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
    n = 1_000_000
    print("begun", flush=True)
    while True:
        n += 1
        db.execute("INSERT INTO t VALUES (?, ?)", (n, f"new {n}"))
        db.execute("UPDATE t SET name = ? WHERE n = 1", (f"{n % 2}",))
        db.execute("DELETE FROM t WHERE n = ?", (n - 50,))
        time.sleep(0.01)
"""


OLD = "UPDATE t SET name = 'old' WHERE n = 200; INSERT INTO t VALUES (99999, 'back');"


@contextmanager
def writing(database: Path) -> Iterator[None]:
    """Let another process write a hundred times a second, one row of two values among it."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(database)], stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            yield
        finally:
            writer.kill()


def test_a_sound_replica_under_a_writer_is_never_called_lost(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 500))
    replica = tmp_path / "replica"
    with daemon(database, f"file://{replica}"), writing(database):
        found = examine(str(database), _name(replica), timeout=PATIENCE)
        assert found.verdict is Verdict.SAME, found


def test_rows_that_the_replica_claims_and_lacks_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Engine.restore

    def spoil(self: Engine) -> Restored | Outcome:
        restored = restore(self)
        if isinstance(restored, Restored):
            change(Path(restored.path), "DELETE FROM t WHERE n BETWEEN 101 AND 150; " + OLD)
        return restored

    monkeypatch.setattr(Engine, "restore", spoil)
    database, replica = make(tmp_path / "app.db", TABLE + numbered(1, 1000)), tmp_path / "replica"
    with daemon(database, f"file://{replica}"):
        found = examine(str(database), _name(replica), timeout=20)
        assert found.verdict is Verdict.LOST, found
        (loss,) = found.losses
        assert (loss.missing, loss.changed, loss.returning) == (50, 1, 1)
        assert loss.names[0] == "row 101"
        with writing(database):
            found = examine(str(database), _name(replica), timeout=20)
    assert found.verdict is Verdict.LOST, found
    assert found.losses[0].missing == 50
    assert found.looks >= 6


def test_a_damaged_database_of_the_replica_is_found_where_every_row_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = "CREATE INDEX i ON t (name);"
    database = make(tmp_path / "app.db", TABLE + index + numbered(1, 2000))
    spoilt = tmp_path / "spoilt.db"
    shutil.copyfile(database, spoilt)
    with closing(sqlite3.connect(spoilt, isolation_level=None)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'i'").fetchone()[0]
        db.execute("PRAGMA journal_mode = DELETE")
    raw = bytearray(spoilt.read_bytes())
    raw[(root - 1) * 4096 + 8 : (root - 1) * 4096 + 12] = b"\xff\xff\xff\xff"
    spoilt.write_bytes(raw)
    replicate_once(database, tmp_path / "replica")

    def restore(self: Engine) -> Restored:
        return Restored(str(spoilt), 1)

    monkeypatch.setattr(Engine, "restore", restore)
    found = examine(
        str(database), _name(tmp_path / "replica"), timeout=0.1, integrity="integrity_check"
    )
    assert found.verdict is Verdict.DAMAGED


def test_a_database_that_changes_and_catches_up_is_the_same(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + numbered(1, 100))
    replica = tmp_path / "replica"
    with daemon(database, f"file://{replica}"):
        wait_until(lambda: list(replica.rglob("*.ltx")))
        change(database, numbered(101, 300))
        found = examine(str(database), _name(replica), timeout=PATIENCE)
        assert found.verdict is Verdict.SAME
