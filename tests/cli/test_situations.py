"""The README's hook before a backup and its health checks, beside applications in trouble."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.program import modelstore
from tests.database.situations import HARMFUL, LiveApp, Situation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")

HOOKS = (
    ("checkpoint", "DB", "--timeout", "200ms"),  # before-backup stops at the first that fails
    ("verify", "DB", "--quick", "--timeout", "200ms", "--max-wal-size", "256MB"),
    (
        *("verify", "DB", "--no-checkpoint", "--only", "file", "--only", "log"),
        *("--only", "expectations", "--max-wal-size", "256MB"),
    ),
)


@pytest.mark.parametrize("situation", HARMFUL, ids=lambda situation: situation.name)
def test_hooks_fail_and_name_the_process(situation: Situation, tmp_path: Path) -> None:
    if not all(map(shutil.which, situation.needs)) or (situation.needs and os.geteuid()):
        pytest.skip("needs unshare, and root")
    app, path = situation.make(tmp_path)
    with app:
        for hook in HOOKS:
            result = modelstore(*(path if word == "DB" else word for word in hook))
            assert result.code in (3, 5), (hook, result)
            text = result.out + result.err
            assert re.search(rf"pid\s+{app.pid}\b", text), (hook, text)


def test_hooks_pass_beside_a_healthy_application(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with LiveApp.start(path):
        for hook in HOOKS[:2]:
            result = modelstore(*(path if word == "DB" else word for word in hook))
            assert result.code == 0, (hook, result)


def test_older_log_is_folded_only_when_asked(tmp_path: Path) -> None:
    """A backup restored beside the log of a fresh installation, which nobody folds by accident."""
    fresh, backup = tmp_path / "fresh.db", tmp_path / "app.db"
    with LiveApp.start(fresh) as app:
        app.end("crash")
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)"
    setup = (
        "PRAGMA journal_mode=WAL",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x)",
        f"{many} INSERT INTO t (x) SELECT 'precious ' || i FROM n",
    )
    with LiveApp.start(backup, *setup) as app:
        app.end("close")
    shutil.copyfile(f"{fresh}-wal", f"{backup}-wal")
    before = Path(f"{backup}-wal").read_bytes()
    for command in ("inspect-wal", "verify", "checkpoint"):
        modelstore(command, backup)
        assert Path(f"{backup}-wal").read_bytes() == before, command
    refused = modelstore("checkpoint", backup, "--json")
    assert refused.code == 5
    assert refused.json["forbidden"]
    assert not refused.json["in_main_file"]
    confirmed = modelstore("checkpoint", backup, "--yes", "--json")
    assert confirmed.code == 0, confirmed
    saved = confirmed.json["discarded"]
    assert Path(saved["saved_log"]).read_bytes() == before
    assert Path(saved["saved_database"]).stat().st_size > backup.stat().st_size
