from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import translate_sqlite_error
from modelstore.errors import DamageError, RefusedError
from tests.cli.program import modelstore, records


def test_a_file_that_ends_within_a_page_is_damaged_and_not_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "cut.db"
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = 10  # SQLite's own says 522 here, but pysqlite3 does not tell
    for size, kind, word in ((8192, RefusedError, "disk I/O error"), (8000, DamageError, "page")):
        path.write_bytes(bytes(size))
        told = translate_sqlite_error(error, str(path))
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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_each_command_says_that_the_disk_is_full_and_harms_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        db, new = place / "m.db", place / "new.db"
        assert modelstore("import", "-", "--db", db, stdin=records(3)).code == 0
        before = db.read_bytes()
        room = os.statvfs(place)
        (place / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize))
        for arguments in (
            ("import", "-", "--db", db),
            ("import", "-", "--db", new),
            ("tag", "Model-1", "--add", "x", "--db", db),
            ("checkpoint", db),
        ):
            result = modelstore(*arguments, stdin=records(4))
            assert (result.code, result.out) == (3, ""), result.err
            error, *hint = result.err.splitlines()
            assert error.startswith(f"error: {arguments[-1]}: ")
            assert "the disk is full" in error
            assert hint == [
                "hint: free some space, then try again; what was committed before is kept"
            ]
        assert modelstore("list", "--count", "--db", db).out == "3\n"
        assert modelstore("verify", db).code == 0
        assert db.read_bytes() == before
    finally:
        subprocess.run(["umount", place], check=True)
