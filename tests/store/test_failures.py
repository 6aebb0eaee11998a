from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.errors import DamageError, RefusedError
from modelstore.store.failures import explain
from modelstore.store.sqlite import sqlite3
from tests.cli.program import modelstore, records


def test_a_file_that_ends_within_a_page_is_damaged_and_not_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "cut.db"
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = 10  # SQLite's own says 522 here, but pysqlite3 does not tell
    for size, kind, word in ((8192, RefusedError, "disk I/O error"), (8000, DamageError, "page")):
        path.write_bytes(bytes(size))
        told = explain(error, str(path))
        assert type(told) is kind
        assert word in told.message


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_where_shared_memory_cannot_be_had_a_database_is_read_without_it(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(3)).code == 0
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "from modelstore.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "list", "--count", "--db", str(db)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
