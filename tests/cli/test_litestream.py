"""Beside a real Litestream, which keeps the log from being folded as its way of working."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelstore.database.holders import HolderProblem, look_at_holders
from tests.cli.program import DATA, alone, modelstore, records
from tests.replica.litestream import LITESTREAM, daemon, needs_litestream, with_litestream
from tests.waiting import wait_until

pytestmark = needs_litestream


@contextmanager
def replicating(database: Path, replica: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let Litestream replicate a database until the block ends; it has begun when this yields."""
    with subprocess.Popen(
        [LITESTREAM, "replicate", str(database), f"file://{replica}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: list(replica.rglob("*.ltx")), process)
            yield process
        finally:
            process.terminate()  # it syncs what it has not replicated yet, and ends


def test_an_import_beside_litestream(tmp_path: Path) -> None:
    db, replica, restored = (tmp_path / name for name in ("app.db", "replica", "restored.db"))
    assert modelstore("import", DATA, "--db", db).code == 0
    with replicating(db, replica) as process:
        late = [json.dumps({"name": f"Late-{n}"}).encode() for n in range(3)]
        busy = modelstore("import", "-", "--timeout", "1s", "--db", db, "--json", stdin=late[0])
        assert busy.code == 4, busy.err
        report = busy.json
        assert report["in_main_file"] is False
        assert report["checkpoint"]["wal_synced"] is True
        (blocker,) = report["checkpoint"]["blockers"]
        assert blocker["pid"] == process.pid
        assert "litestream" in blocker["command"]

        allowed = modelstore(
            *("import", "-", "--allow-pending", "--timeout", "1s", "--db", db, "--json"),
            stdin=late[1],
        )
        assert allowed.code == 0, allowed.err
        assert allowed.json["in_main_file"] is False

        folded = modelstore("checkpoint", db, "--timeout", "1s")
        assert folded.code == 4
        assert f"pid {process.pid}" in folded.out
        last = modelstore("import", "-", "--timeout", "1s", "--db", db, stdin=late[2])
        assert last.code in (0, 4)
        assert modelstore("list", "--count", "--db", db).out == "10\n"
    subprocess.run(
        [LITESTREAM, "restore", "-o", str(restored), f"file://{replica}"],
        check=True,
        capture_output=True,
    )
    assert alone(restored) == [(10,)]
    assert alone(restored, "PRAGMA integrity_check") == [("ok",)]
    names = "SELECT name FROM models WHERE name LIKE 'Late%' ORDER BY name"
    assert alone(restored, names) == [("Late-0",), ("Late-1",), ("Late-2",)]
    assert modelstore("checkpoint", db).code == 0  # with Litestream gone
    assert alone(db) == [(10,)]


_TRIES = 12  # whether an early sync costs Litestream its lock depends on how soon it comes


def _without_its_lock(database: Path) -> bool:
    troubled = look_at_holders(str(database)).troubled
    return any(HolderProblem.REPLICA_LOCK in holder.problems for holder in troubled)


@contextmanager
def lost_lock(directory: Path, url: str) -> Iterator[Path]:
    """Provoke the fault of Litestream 0.5.17: a forced sync right after its first start."""
    for number in range(_TRIES):
        db = directory / f"{number}.db"
        assert modelstore("import", "-", "--db", db, stdin=records(200)).code == 0
        with daemon(db, f"{url}/{number}", socket=directory / "s"):
            sync = [LITESTREAM, "sync", "-wait", "-socket", str(directory / "s"), str(db)]
            subprocess.run(sync, check=True, capture_output=True)
            if _without_its_lock(db):
                yield db
                return
    pytest.skip("this Litestream kept its read lock")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of its locks")
def test_nothing_is_folded_beside_a_litestream_that_has_lost_its_lock(tmp_path: Path) -> None:
    replica = tmp_path / "replica"
    more = records(200, "More")
    with lost_lock(tmp_path, f"file://{replica}") as db:
        refused = modelstore("import", "-", "--timeout", "1s", "--db", db, stdin=more)
        assert refused.code == 3
        assert refused.out == ""
        assert "lost its read lock" in refused.err
        assert "restart" in refused.err
        folded = modelstore("checkpoint", db, "--json", "--timeout", "1s")
        assert folded.code == 5
        assert folded.json["forbidden"] == ["replica-lock"]
        assert modelstore("list", "--count", "--db", db).out == "200\n"
    # The remedy that the hint names: with a new start, it holds its lock.
    url = f"file://{replica}/{db.stem}"
    with daemon(db, url):
        wait_until(lambda: not _without_its_lock(db))
        done = modelstore("import", "-", "--timeout", "1s", "--db", db, stdin=more)
        assert done.code in (0, 4), done.err
        verified = modelstore(
            *("verify", db, "--only", "replica", "--replica", url, "--no-checkpoint"),
            env=with_litestream(),
        )
        assert verified.code == 0, verified.out
