"""SQLite's check of the main file alone, which ``--deep`` adds."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.database.handle import Database
from modelstore.verify import alone
from modelstore.verify.alone import check_alone
from modelstore.wal.inspection import MainCheck
from tests.cli.program import modelstore
from tests.verify.examining import codes, connect, contents, copied, crashed, examine, severities

PAGE = 4096
SETUP = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
    "INSERT INTO t(v) VALUES ('one'), ('two')",
)


@pytest.fixture
def pending(tmp_path: Path) -> Path:
    """Return a database whose log has a new version of the first page of table t."""
    return crashed(tmp_path / "a.db", ["INSERT INTO t(v) VALUES ('late')"], before=SETUP)


def test_a_sound_main_file_is_said_to_be(pending: Path) -> None:
    before = contents(pending)
    found = examine(pending, "integrity", deep=True, fold=False)
    assert severities(found)["integrity.alone"] == "pass"
    assert contents(pending) == before
    assert "integrity.alone" not in codes(examine(pending, "integrity", fold=False))
    folded = examine(pending, "integrity", "checkpoint", deep=True)
    assert severities(folded)["integrity.alone"] == "pass"


def test_a_fault_that_the_log_mends_is_one_of_the_main_file_alone(pending: Path) -> None:
    damage(pending)
    found = severities(examine(pending, "integrity", deep=True, fold=False))
    assert (found["integrity.ok"], found["integrity.alone-damaged"]) == ("pass", "fail")
    told = modelstore("inspect-wal", pending, "--no-checkpoint", "--deep", "--json").json
    assert "main-alone-damaged" in told["claims"]
    assert told["main_file"]["checked"]
    assert told["main_file"]["state"] != "consistent"
    assert told["main_file"]["integrity"] not in ("ok", None)


def test_a_check_of_a_file_that_is_written_meanwhile_proves_nothing(
    pending: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = alone.check_view
    times = iter(range(1, 9))

    def disturbed(db: Database, pragma: str) -> MainCheck:
        os.utime(pending, ns=(0, next(times)))
        return honest(db, pragma)

    monkeypatch.setattr(alone, "check_view", disturbed)
    assert not check_alone(str(pending)).is_still
    found = severities(examine(pending, "integrity", deep=True, fold=False))
    assert found["integrity.alone-unknown"] == "note"


def test_a_table_that_could_not_be_checked_is_not_called_sound(tmp_path: Path) -> None:
    source = tmp_path / "source.db"
    with closing(connect(source)) as conn:
        conn.create_collation("MINE", lambda one, other: (one > other) - (one < other))
        conn.execute("CREATE TABLE m(a TEXT COLLATE MINE PRIMARY KEY)")
        conn.execute("INSERT INTO m VALUES ('a'), ('b')")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        conn.execute("CREATE TABLE t(x)")
        path = copied(source, tmp_path / "a.db")
    found = severities(examine(path, "integrity", deep=True, fold=False))
    assert (found["integrity.alone-unchecked"], found["integrity.unchecked"]) == ("warn", "warn")
    told = modelstore("inspect-wal", path, "--no-checkpoint", "--deep", "--json").json
    assert "main-alone-unknown" in told["claims"]
    main = told["main_file"]
    assert (main["checked"], main["integrity"], len(main["unchecked"])) == (False, None, 1)


def test_a_main_file_without_a_log_is_damaged_for_good(pending: Path) -> None:
    damage(pending)
    Path(f"{pending}-wal").unlink()
    told = modelstore("inspect-wal", pending, "--no-checkpoint", "--deep", "--json")
    assert told.code == 5
    assert "main-damaged" in told.json["claims"]


def damage(path: Path) -> None:
    """Write over page 2 of the main file, the root of table t."""
    with path.open("r+b") as file:
        file.seek(PAGE)
        file.write(b"\xff" * PAGE)
