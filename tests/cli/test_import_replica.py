"""``import --replica``: exit 0 means that the rows are in the replica too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelstore.database.holders import look_at_holders
from modelstore.importing.replicated import may_have_daemon
from tests.cli.program import Result, alone, modelstore, records
from tests.database.situations import LiveApp
from tests.replica.litestream import (
    LITESTREAM,
    daemon,
    needs_litestream,
    pretend,
    with_litestream,
)

# Restores as Litestream does, and then takes rows away.
SPOILER = f"""
import sqlite3, subprocess
done = subprocess.run([{LITESTREAM!r}, *sys.argv[1:]])
if sys.argv[1] == "restore" and not done.returncode:
    db = sqlite3.connect(sys.argv[sys.argv.index("-o") + 1], isolation_level=None)
    db.execute("DELETE FROM models WHERE name = 'New-1'")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
sys.exit(done.returncode)
"""


def _import(db: Path, url: str, *options: str, env: dict[str, str]) -> Result:
    return modelstore(
        *("import", "-", "--db", db, "--replica", url),
        *options,
        stdin=records(3, "New"),
        env=env,
    )


@needs_litestream
def test_without_a_daemon_it_replicates_once_and_compares(tmp_path: Path) -> None:
    db, url = tmp_path / "models.db", f"file://{tmp_path}/replica"
    done = _import(db, url, "--json", env=with_litestream())
    assert done.code == 0, done.err
    assert done.json["in_main_file"] is True
    assert done.json["replica"]["verdict"] == "same"
    assert alone(db) == [(3,)]
    done = _import(db, url, env=with_litestream())
    assert done.code == 0, done.err
    assert "every row is in the replica" in done.out


@needs_litestream
def test_beside_a_daemon_it_waits_for_the_daemon(tmp_path: Path) -> None:
    db, url = tmp_path / "models.db", f"file://{tmp_path}/replica"
    assert modelstore("import", "-", "--db", db, stdin=records(1)).code == 0
    with daemon(db, url):
        done = _import(db, url, "--allow-pending", "--timeout", "2s", env=with_litestream())
    assert done.code == 0, done.err


@needs_litestream
def test_a_replica_that_lacks_rows_of_the_import_is_exit_5(tmp_path: Path) -> None:
    db, url = tmp_path / "models.db", f"file://{tmp_path}/replica"
    assert _import(db, url, env=with_litestream()).code == 0
    env = pretend(tmp_path, SPOILER)
    done = _import(db, url, "--json", "--timeout", "2s", "--tag", "late", env=env)
    assert done.code == 5, done.out
    assert done.json["replica"]["verdict"] == "lost"
    assert done.json["replica"]["tables"]["models"]["first"] == ["New-1"]
    assert done.json["in_main_file"] is True


def test_a_replica_that_does_not_answer_is_exit_4(tmp_path: Path) -> None:
    db, env = tmp_path / "models.db", pretend(tmp_path, "sys.exit(1)")
    done = _import(db, "s3://bucket/path", "--timeout", "100ms", "--json", env=env)
    assert done.code == 4, done.err
    assert done.json["in_main_file"] is True


def test_wrong_calls_write_nothing(tmp_path: Path) -> None:
    db, env = tmp_path / "models.db", pretend(tmp_path, "sys.exit(1)")
    assert _import(db, "s3://me:hush@bucket", env=env).code == 2
    assert _import(db, "s3://bucket/path", "--dry-run", env=env).code == 2
    assert not db.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who has it open")
def test_a_litestream_at_work_is_seen_and_no_second_one_is_started(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    rename = "py:open('/proc/self/comm', 'w').write('litestream')"
    with LiveApp.start(path) as app:  # with rows: an empty database has no index to be locked
        is_complete = look_at_holders(str(path)).complete
        assert may_have_daemon(str(path)) != is_complete  # another program, where all are seen
        app.do(rename)
        assert may_have_daemon(str(path))
    assert not may_have_daemon(str(path))
