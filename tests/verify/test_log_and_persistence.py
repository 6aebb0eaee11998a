"""What is only in the log is told, folded, and compared; what is damaged is never folded."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from modelstore.database.handle import Database
from modelstore.database.sqlite import sqlite3
from modelstore.errors import RefusedError
from modelstore.progress import unwatched
from modelstore.verify.check import VerifyOptions
from modelstore.verify.checks import persistence
from modelstore.verify.checks.persistence import compare
from modelstore.verify.content import read_content
from tests.cli.program import alone, modelstore, python, reader
from tests.verify.examining import (
    TABLE,
    codes,
    connect,
    contents,
    copied,
    crashed,
    examine,
    incident,
    settled,
    severities,
    the,
)

FRAME = 24 + 4096
NAMES = [f"Model-{n}" for n in range(1, 19)]


def frame_at(number: int) -> int:
    return 32 + (number - 1) * FRAME


def patched(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_rows_that_are_only_in_the_log_fail_where_nothing_is_folded(tmp_path: Path) -> None:
    path = incident(tmp_path / "app.db")
    before = contents(path)
    found = examine(path, fold=False)
    assert contents(path) == before
    assert found.failed
    assert the(found, "log.pending").severity == "warn"
    assert the(found, "log.pending").measured.startswith("18 rows are only in the WAL")
    failure = the(found, "persistence.pending")
    assert failure.severity == "fail"
    assert all(name in failure.measured for name in NAMES)
    tables = failure.data["tables"]
    assert isinstance(tables, list)
    assert tables[0]["lost"]["names"] == NAMES
    assert found.checkpoint is not None
    assert (found.checkpoint.log, found.checkpoint.left) == (18, 18)


def test_they_are_told_folded_and_counted_in_the_main_file_alone(tmp_path: Path) -> None:
    path = incident(tmp_path / "app.db")
    found = examine(path)
    assert not found.failed
    assert codes(found) == {"log.pending"}
    assert the(found, "log.pending").measured.startswith("18 rows were only in the WAL before")
    assert "18 in log, 18 checkpointed, 0 left" in the(found, "checkpoint.done").measured
    assert the(found, "persistence.same").data["rows"] == 18
    assert alone(path) == [(18,)]
    assert examine(path, strict=True).failed is False
    assert not Path(f"{path}-wal").exists()
    assert not Path(f"{path}-shm").exists()


def test_a_warning_fails_where_that_was_asked_for(tmp_path: Path) -> None:
    found = examine(incident(tmp_path / "app.db"), strict=True)
    assert found.failed
    assert found.verdict == "FAIL, 1 warning (--strict)"


def test_a_reader_that_blocks_the_fold_is_named(tmp_path: Path) -> None:
    path = incident(tmp_path / "app.db")
    with reader(path) as holder:
        conn = connect(path)
        conn.execute("INSERT INTO models (name) VALUES ('one more')")
        conn.close()
        found = examine(path)
    assert found.failed
    blocked = the(found, "checkpoint.blocked")
    assert f"pid {holder.pid}" in blocked.measured
    assert "one more" in the(found, "persistence.pending").measured
    assert codes(found, "fail") == {"checkpoint.blocked", "persistence.pending"}
    assert examine(path).failed is False


def test_a_reader_of_the_last_commit_keeps_the_log_but_not_the_rows_from_the_file(
    tmp_path: Path,
) -> None:
    path = incident(tmp_path / "app.db")
    with reader(path):
        found = examine(path)
    assert the(found, "checkpoint.kept").severity == "pass"
    assert the(found, "persistence.same").data["rows"] == 18


def test_a_table_that_would_vanish_is_named(tmp_path: Path) -> None:
    statements = ["CREATE TABLE later (v)", "INSERT INTO later VALUES (1), (2)"]
    found = examine(crashed(tmp_path / "a.db", statements, before=[TABLE]), fold=False)
    assert "table later with 2 rows" in the(found, "persistence.pending").measured


def test_a_log_that_is_folded_but_was_not_truncated_passes_untouched(tmp_path: Path) -> None:
    source = tmp_path / "source.db"
    conn = connect(source)
    conn.execute(TABLE)
    conn.execute("INSERT INTO models (name) VALUES ('a')")
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
    path = copied(source, tmp_path / "app.db")
    conn.close()
    found = examine(path, fold=False)
    assert not codes(found)
    assert severities(found)["log.folded"] == "pass"
    assert severities(found)["persistence.same"] == "pass"


def test_a_flipped_bit_in_the_log_fails_and_nothing_is_folded(tmp_path: Path) -> None:
    inserts = [f"INSERT INTO models (name) VALUES ('m{n}')" for n in range(30)]
    path = crashed(tmp_path / "app.db", inserts, before=[TABLE])
    log = Path(f"{path}-wal")
    place = frame_at(6) + 24 + 4000
    patched(log, place, bytes([log.read_bytes()[place] ^ 1]))
    before = contents(path)
    found = examine(path)
    assert contents(path) == before
    assert "frame 6" in the(found, "log.damaged").measured
    assert the(found, "log.damaged").data["later_commits"] == 24
    assert {"checkpoint.refused", "persistence.not-checked"} <= codes(found, "note")
    assert found.checkpoint is not None
    assert found.checkpoint.mode == "none"


def test_a_damaged_header_of_the_log_fails_and_nothing_is_folded(tmp_path: Path) -> None:
    path = incident(tmp_path / "app.db")
    patched(Path(f"{path}-wal"), 16, b"\xff\xff\xff\xff")
    before = contents(path)
    found = examine(path)
    assert contents(path) == before
    assert codes(found, "fail") == {"log.damaged"}


def test_a_torn_tail_is_what_every_crash_leaves_behind(tmp_path: Path) -> None:
    path = incident(tmp_path / "app.db")
    log = Path(f"{path}-wal")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 100)
    found = examine(path)
    assert codes(found) == {"log.pending"}
    assert alone(path) == [(17,)]


def test_the_log_of_another_database_fails_and_is_not_folded(tmp_path: Path) -> None:
    other = incident(tmp_path / "other.db")
    path = settled(tmp_path / "app.db")
    for _ in range(3):  # changes of its own, so that the log is older
        conn = connect(path, "delete")
        conn.execute("UPDATE models SET note = 'changed'")
        conn.close()
    conn = connect(path)
    conn.close()
    shutil.copyfile(f"{other}-wal", f"{path}-wal")
    before = contents(path)
    found = examine(path)
    assert contents(path) == before
    assert "log.foreign" in codes(found, "fail") or "log.unreadable" in codes(found, "fail")
    assert found.checkpoint is not None
    assert found.checkpoint.mode == "none"
    assert alone(path) == [(400,)]


def test_a_log_of_another_page_size_is_refused(tmp_path: Path) -> None:
    other = incident(tmp_path / "other.db")
    path = tmp_path / "app.db"
    conn = sqlite3.connect(str(path))
    conn.execute("PRAGMA page_size = 1024")
    conn.execute("PRAGMA journal_mode = wal")
    conn.execute(TABLE)
    conn.close()
    shutil.copyfile(f"{other}-wal", f"{path}-wal")
    before = contents(path)
    with pytest.raises(RefusedError, match="another database"):
        examine(path)
    assert contents(path) == before


def torn(path: Path) -> Path:
    """Leave a database whose checkpoint was killed: some pages are new, some old."""
    conn = connect(settled(path.with_name("source.db")))
    conn.execute("UPDATE models SET note = 'y' || note, name = 'new' || name")
    conn.execute("INSERT INTO models (name) SELECT name FROM models")
    copied(path.with_name("source.db"), path)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.with_name("source.db").read_bytes()
    conn.close()
    half = len(path.read_bytes()) // 2 // 4096 * 4096
    patched(path, 0, whole[:half])
    return path


def test_a_checkpoint_cut_short_fails_as_long_as_it_is_not_finished(tmp_path: Path) -> None:
    path = torn(tmp_path / "app.db")
    found = examine(path, fold=False)
    assert "log.torn" in codes(found, "warn")
    assert (
        "without its -wal the main file may be corrupt"
        in the(found, "persistence.pending").measured
    )
    finished = examine(path)
    assert not finished.failed
    assert {"log.pending", "log.torn"} <= codes(finished)
    assert alone(path, "SELECT count(*) FROM models WHERE name LIKE 'new%'") == [(800,)]
    assert alone(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_deleted_log_is_told_by_what_the_index_still_knows(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    source = tmp_path / "source.db"
    conn = connect(source)
    conn.execute(TABLE)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in NAMES:
        conn.execute("INSERT INTO models (name) VALUES (?)", (name,))
    copied(source, path, "", "-shm")
    conn.close()
    found = examine(path)
    gone = the(found, "log.gone")
    assert gone.severity == "warn"  # nobody holds the index: after a power cut it says anything
    assert "18 frames" in gone.measured
    assert gone.data["max_frame"] == 18


def test_a_log_deleted_in_use_fails_and_nothing_is_opened(tmp_path: Path) -> None:
    path = incident(tmp_path / "app.db")
    with python(
        """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1])
        print(conn.execute("SELECT count(*) FROM models").fetchone(), flush=True)
        sys.stdin.readline()
        """,
        path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        Path(f"{path}-wal").unlink()
        before = contents(path)
        found = examine(path)
        assert contents(path) == before
        assert not Path(f"{path}-wal").exists()
    assert codes(found, "fail") == {"log.deleted"}
    assert "integrity.not-checked" in codes(found, "note")


HOLDER = """
    import sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    for n in range(18):
        conn.execute("INSERT INTO models (name) VALUES (?)", (f"Model-{n}",))
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_an_index_that_lies_about_the_fold_fails_and_a_recovery_still_saves_the_rows(
    tmp_path: Path,
) -> None:
    path = settled(tmp_path / "app.db", 1)  # with an index: two pages a commit
    with python(HOLDER, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        patched(Path(f"{path}-shm"), 96, struct.pack("=I", 36))  # nBackfill
        patched(Path(f"{path}-shm"), 128, struct.pack("=I", 36))
        before = contents(path)
        found = examine(path)
        assert contents(path) == before
    wrong = the(found, "log.wrong-index")
    assert wrong.severity == "fail"
    assert "18 rows" in wrong.measured
    assert found.failed
    assert not examine(path).failed  # nobody is attached: recovered, then folded
    assert alone(path) == [(19,)]


def test_a_main_file_that_lacks_rows_differs(tmp_path: Path) -> None:
    whole, lacking = settled(tmp_path / "whole.db"), settled(tmp_path / "lacking.db")
    conn = connect(lacking, "delete")
    conn.execute("DELETE FROM models WHERE id > 390")
    conn.execute("UPDATE models SET note = 'other' WHERE id = 1")
    conn.close()
    view, main = Database(connect(whole, "delete")), Database(connect(lacking, "delete"))
    with unwatched("rows") as tick:
        before = read_content(view, None, tick)
    for snapshot in (before, None):
        (found,) = compare(main, view, snapshot, None, VerifyOptions(), "x")
        assert found.severity == "fail"
        assert found.data["tables"] == {"models": {"expected": 400, "found": 390}}
    (same,) = compare(view, view, before, None, VerifyOptions(), "x")
    assert same.severity == "pass"
    assert same.data["rows"] == 400


def test_rows_that_only_an_index_still_has_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    conn = connect(path, "delete")
    conn.execute("CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    conn.execute("CREATE INDEX covering ON w (v, k)")
    conn.execute("INSERT INTO w VALUES ('a', 1), ('b', 2), ('c', 3)")
    (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'w'").fetchone()
    with unwatched("rows") as tick:
        before = read_content(Database(conn), None, tick)
    conn.close()
    patched(path, (root - 1) * 4096 + 3, struct.pack(">H", 1))  # the cells of its leaf
    conn = connect(path, "delete")
    (found,) = compare(Database(conn), Database(conn), before, None, VerifyOptions(), "x")
    assert found.data["tables"] == {"w": {"expected": 3, "found": 1}}


def test_one_changed_byte_one_type_and_one_key_are_seen(tmp_path: Path) -> None:
    conn = connect(tmp_path / "a.db", "delete")
    conn.execute("CREATE TABLE t (v)")
    conn.execute("INSERT INTO t VALUES (CAST('abc' AS TEXT)), (x'00ff'), (1), (1.5), (NULL)")
    changes = [
        "UPDATE t SET v = 'abd' WHERE v = 'abc'",
        "UPDATE t SET v = CAST(v AS BLOB) WHERE v = 'abd'",
        "UPDATE t SET v = 1.0 WHERE v = 1",
        "UPDATE t SET v = zeroblob(100000) WHERE v IS NULL",
        "UPDATE t SET v = CAST(zeroblob(100000) AS TEXT) WHERE typeof(v) = 'blob' AND v <> x'00ff'",
        "UPDATE t SET rowid = 99 WHERE rowid = 1",
    ]
    seen = set()
    with unwatched("rows") as tick:
        for change in ["SELECT 1", *changes]:
            conn.execute(change)
            seen.add(read_content(Database(conn), None, tick).tables["t"].digest)
    assert len(seen) == len(changes) + 1


def test_of_a_big_database_only_tables_in_the_log_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "SMALL", 0)
    statements = ["INSERT INTO models (name) VALUES ('a')"]
    path = crashed(tmp_path / "a.db", statements, before=[TABLE, "CREATE TABLE quiet (v)"])
    shutil.copyfile(path, tmp_path / "b.db")
    shutil.copyfile(f"{path}-wal", tmp_path / "b.db-wal")
    assert set(the(examine(path), "persistence.same").data["tables"]) == {"models"}  # type: ignore[call-overload]
    deep = examine(tmp_path / "b.db", deep=True)
    assert set(the(deep, "persistence.same").data["tables"]) == {"models", "quiet"}  # type: ignore[call-overload]
    quiet = the(examine(path), "persistence.same")
    assert "no table had pages in the log" in quiet.measured


def test_tables_that_this_sqlite_cannot_ask_for_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    conn = connect(path)
    conn.create_collation("HOUSE", lambda a, b: (a > b) - (a < b))
    conn.execute("CREATE TABLE odd (v TEXT PRIMARY KEY COLLATE HOUSE) WITHOUT ROWID")
    conn.execute("INSERT INTO odd VALUES ('a'), ('b')")
    conn.execute("CREATE TABLE plain (v)")
    conn.close()
    found = examine(path)
    assert not found.failed
    assert "odd" in the(found, "integrity.unchecked").measured


def test_writers_that_never_stop_are_no_loss(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with python(
        """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
        print("ready", flush=True)
        while True:
            conn.execute("INSERT INTO models (name) VALUES ('another')")
        """,
        path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        for _ in range(3):
            found = examine(path, "log", "checkpoint", "persistence", timeout=10)
            assert not found.failed, found.findings
            assert {"persistence.same", "persistence.busy"} & set(severities(found))


def test_figures_are_those_of_inspect_wal_where_no_process_has_the_log(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.db", ["CREATE TABLE t(x)", "PRAGMA wal_checkpoint(PASSIVE)"])
    Path(f"{path}-shm").unlink(missing_ok=True)
    told = modelstore("inspect-wal", path, "--no-checkpoint", "--json").json
    found = examine(path, "log", fold=False).checkpoint
    assert found is not None
    assert (found.log, found.checkpointed, found.left) == (2, 2, 0)
    assert (told["checkpointed"], told["left"]) == (2, 0)
