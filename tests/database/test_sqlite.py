"""The SQLite that this process uses, on machines with and without a wheel of pysqlite3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.database import sqlite
from tests.cli.program import ROOT, environment, modelstore

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="apsw's library: Linux")

WITHOUT_PYSQLITE3 = """
import json, sys
sys.modules["pysqlite3"] = None
if "own" in sys.argv:
    sys.modules["apsw"] = None
if "late" in sys.argv:
    import sqlite3
from modelstore.database import sqlite
import sqlite_utils
conn = sqlite_utils.Database(memory=True).conn
linked = conn.execute("SELECT sqlite_version()").fetchone()[0]
print(json.dumps([sqlite.SQLITE_ORIGIN, sqlite.SQLITE_VERSION, linked, sqlite.HAS_WAL_RESET_BUG]))
"""


def pythons_own(statement: str = "SELECT sqlite_version()", *arguments: str | Path) -> str:
    """Run a statement by the SQLite of a new interpreter, and return the first value."""
    code = (
        "import sqlite3, sys; conn = sqlite3.connect((sys.argv + [':memory:'])[2]);"
        "print((conn.execute(sys.argv[1]).fetchone() or [''])[0]); conn.commit()"
    )
    command = [sys.executable, "-c", code, statement, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def chosen(*how: str) -> tuple[str, str, str, bool]:
    """Return what a new interpreter without pysqlite3 chooses."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYSQLITE3, *how],
        env=environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        check=True,
    )
    origin, version, linked, has_bug = json.loads(done.stdout)
    return origin, version, linked, has_bug


@linux
def test_apsws_library_takes_the_place_of_an_older_one() -> None:
    apsw = pytest.importorskip("apsw")
    origin, version, linked, has_bug = chosen()
    assert version == linked
    if version != pythons_own():  # this Python does not have SQLite linked in
        assert version == apsw.sqlite_lib_version()
        assert origin == "from apsw's wheel"
        assert not has_bug


@pytest.mark.parametrize("how", ["own", "late"])
def test_without_it_pythons_own_is_used_and_named(how: str) -> None:
    origin, version, linked, _ = chosen(how)
    assert origin == "Python's own"
    assert version == linked == pythons_own()


def test_the_tests_run_on_the_sqlite_that_the_program_gets() -> None:
    said = modelstore("--version").out
    assert f"SQLite {sqlite.SQLITE_VERSION} ({sqlite.SQLITE_ORIGIN})" in said


VERIFY = """
import sys
sys.modules["pysqlite3"] = None
from modelstore.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@linux
def test_a_table_of_a_module_that_is_missing_is_named_and_is_no_fault(tmp_path: Path) -> None:
    database = tmp_path / "full text.db"
    for statement in (
        "CREATE VIRTUAL TABLE notes USING fts5(text)",
        "INSERT INTO notes VALUES ('a word')",
    ):
        pythons_own(statement, database)
    assert pythons_own("SELECT text FROM notes WHERE notes MATCH 'word'", database) == "a word"
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, "verify", str(database), "--json"],
        env=environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    findings = {finding["code"]: finding for finding in json.loads(done.stdout)["findings"]}
    if chosen()[0] == "from apsw's wheel":
        assert findings["integrity.virtual-tables-unchecked"]["data"]["tables"] == ["notes"]
    else:
        assert "integrity.virtual-tables-unchecked" not in findings
