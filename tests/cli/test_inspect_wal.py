from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.logs import flip_bit, frame_offset, killed_writer, state_of
from tests.cli.program import alone, environment, modelstore, python, reader, records
from tests.waiting import PATIENCE, wait_until

JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
PROGRAM = (sys.executable, "-m", "modelstore")


def test_the_state_is_one_line_that_anyone_understands(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    result = modelstore("inspect-wal", db, "--no-checkpoint")
    assert result.code == 0
    first = result.out.splitlines()[0]
    assert first == ("18 rows in 18 frames are only in the WAL. Without it, models loses 18 rows.")
    assert "Model-0, Model-1" in result.out
    assert "8 more" in result.out
    every = modelstore("inspect-wal", db, "--no-checkpoint", "--all")
    assert "Model-17" in every.out


def test_no_checkpoint_changes_nothing(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    before = state_of(db)
    for extra in ([], ["--json"], ["--frames"], ["--transactions"], ["-f", "csv"], ["--deep"]):
        assert modelstore("inspect-wal", db, "--no-checkpoint", *extra).code == 0
    assert state_of(db) == before


def test_without_it_the_log_is_folded_and_that_is_said(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    result = modelstore("inspect-wal", db)
    assert result.code == 0
    assert "18 rows in 18 frames are only in the WAL" in result.out
    assert "On exit: 18 checkpointed, 0 left; busy: no" in result.out
    assert alone(db) == [(18,)]
    assert "Nothing is in the WAL" in modelstore("inspect-wal", db).out


def test_a_log_that_makes_the_database_malformed_is_shown_and_not_folded(tmp_path: Path) -> None:
    """The log of another database with pages of the same size: SQLite would replay it."""
    code = """
        import os, sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("PRAGMA journal_mode=wal")
        conn.execute("PRAGMA wal_autocheckpoint=0")
        tables, rows = sys.argv[2].split(","), range(int(sys.argv[3]))
        for table in tables:
            conn.execute(f"CREATE TABLE {table} (k INTEGER PRIMARY KEY, name, v)")
            for n in rows:
                conn.execute(f"INSERT INTO {table} (name, v) VALUES ('n', 'v' || zeroblob(50))")
        conn.execute("PRAGMA wal_checkpoint(truncate)")
        for table in tables:
            for n in range(50):
                conn.execute(f"INSERT INTO {table} (name, v) VALUES ('n', 'v' || zeroblob(50))")
        os.kill(os.getpid(), 9)
    """
    db, other = tmp_path / "app.db", tmp_path / "other.db"
    for path, tables, rows in ((db, "users,orders", "300"), (other, "models,x,y", "100")):
        with python(code, path, tables, rows) as process:
            process.wait()
    (tmp_path / "app.db-shm").unlink()
    os.replace(f"{other}-wal", f"{db}-wal")
    before = state_of(db)
    result = modelstore("inspect-wal", db)
    assert result.code == 5
    assert "On exit: nothing was folded: with this log the database is malformed" in result.out
    assert state_of(db) == before


def test_a_catalogues_models_at_risk_are_named(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(1, "Old")).code == 0
    with reader(db):
        arguments = ("import", "-", "--db", db, "--timeout", "100ms")
        assert modelstore(*arguments, stdin=records(18)).code == 4
        seen = modelstore("inspect-wal", db, "--no-checkpoint", "--json", "--all").json
    (models,) = [table for table in seen["tables"] if table["name"] == "models"]
    assert models["lost"]["count"] == 18
    assert sorted(models["lost"]["names"]) == sorted(f"Model-{n}" for n in range(18))


def test_frames_and_transactions_are_listed(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 4)
    frames = modelstore("inspect-wal", db, "--frames", "--no-checkpoint", "--json").json["frames"]
    assert [frame["frame"] for frame in frames] == [1, 2, 3, 4]
    assert {frame["object"] for frame in frames} == {"models"}
    assert {frame["state"] for frame in frames} == {"committed"}
    result = modelstore("inspect-wal", db, "--transactions", "--no-checkpoint", "-f", "tsv")
    assert len(result.out.splitlines()) == 5


def test_a_log_without_its_database_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 4)
    os.rename(tmp_path / "app.db-wal", tmp_path / "lost.bin")
    result = modelstore("inspect-wal", tmp_path / "lost.bin")
    assert result.code == 0
    assert "no database beside this log" in result.out
    db.unlink()
    os.rename(tmp_path / "lost.bin", tmp_path / "app.db-wal")
    result = modelstore("inspect-wal", db)
    assert result.code == 0
    assert "4" in result.out
    assert not db.exists()


def test_damage_that_sqlite_would_hide_is_exit_5(tmp_path: Path) -> None:
    db, wal = tmp_path / "app.db", tmp_path / "app.db-wal"
    killed_writer(db, 30)
    (tmp_path / "app.db-shm").unlink()
    flip_bit(wal, frame_offset(wal, 6) + 500)
    result = modelstore("inspect-wal", db, "--json")
    assert result.code == 5
    log = result.json["log"]
    assert (log["committed"], log["damaged"], log["ignored_frames"]) == (5, 1, 24)
    assert log["later_commits"] == 24
    words = modelstore("inspect-wal", db)
    assert words.out.startswith("Frame 6 is damaged. SQLite will silently ignore")


@pytest.mark.parametrize(
    "fault", ["empty", "short", "zeros", "text", "directory", "fifo", "truncated", "header"]
)
def test_every_broken_log_gets_an_answer(tmp_path: Path, fault: str) -> None:
    db, wal = tmp_path / "app.db", tmp_path / "app.db-wal"
    killed_writer(db, 6)
    whole = wal.read_bytes()
    (tmp_path / "app.db-shm").unlink()
    if fault in ("directory", "fifo"):
        wal.unlink()
        wal.mkdir() if fault == "directory" else os.mkfifo(wal)
    else:
        wal.write_bytes(
            {
                "empty": b"",
                "short": whole[:20],
                "zeros": bytes(len(whole)),
                "text": b"this is no log" * 400,
                "truncated": whole[: len(whole) // 2],
                "header": whole[:9] + b"\xff" + whole[10:],
            }[fault]
        )
    result = modelstore("inspect-wal", db, "--no-checkpoint")
    assert result.code in (0, 3, 5), result
    assert "Traceback" not in result.err
    assert result.out or result.err.startswith("error: ")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_that_was_cut_short_is_damage_without_any_log(tmp_path: Path, mode: str) -> None:
    db = tmp_path / "app.db"
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
        conn.execute("CREATE TABLE t (x)")
        conn.executemany("INSERT INTO t VALUES (?)", ((bytes(1000),) for _ in range(200)))
    whole = modelstore("inspect-wal", db)
    assert (whole.code, "damaged" in whole.out) == (0, False)
    os.truncate(db, db.stat().st_size // 4096 // 2 * 4096)
    before = state_of(db)
    for extra in ([], ["--no-checkpoint"]):
        result = modelstore("inspect-wal", db, *extra)
        assert result.code == 5
        first, *_, last = result.out.splitlines()
        assert first.startswith("The database is damaged: it ends after page ")
        assert "main file alone" in result.out
        assert last.startswith("On exit: ")
        assert modelstore("inspect-wal", db, "--json", *extra).json["damaged"] is True
    assert state_of(db) == before
    # Such a file is also what a transaction leaves that was killed on its way into it: its journal
    # takes that back, so that nothing is known before SQLite opens the database.
    (tmp_path / "app.db-journal").write_bytes(JOURNAL_MAGIC + bytes(504))
    assert modelstore("inspect-wal", db, "--no-checkpoint").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="who holds locks is known on Linux alone")
def test_every_command_that_folds_nothing_says_whether_a_reader_is_in_the_way(
    tmp_path: Path,
) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 2)
    commands = ("inspect-wal", "verify")
    with reader(db):
        with closing(sqlite3.connect(db)) as conn, conn:
            conn.execute("PRAGMA wal_autocheckpoint=0")
            conn.execute("INSERT INTO models (name) VALUES ('later')")
        answers = [modelstore(name, db, "--no-checkpoint", "--json").json for name in commands]
        assert [(answer["left"], answer["busy"]) for answer in answers] == [(3, True)] * 2
        words = modelstore("verify", db, "--no-checkpoint")
        assert "3 left; busy: yes; nothing was folded, as asked" in words.out
    answers = [modelstore(name, db, "--no-checkpoint", "--json").json for name in commands]
    assert [(answer["left"], answer["busy"]) for answer in answers] == [(3, False)] * 2


def test_what_is_no_database_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"GGUF" + bytes(100))
    result = modelstore("inspect-wal", path)
    assert (result.code, result.out) == (3, "")
    assert "GGUF" in result.err
    result = modelstore("inspect-wal", tmp_path / "gone.db")
    assert (result.code, result.out) == (3, "")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_watching_changes_nothing_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 5)
    before = state_of(db)
    process = subprocess.Popen(
        [*PROGRAM, "inspect-wal", str(db), "--watch", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert all("5 committed, 0 checkpointed, 5 left" in line for line in lines)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err == ""
    assert state_of(db) == before


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be moved there")
@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_watching_waits_for_files_that_vanish(tmp_path: Path, form: str) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 5)
    before = state_of(db)
    process = subprocess.Popen(
        [*PROGRAM, "inspect-wal", str(db), "--watch", "0.1", "-f", form],
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    out = process.stdout
    assert out is not None
    says_gone = '"error": ' if form == "jsonl" else f"{db}"
    says_there = '"committed": 5' if form == "jsonl" else "5 committed"
    first = out.readline()
    assert says_there in first
    assert form == "table" or json.loads(first)["locks_complete"] is False
    away = tmp_path / "away"
    away.mkdir()
    for name in ("app.db", "app.db-wal", "app.db-shm"):
        (tmp_path / name).rename(away / name)
    # Between two of the moves, a look may see a part of the files.
    assert any(says_gone in line for line in iter(out.readline, ""))
    for name in ("app.db-shm", "app.db-wal", "app.db"):
        (away / name).rename(tmp_path / name)
    assert any(says_there in line for line in iter(out.readline, ""))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert state_of(db) == before


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    db, page = tmp_path / "app.db", tmp_path / "wal.html"
    killed_writer(db, 5)
    before = state_of(db)
    page.write_text("what was there")
    broken = modelstore("inspect-wal", tmp_path / "gone.db", "--report", page)
    assert (broken.code, page.read_text()) == (3, "what was there")
    result = modelstore("inspect-wal", db, "--no-checkpoint", "--report", page, "--json")
    assert (result.code, result.json["lost"]) == (0, 5)
    assert ">5 rows</" in page.read_text().replace("<small>", "</")
    assert "on exit: nothing was folded: --no-checkpoint" in page.read_text()
    assert modelstore("inspect-wal", db, "--watch", "1s", "--report", page).code == 2
    for victim in (db, Path(f"{db}-wal"), Path(f"{db}-shm")):
        kept = victim.read_bytes()
        refused = modelstore("inspect-wal", db, "--no-checkpoint", "--report", victim)
        assert (refused.code, victim.read_bytes()) == (2, kept)
    assert state_of(db) == before


def test_watching_what_is_not_there_is_refused(tmp_path: Path) -> None:
    result = modelstore("inspect-wal", tmp_path / "gone.db", "--watch", "1s", "-f", "jsonl")
    assert (result.code, result.out) == (3, "")
    assert not os.listdir(tmp_path)


def test_reports_beside_a_live_writer_are_never_wrong(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 5)
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
        print("ready", flush=True)
        while True:
            conn.execute("INSERT INTO models (name) VALUES ('w')")
            conn.execute("DELETE FROM models WHERE id % 7 = 0")
    """
    with python(code, db) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen: set[int] = set()  # how many commits the log held at a look

        def look() -> bool:
            report = modelstore("inspect-wal", db, "--no-checkpoint", "--json")
            assert report.code == 0, report
            assert not report.json["damaged"]
            seen.add(report.json["log"]["commits"])
            return len(seen) > 3

        wait_until(look, writer)
