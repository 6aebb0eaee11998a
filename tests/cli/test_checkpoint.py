from __future__ import annotations

import os
import select
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.cli.logs import flip_bit, frame_offset, killed_writer, state_of
from tests.cli.program import alone, environment, modelstore, python, reader
from tests.waiting import PATIENCE

PINNED = """
    import sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("BEGIN")
    conn.execute("SELECT count(*) FROM models").fetchone()
    print("pinned", flush=True)
    sys.stdin.readline()
"""
WRITER = """
    import sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("PRAGMA wal_autocheckpoint=0")
    for n in range(int(sys.argv[2])):
        conn.execute("UPDATE models SET name = ? WHERE id = 1", (str(n),))
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_everything_is_folded_and_counted(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    result = modelstore("checkpoint", db, "--json")
    assert result.code == 0, result.err
    report = result.json
    assert (report["log"], report["checkpointed"], report["left"]) == (18, 18, 0)
    assert report["moved"] == 18
    assert report["bytes_moved"] == 18 * 4096
    assert report["wal_size_before"] == 32 + 18 * (24 + 4096)
    assert report["wal_size_after"] == 0
    assert report["in_main_file"] is True
    assert alone(db) == [(18,)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks are told on Linux alone")
def test_a_pinned_frame_is_named_with_its_process(tmp_path: Path) -> None:
    """A reader that began at frame 127 of 377 lets 127 frames through."""
    db = tmp_path / "app.db"
    killed_writer(db, 127)
    with python(PINNED, db) as pinned:
        assert pinned.stdout is not None
        assert pinned.stdout.readline() == "pinned\n"
        with python(WRITER, db, "250") as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "written\n"
            result = modelstore("checkpoint", db, "--timeout", "300ms", "--json")
            assert result.code == 4
            report = result.json
            assert (report["log"], report["checkpointed"], report["left"]) == (377, 127, 250)
            (blocker,) = [b for b in report["blockers"] if "backfill" in b["blocks"]]
            assert (blocker["pid"], blocker["frame"]) == (pinned.pid, 127)
            assert "python" in blocker["command"]
            words = modelstore("checkpoint", db, "--timeout", "0").out
            assert f"pid {pinned.pid}" in words
            seen = modelstore("inspect-wal", db, "--no-checkpoint", "--json").json
            (held,) = [b for b in seen["blockers"] if b["pid"] == pinned.pid]
            assert held["frame"] == 127
            assert "truncate" in held["blocks"]


def test_several_readers_of_one_mark_are_all_named(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 5)
    with reader(db) as first, reader(db) as second, python(WRITER, db, "3") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        report = modelstore("checkpoint", db, "--timeout", "0", "--json").json
        pids = {blocker["pid"] for blocker in report["blockers"]}
        assert {first.pid, second.pid} <= pids


def test_a_writer_is_not_held_up_while_a_reader_is_awaited(tmp_path: Path) -> None:
    """With SQLite's own TRUNCATE each of these commits would wait for the whole patience."""
    db = tmp_path / "app.db"
    killed_writer(db, 5)
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
        conn.execute("PRAGMA wal_autocheckpoint=0")
        for n in range(20):
            conn.execute("INSERT INTO models (name) VALUES ('w')")
        print("written", flush=True)
        sys.stdin.readline()
    """
    with reader(db) as awaited, waiting_checkpoint(db) as checkpoint:
        assert checkpoint.stderr is not None
        assert f"waiting for pid {awaited.pid}" in checkpoint.stderr.readline()
        with python(code, db) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "written\n"
            assert checkpoint.poll() is None
            awaited.communicate("\n\n")
            assert checkpoint.wait(PATIENCE) == 0
    assert alone(db) == [(25,)]


@contextmanager
def waiting_checkpoint(db: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a checkpoint with an hour's patience; it says on stderr whom it waits for."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", "checkpoint", str(db), "--timeout", "1h"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_modes_do_what_they_say(tmp_path: Path) -> None:
    for mode, size in (("passive", 1), ("full", 1), ("restart", 1), ("truncate", 0)):
        db = tmp_path / f"{mode}.db"
        killed_writer(db, 3)
        with python(PINNED.replace('conn.execute("BEGIN")', ""), db) as attached:
            assert attached.stdout is not None
            attached.stdout.readline()
            result = modelstore("checkpoint", db, "--mode", mode, "--json")
            assert result.code == 0, (mode, result.err)
            assert result.json["left"] == 0
            assert bool(result.json["wal_size_after"]) is bool(size), mode


def test_an_unknown_mode_is_a_wrong_call(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 1)
    before = state_of(db)
    result = modelstore("checkpoint", db, "--mode", "sideways")
    assert result.code == 2
    assert state_of(db) == before


def test_a_rollback_journal_database_has_nothing_to_fold(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    with sqlite3.connect(db) as conn:
        conn.execute("CREATE TABLE t (a)")
    conn.close()
    before = db.read_bytes()
    result = modelstore("checkpoint", db)
    assert result.code == 0
    assert "journal mode delete" in result.out
    assert db.read_bytes() == before


def test_a_damaged_log_is_not_folded_until_it_is_given_up(tmp_path: Path) -> None:
    """A bit flipped in frame 6 of 30 commits: a plain open and close destroys 25 of them."""
    db, wal = tmp_path / "app.db", tmp_path / "app.db-wal"
    killed_writer(db, 30)
    (tmp_path / "app.db-shm").unlink()
    flip_bit(wal, frame_offset(wal, 6) + 500)
    damaged = wal.read_bytes()
    commands: list[tuple[list[str | Path], int | None]] = [
        (["checkpoint", db], 5),
        (["inspect-wal", db], 5),
        (["verify", db], 5),
        (["list", "--db", db], None),
        (["import", "-", "--db", db], 3),
    ]
    for command, code in commands:
        result = modelstore(*command)
        assert code is None or result.code == code, (command, result)
        assert wal.read_bytes() == damaged, command
    seen = modelstore("inspect-wal", db)
    assert "Frame 6 is damaged. SQLite will silently ignore it and the 24 commits" in seen.out
    result = modelstore("checkpoint", db, "--discard-damaged", "--yes", "--json")
    assert result.code == 0, result.err
    saved = result.json["discarded"]
    assert Path(saved["saved_log"]).read_bytes() == damaged
    assert alone(db) == [(5,)]
    assert saved["kept_commits"] == 5


def test_a_sound_log_has_nothing_to_discard(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 3)
    before = state_of(db)
    result = modelstore("checkpoint", db, "--discard-damaged", "--yes")
    assert result.code == 3
    assert state_of(db)["app.db-wal"] == before["app.db-wal"]


def test_frames_folded_add_up_under_two_writers(tmp_path: Path) -> None:
    """Every frame is counted once; numbers that may be off are marked inexact."""
    db = tmp_path / "app.db"
    killed_writer(db, 1)
    assert modelstore("checkpoint", db).code == 0
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
        conn.execute("PRAGMA wal_autocheckpoint=0")
        conn.execute("PRAGMA synchronous=OFF")
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(1000):
            conn.execute("UPDATE models SET name = ? WHERE id = 1", (str(n),))
        print("done", flush=True)
        sys.stdin.readline()
    """
    folded, exact, calls = 0, True, 0
    with python(code, db) as first, python(code, db) as second:
        for writer in (first, second):
            assert writer.stdout is not None
            assert writer.stdin is not None
            writer.stdout.readline()
        for writer in (first, second):
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        done = 0
        while done < 2:
            calls += 1
            report = modelstore("checkpoint", db, "--timeout", "200ms", "--json").json
            folded += report["moved"]
            exact = exact and report["exact"]
            done = sum(_has_line(writer.stdout) for writer in (first, second))
        last = modelstore("checkpoint", db, "--json").json
        folded += last["moved"]
    assert calls >= 1
    assert folded == 2000 or (not exact and folded < 2000)


def _has_line(stream: IO[str] | None) -> bool:
    assert stream is not None
    return bool(select.select([stream], [], [], 0)[0])


def test_the_fold_survives_a_copy_of_the_main_file_alone(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    assert modelstore("checkpoint", db).code == 0
    shutil.copy(db, tmp_path / "copy.db")
    assert alone(tmp_path / "copy.db") == [(18,)]


def test_a_read_only_database_is_named(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 3)
    os.chmod(db, 0o444)
    result = modelstore("checkpoint", db)
    if os.geteuid() == 0:
        assert result.code == 0  # root may write what is read-only
    else:
        assert result.code == 3
        assert "app.db" in result.err
