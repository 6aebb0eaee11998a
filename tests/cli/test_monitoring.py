from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.cli.program import ROOT, environment, modelstore, python, reader, records
from tests.cli.shelf import KILLED_WRITER


@pytest.fixture
def database(tmp_path: Path) -> Path:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(3)).code == 0
    return db


def test_files_and_lines_for_monitors(database: Path, tmp_path: Path) -> None:
    result = modelstore(
        *("verify", database, "-f", "openmetrics"),
        *("--textfile", tmp_path / "m.prom", "--sarif", tmp_path / "m.sarif"),
    )
    assert result.code == 0, result.err
    assert result.out.endswith("# EOF\n")
    assert (tmp_path / "m.prom").read_text().endswith("# EOF\n")
    assert json.loads((tmp_path / "m.sarif").read_text())["version"] == "2.1.0"


def test_a_plugins_exit_codes(database: Path, tmp_path: Path) -> None:
    good = modelstore("verify", database, "--nagios")
    assert (good.code, good.out[:15]) == (0, "MODELSTORE OK -")
    bad = modelstore("verify", database, "--nagios", "--expect-count", "9")
    assert (bad.code, bad.out[:21]) == (2, "MODELSTORE CRITICAL -")
    none = modelstore("verify", tmp_path / "none.db", "--nagios")
    assert (none.code, none.out[:20]) == (3, "MODELSTORE UNKNOWN -")


@pytest.mark.parametrize("is_left", [False, True])
def test_a_session_of_pytest_fails_if_its_database_does_not_persist(
    database: Path, tmp_path: Path, is_left: bool
) -> None:
    if is_left:
        with python(KILLED_WRITER, database) as process:
            process.wait(30)
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "modelstore.pytest_plugin"),
            *("-c", "pytest.ini", f"--modelstore-verify={database}", "test_it.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # An installed plugin is loaded by its entry point, and would be there twice.
        env=environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        check=False,
    )
    assert "1 passed" in done.stdout
    assert ("does not persist" in done.stdout) is is_left
    assert (done.returncode != 0) is is_left


def test_a_hook_of_pre_commit_verifies_every_file_that_it_names(
    database: Path, tmp_path: Path
) -> None:
    left = tmp_path / "left.db"
    shutil.copy(database, left)
    with python(KILLED_WRITER, left) as process:
        process.wait(30)
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    program, *arguments = hook["entry"].split()
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments, "--only=persistence", left, database],
        capture_output=True,
        text=True,
        env=environment({}),
        check=False,
    )
    assert done.returncode == 5
    lines = done.stdout.splitlines()
    verdicts = {path: lines[lines.index(f"{path} (from --db)") + 1] for path in (left, database)}
    assert verdicts == {left: "FAIL, 1 failure", database: "PASS"}


@pytest.mark.skipif(sys.platform != "linux", reason="who holds locks is known on Linux alone")
def test_metrics_of_a_log_that_a_reader_holds(database: Path) -> None:
    names = ("wal_live_size_bytes", "last_fold_timestamp_seconds")
    reads = "wal_oldest_reader_start_timestamp_seconds"
    begun = time.time()
    folded = database.stat().st_mtime
    with reader(database) as process, python(KILLED_WRITER, database) as writer:
        writer.wait(30)
        size = Path(f"{database}-wal").stat().st_size
        arguments = ("verify", database, "--no-checkpoint", "-f", "openmetrics")
        values = metrics(modelstore(*arguments).out)
        assert [values[name] for name in names] == [size, folded]
        assert begun - 1 <= values[reads] <= time.time()
        assert process.poll() is None
    values = metrics(modelstore("verify", database, "-f", "openmetrics").out)
    assert values[names[1]] > folded
    assert reads not in values


def metrics(text: str) -> dict[str, float]:
    """Return the values of metrics that have one sample, by name."""
    samples = (line for line in text.splitlines() if not line.startswith("#"))
    return {
        line.partition("{")[0].removeprefix("modelstore_"): float(line.split()[-1])
        for line in samples
    }
