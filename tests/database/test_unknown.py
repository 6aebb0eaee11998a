"""A system that does not tell who has a file open: the answer is "unknown", never "nobody"."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore.database.evidence import UNSEEN
from modelstore.database.filesystem import Mount
from modelstore.database.holders import look_at_holders
from modelstore.database.open import Purpose, open_database
from modelstore.database.probe import probe
from modelstore.errors import ExitCode
from modelstore.verify.users import users_of
from modelstore.wal import processes
from tests.cli.inside import inside, run_here
from tests.database.outside import child, crashed, reader
from tests.database.situations import LiveApp

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a log in use is not read")


NEWCOMER = """
conn = connect()
conn.execute('create table n (x)')
say('here')
hear()
"""


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_other_systems_do_not_say_nobody(
    platform: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = crashed(tmp_path / "app.db")
    monkeypatch.setattr(sys, "platform", platform)
    found = look_at_holders(str(path))
    assert (found.holders, found.complete) == ((), False)
    assert found.note
    assert look_at_holders(str(path), known=found).complete is False
    assert users_of(str(path)) == ((), found.unseen)
    with reader(path):
        assert probe(str(path)).attached is None
        assert run_here(["checkpoint", str(path), "--timeout", "0", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["blockers"] == []
        assert report["blockers_complete"] is False
        assert found.unseen in report["blockers_note"]
    with open_database(str(path), purpose=Purpose.READ) as opened:
        assert opened.db["t"].count == 5


def test_a_container_does_not_say_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crashed(tmp_path / "app.db")
    monkeypatch.setattr(processes, "_INITIAL_PID_NAMESPACE", 0)
    found = look_at_holders(str(path))
    assert not found.complete
    assert "outside this container" in (found.note or "")


def test_a_process_that_hides_its_files_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db")
    monkeypatch.setattr("modelstore.database.holders.open_files", lambda *_: None)
    found = look_at_holders(str(path))
    assert not found.complete
    assert "may not be seen" in (found.note or "")


def test_a_process_that_comes_between_two_looks_and_hides_its_files_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "app.db")
    first = look_at_holders(str(path))._replace(complete=True, note=None)
    with LiveApp.start(tmp_path / "other.db"):
        monkeypatch.setattr("modelstore.database.holders.open_files", lambda *_: None)
        assert not look_at_holders(str(path), known=first).complete


def test_other_machines_may_have_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crashed(tmp_path / "app.db")
    shared = Mount("/", "nfs4", "server:/export")
    monkeypatch.setattr("modelstore.database.holders.mount_table", lambda: (shared,))
    assert "nfs4" in (look_at_holders(str(path)).unseen or "")


def test_no_report_calls_a_look_complete_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that dropped its locks commits into a log that was deleted."""
    path = tmp_path / "app.db"
    with LiveApp.start(path) as app:
        app.do(f"py:[open(name).close() for name in ({str(path)!r}, {str(path) + '-shm'!r})]")
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink()
        assert inside("checkpoint", path).code == ExitCode.FAILED
        monkeypatch.setattr("modelstore.database.holders.open_files", lambda *_: None)
        for command in ("checkpoint", "inspect-wal", "recover"):
            said = inside(command, path)
            assert said.code == ExitCode.OK
            assert "a deleted log may still be open there" in said.out
        reports = [
            json.loads(inside(*command, "--json", "--db", path).out)
            for command in (["checkpoint"], ["inspect-wal"], ["verify"])
        ]
        told = dict(_claims(reports))
        assert {"blockers_complete", "locks_complete", "processes_complete"} <= set(told)
        for key, claim in _claims(reports):
            assert not claim, key


def _claims(value: object) -> Iterator[tuple[str, object]]:
    """Yield the claims of completeness in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.endswith("_complete"):
                yield key, inner
            yield from _claims(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _claims(inner)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_process_that_hides_its_files_cannot_hide_its_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One uses a deleted log; the index at the path is another's, who came later."""
    path = crashed(tmp_path / "app.db")
    monkeypatch.setattr("modelstore.database.holders.open_files", lambda *_: None)
    with reader(path) as hidden:
        assert not probe(str(path)).reasons
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink()
        for company in (contextlib.nullcontext(), child(NEWCOMER, path)):
            with company as newcomer:
                if newcomer is not None:
                    newcomer.hear()
                (reason,) = probe(str(path)).reasons
                assert (reason.code, reason.is_elsewhere) == (UNSEEN, True)
                assert f"pid {hidden.pid} " in reason.text
