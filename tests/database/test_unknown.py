"""A system that does not tell who has a file open: the answer is "unknown", never "nobody"."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

from modelstore.database.evidence import UNSEEN
from modelstore.database.holders import look_at_holders
from modelstore.database.open import Purpose, open_database
from modelstore.database.probe import probe
from modelstore.verify.users import users_of
from modelstore.wal import processes
from tests.cli.inside import run_here
from tests.database.outside import child, crashed, reader

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
    assert users_of(str(path)) == ((), False)
    with reader(path):
        assert probe(str(path)).attached is None
        assert run_here(["checkpoint", str(path), "--timeout", "0", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["blockers"] == []
        assert report["busy"] is not report["blockers_complete"]
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
    assert "may not be seen by this user" in (found.note or "")


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
