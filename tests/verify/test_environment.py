"""Each risk of the place is found on a real case; where root must make it, in a private mount."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelstore.database.filesystem import Mount
from modelstore.database.sqlite import has_wal_reset_bug, sqlite3
from modelstore.verify import place
from tests.cli.program import environment as clean_environment
from tests.cli.program import modelstore, python, reader
from tests.database.outside import IS_ROOT, NOBODY
from tests.verify.examining import TABLE, codes, connect, crashed, examine, incident, settled, the

HELD = (
    'import sys; held = open(sys.argv[1], "rb"); print("ready", flush=True); sys.stdin.readline()'
)


def may_mount() -> bool:
    if not (sys.platform.startswith("linux") and IS_ROOT):
        return False
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason="may not make a mount namespace")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="may not change owners")


def in_private_mounts(script: str, *arguments: str | Path) -> dict[str, Any]:
    """Run a shell script that mounts, then verify in the same namespace; return the findings."""
    command = [sys.executable, "-m", "modelstore", "verify", "--json", *map(str, arguments)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f"{script}\nexec {shlex.join(command)}"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return {found["code"]: found for found in json.loads(done.stdout)["findings"]}


def test_a_sound_place_is_described(tmp_path: Path) -> None:
    found = examine(settled(tmp_path / "a.db"), "environment")
    facts = the(found, "environment.facts")
    assert facts.severity == "pass"
    assert sqlite3.sqlite_version in facts.measured
    assert facts.data["processes"] == []
    assert "nobody else" in facts.measured


@needs_mounts
def test_a_database_that_is_itself_a_mount_point(tmp_path: Path) -> None:
    path, target = settled(tmp_path / "a.db"), tmp_path / "mounted.db"
    target.touch()
    found = in_private_mounts(f"mount --bind {path} {target}", target)
    assert found["environment.mount-point"]["result"] == "fail"


@needs_mounts
def test_a_log_that_lies_on_another_device(tmp_path: Path) -> None:
    path, log = incident(tmp_path / "a.db"), tmp_path / "log"
    Path(f"{path}-wal").rename(log)
    Path(f"{path}-wal").touch()
    found = in_private_mounts(f"mount --bind {log} {path}-wal", "--no-checkpoint", path)
    assert found["environment.device"]["result"] == "fail"


@needs_mounts
def test_a_database_in_memory(tmp_path: Path) -> None:
    path, mount = settled(tmp_path / "a.db"), tmp_path / "m"
    mount.mkdir()
    script = f"mount -t tmpfs none {mount}; cp {path} {mount}/a.db"
    found = in_private_mounts(script, mount / "a.db")
    assert found["environment.volatile"]["result"] == "warn"
    assert found["environment.facts"]["data"]["file_system"] == "tmpfs"


@needs_mounts
def test_a_full_disk_cannot_take_the_fold(tmp_path: Path) -> None:
    rows = [f"INSERT INTO models (note) VALUES (zeroblob({n}))" for n in (300_000, 300_000)]
    path, mount = crashed(tmp_path / "a.db", rows, before=[TABLE]), tmp_path / "m"
    mount.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m none {mount}; cp {path} {path}-wal {mount}; "
        f"cat /dev/zero > {mount}/filler 2>/dev/null || true"
    )
    found = in_private_mounts(script, mount / "a.db")
    assert found["environment.space"]["result"] == "fail"
    assert found["environment.space"]["data"]["needed"] > 500_000
    failed = [code for code, finding in found.items() if finding["result"] == "fail"]
    assert set(failed) > {"environment.space"}  # nor could SQLite fold it
    assert not {"persistence.same", "checkpoint.done"} & set(found)


@needs_mounts
def test_a_nearly_full_disk(tmp_path: Path) -> None:
    path, mount = settled(tmp_path / "a.db"), tmp_path / "m"
    mount.mkdir()
    found = in_private_mounts(
        f"mount -t tmpfs -o size=900k none {mount}; cp {path} {mount}", mount / "a.db"
    )
    assert found["environment.space"]["result"] == "warn"


@needs_mounts
def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    path, mount = settled(tmp_path / "a.db"), tmp_path / "m"
    mount.mkdir()
    script = f"mount -t tmpfs none {mount}; cp {path} {mount}; mount -o remount,ro {mount}"
    found = in_private_mounts(script, mount / "a.db")
    assert found["environment.read-only-mount"]["result"] == "warn"
    assert found["persistence.same"]["result"] == "pass"


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs"])
def test_file_systems_without_coherent_memory_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Such mounts cannot be made here: the system's table is replaced."""
    mounts = (Mount("/", "ext4", "/dev/a"), Mount(str(tmp_path), kind, "server:/x"))
    monkeypatch.setattr(place, "mount_table", lambda: mounts)
    found = examine(settled(tmp_path / "a.db"), "environment")
    assert the(found, "environment.file-system").severity == "warn"
    assert kind in the(found, "environment.file-system").measured


def test_a_hard_link_is_a_second_name(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    os.link(path, tmp_path / "b.db")
    found = examine(path)
    assert the(found, "environment.hard-link").severity == "warn"
    assert "b.db" in the(found, "environment.hard-link").measured
    (tmp_path / "b.db-wal").write_bytes(b"x" * 100)
    second = the(examine(path), "environment.hard-link")
    assert second.severity == "fail"
    assert "b.db-wal" in second.measured


def test_a_symbolic_link_is_a_second_name(tmp_path: Path) -> None:
    path, link = settled(tmp_path / "a.db"), tmp_path / "link.db"
    link.symlink_to(path)
    found = examine(link)
    assert the(found, "environment.symlink").severity == "warn"
    assert codes(found) == {"environment.symlink"}
    Path(f"{link}-wal").write_bytes(b"x" * 100)
    assert the(examine(link), "environment.symlink").severity == "fail"
    assert not codes(examine(path))


@needs_root
def test_a_log_that_its_owner_cannot_use(tmp_path: Path) -> None:
    path = incident(tmp_path / "a.db")
    os.chown(tmp_path, NOBODY, NOBODY)
    os.chown(path, NOBODY, NOBODY)
    Path(f"{path}-wal").chmod(0o644)
    found = examine(path, fold=False)
    assert the(found, "environment.owner").severity == "fail"
    assert f"uid {NOBODY}" in the(found, "environment.owner").measured
    assert f"chown {NOBODY}" in (the(found, "environment.owner").advice or "")


def test_a_log_of_another_mode(tmp_path: Path) -> None:
    path = incident(tmp_path / "a.db")
    Path(f"{path}-wal").chmod(0o666)
    path.chmod(0o600)
    found = examine(path, "environment", fold=False)
    assert the(found, "environment.mode").severity == "warn"


@needs_root
def test_a_directory_that_its_owner_cannot_write_to(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    path = settled(home / "a.db")
    os.chown(path, NOBODY, NOBODY)
    found = examine(path)
    assert codes(found) == {"environment.directory"}
    path.chmod(0o444)
    assert "environment.read-only" in codes(examine(path))


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_directory_that_this_user_cannot_write_to(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "environment.this-user" in codes(examine(path))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_others_that_have_it_open_are_named(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with python(HELD, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        facts = the(examine(path, "environment"), "environment.facts")
    assert f"pid {process.pid}" in facts.measured
    assert facts.data["processes"][0]["sqlite_version"] is None  # type: ignore[index]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_the_sqlite_of_others_is_read_from_what_they_loaded(tmp_path: Path) -> None:
    path = settled(tmp_path / "a.db")
    with reader(path):
        found = examine(path, "environment")
    processes = the(found, "environment.facts").data["processes"]
    assert isinstance(processes, list)
    version = processes[0]["sqlite_version"]
    other = subprocess.run(
        [sys.executable, "-c", "import sqlite3; print(sqlite3.sqlite_version)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert version in {other, None}
    is_affected = version is not None and has_wal_reset_bug(version)
    assert ("environment.other-sqlite" in codes(found)) == is_affected


def test_an_old_sqlite_of_our_own(tmp_path: Path) -> None:
    """pysqlite3 is hidden, so that the program takes the interpreter's own SQLite."""
    path = settled(tmp_path / "a.db")
    hidden = tmp_path / "hide"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['pysqlite3'] = None")
    result = modelstore("verify", path, "--json", env={"PYTHONPATH": str(hidden)})
    found = {finding["code"]: finding for finding in result.json["findings"]}
    version = found["environment.facts"]["data"]["sqlite_version"]
    assert ("environment.sqlite" in found) == has_wal_reset_bug(version)
    assert result.code == 0


def test_a_leftover_index_without_a_log(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "a.db"
    conn = connect(source)
    conn.execute(TABLE)
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
    for suffix in ("", "-shm"):
        Path(f"{path}{suffix}").write_bytes(Path(f"{source}{suffix}").read_bytes())
    conn.close()
    assert codes(examine(path)) == {"environment.shm"}
    assert not codes(examine(path))
