"""What stands in the way of a command: a disk that fails, a stopped or exclusive process."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore.database import live_log
from modelstore.database.files import sync_file
from tests.cli.inside import run_here
from tests.cli.logs import killed_writer, state_of
from tests.cli.program import alone, modelstore
from tests.database.situations import WAL, LiveApp

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
RENAME = "UPDATE models SET name = name || '!'"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue of one model."""
    db = tmp_path / "models.db"
    assert modelstore("import", "-", "--db", db, stdin=b'{"name": "One"}').code == 0
    return db


@linux
@pytest.mark.parametrize(
    "command", [("checkpoint",), ("checkpoint", "--mode", "passive"), ("tag", "One!", "--add", "x")]
)
def test_a_sync_that_fails_once_is_exit_5_and_the_log_is_kept(
    command: tuple[str, ...], catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel forgets the pages that it could not write: the next sync may well succeed."""
    with LiveApp.start(catalogue, *WAL, RENAME) as app:
        app.end("crash")
    size = os.path.getsize(f"{catalogue}-wal")
    failed: list[str] = []

    def fail_once(descriptor: int | None, path: str) -> None:
        if path == str(catalogue) and not failed:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        sync_file(descriptor, path)

    monkeypatch.setattr(live_log, "sync_file", fail_once)
    assert run_here([*command, "--db", str(catalogue)]) == 5
    assert failed
    assert os.path.getsize(f"{catalogue}-wal") >= size
    monkeypatch.undo()
    assert modelstore("checkpoint", catalogue).code == 0
    assert alone(catalogue, "SELECT name FROM models") == [("One!",)]


@linux
@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("command", ["checkpoint", "list", "inspect-wal", "verify"])
def test_a_file_that_cannot_be_read_is_named(
    command: str,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The disk fails under the raw look, before SQLite has the files open."""
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    before = state_of(db)
    broken = os.stat(f"{db}{suffix}")

    def failing(reading: Callable[[int, Any, int], Any]) -> Callable[[int, Any, int], Any]:
        def read(descriptor: int, size_or_buffers: Any, offset: int) -> Any:
            if os.path.samestat(os.fstat(descriptor), broken):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return reading(descriptor, size_or_buffers, offset)

        return read

    monkeypatch.setattr(os, "pread", failing(os.pread))
    monkeypatch.setattr(os, "preadv", failing(os.preadv))
    assert run_here([command, "--db", str(db)]) == 3
    said = capfd.readouterr().err
    assert str(db) in said
    assert os.strerror(errno.EIO) in said
    monkeypatch.undo()
    assert state_of(db) == before


@linux
def test_a_stopped_process_is_said_to_be_in_the_way(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    with LiveApp.start(db, "BEGIN", "SELECT * FROM models") as reader, LiveApp.start(db, RENAME):
        os.kill(reader.pid, signal.SIGSTOP)
        blocked = modelstore("checkpoint", db, "--timeout", "50ms", "--json")
        assert blocked.code == 4
        (blocker,) = [b for b in blocked.json["blockers"] if b["pid"] == reader.pid]
        assert blocker["is_stopped"]
        words = modelstore("checkpoint", db, "--timeout", "50ms")
        assert "(stopped)" in words.out
    assert modelstore("checkpoint", db).code == 0


@linux
def test_a_stopped_writer_is_said_to_hold_the_lock(catalogue: Path) -> None:
    with LiveApp.start(catalogue, *WAL, "BEGIN IMMEDIATE", RENAME) as writer:
        os.kill(writer.pid, signal.SIGSTOP)
        refused = modelstore("tag", "One", "--add", "x", "--db", catalogue, "--timeout", "50ms")
        assert refused.code == 7
        assert f"pid {writer.pid}" in refused.err
        assert "stopped: waiting will not help" in refused.err


@linux
@pytest.mark.parametrize("command", ["checkpoint", "verify", "inspect-wal"])
def test_an_exclusive_process_is_named_and_not_waited_for(command: str, tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    with LiveApp.start(
        db, "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", RENAME
    ) as app:
        blocked = modelstore(command, db, "--timeout", "1h")
        assert blocked.code == 5
        assert f"pid {app.pid}" in blocked.out + blocked.err
        assert "waiting will not help" in " ".join((blocked.out + blocked.err).split())
        app.end("close")
    assert len(alone(db)) == 1
