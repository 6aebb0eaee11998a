"""A fleet from end to end: machines replicate, a hub merges, and one machine is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from tests.cli.program import Result, modelstore
from tests.replica.litestream import LITESTREAM, needs_litestream, pretend, with_litestream
from tests.replica.stores import KEYS, needs_weed, object_store

pytestmark = needs_litestream


def _models(*names: str) -> bytes:
    return "\n".join(
        json.dumps({"name": name, "path": f"/srv/{name}.gguf", "architecture": "llama"})
        for name in names
    ).encode()


def _machine(directory: Path, name: str, fleet: Path, *names: str, host: str = "") -> Path:
    """Let a machine import models and replicate them; its `host` is its name, or another."""
    db = directory / f"{name}.db"
    done = modelstore(
        *("import", "-", "--db", db, "--host", host or name),
        *("--replica", f"file://{fleet}/{name}"),
        stdin=_models(*names),
        env=with_litestream(),
    )
    assert done.code == 0, done.err
    return db


def _merge(hub: Path, fleet: Path | str, **env: str) -> Result:
    url = fleet if isinstance(fleet, str) else f"file://{fleet}"
    return modelstore(
        *("import", "--from", "fleet", url, "--db", hub, "--json"), env={**with_litestream(), **env}
    )


def test_machines_are_merged_and_only_those_that_moved_are_read_again(tmp_path: Path) -> None:
    fleet, hub = tmp_path / "fleet", tmp_path / "hub.db"
    _machine(tmp_path, "den", fleet, "common", "den-1")
    _machine(tmp_path, "box", fleet, "common", "box-1")
    first = _merge(hub, fleet)
    assert first.code == 0, first.err
    assert first.json["added"] == 4
    assert first.json["in_main_file"] is True
    (source,) = first.json["sources"]
    assert [(m["host"], m["read"], m["status"]) for m in source["machines"]] == [
        ("box", True, "online"),
        ("den", True, "online"),
    ]
    assert modelstore("list", "--db", hub, "--host", "den", "--count").out == "2\n"

    changed = hub.stat().st_mtime_ns
    idle = _merge(hub, fleet)
    assert idle.code == 0, idle.err
    assert [m["read"] for m in idle.json["sources"][0]["machines"]] == [False, False]
    assert hub.stat().st_mtime_ns == changed  # a round without news writes nothing

    _machine(tmp_path, "den", fleet, "den-2")
    later = _merge(hub, fleet)
    assert later.json["added"] == 1
    assert [m["host"] for m in later.json["sources"][0]["machines"] if m["read"]] == ["den"]

    verified = modelstore("verify", "--db", hub, "--host", "den", "--expect-count", "3", "--json")
    assert verified.code == 0, verified.out
    (of_host,) = [f for f in verified.json["findings"] if f["code"] == "expectations.host"]
    assert of_host["data"]["models"] == 3
    assert modelstore("verify", "--db", hub, "--host", "nobody").code == 5


def test_a_machine_that_is_silent_or_gone_is_offline_and_keeps_its_models(tmp_path: Path) -> None:
    fleet, hub = tmp_path / "fleet", tmp_path / "hub.db"
    _machine(tmp_path, "den", fleet, "den-1")
    _machine(tmp_path, "box", fleet, "box-1")
    long_ago = time.time() - 25 * 3600
    for file in (fleet / "den").rglob("*.ltx"):
        os.utime(file, (long_ago, long_ago))
    assert _merge(hub, fleet).code == 0
    verified = modelstore("verify", "--db", hub, "--host", "den", "--json")
    (of_host,) = [f for f in verified.json["findings"] if f["code"] == "expectations.host"]
    assert (of_host["result"], of_host["data"]["status"]) == ("warn", "offline")

    (fleet / "box").rename(tmp_path / "away")
    gone = _merge(hub, fleet)
    assert gone.code == 0, gone.err
    status = {m["host"]: m["status"] for m in gone.json["sources"][0]["machines"]}
    assert status == {"box": "offline", "den": "offline"}
    assert modelstore("list", "--db", hub, "--count").out == "2\n"

    (tmp_path / "away").rename(fleet / "box")
    back = _merge(hub, fleet)
    status = {m["host"]: m["status"] for m in back.json["sources"][0]["machines"]}
    assert status == {"box": "online", "den": "offline"}


def test_one_bad_replica_is_skipped_and_tried_again(tmp_path: Path) -> None:
    fleet, hub = tmp_path / "fleet", tmp_path / "hub.db"
    _machine(tmp_path, "den", fleet, "den-1")
    _machine(tmp_path, "box", fleet, "box-1")
    (piece,) = (fleet / "box").rglob("*.ltx")
    whole = piece.read_bytes()
    piece.write_bytes(whole[: len(whole) // 2])
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as other:
        other.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x)")
    subprocess.run(
        [LITESTREAM, "replicate", "-once", str(tmp_path / "app.db"), f"file://{fleet}/other"],
        check=True,
        capture_output=True,
    )
    found = _merge(hub, fleet)
    assert found.code == 6
    assert {skip["what"] for skip in found.json["sources"][0]["skips"]} == {"box", "other"}
    assert found.json["added"] == 1
    piece.write_bytes(whole)
    again = _merge(hub, fleet)
    assert again.json["added"] == 1
    assert again.json["sources"][0]["skips"][0]["what"] == "other"


def test_a_host_belongs_to_one_machine_and_no_other_replaces_its_models(tmp_path: Path) -> None:
    fleet, hub = tmp_path / "fleet", tmp_path / "hub.db"
    _machine(tmp_path, "one", fleet, "common", host="raspberry")
    _machine(tmp_path, "two", fleet, "common", "more", host="raspberry")
    _machine(tmp_path, "two", fleet, "own")
    for round_, added in enumerate((2, 0)):
        merged = _merge(hub, fleet)
        assert merged.code == 6  # not every row of theirs is in the hub
        assert merged.json["added"] == added
        (source,) = merged.json["sources"]
        assert [skip["what"] for skip in source["skips"]] == ["two"]
        read = {m["host"]: (m["read"], m["position"] is None) for m in source["machines"]}
        assert read == {"one": (round_ == 0, False), "two": (True, True)}
    verified = modelstore("verify", "--db", hub, "--host", "raspberry", "--json")
    (of_host,) = [f for f in verified.json["findings"] if f["code"] == "expectations.host"]
    assert (of_host["data"]["models"], of_host["data"]["status"]) == (1, "online")
    _machine(tmp_path, "raspberry", fleet, "common")  # the one of that name
    _machine(tmp_path, "one", fleet, "late", host="raspberry")
    (source,) = _merge(hub, fleet).json["sources"]
    assert [skip["what"] for skip in source["skips"]] == ["one", "two"]


def test_a_fleet_that_cannot_be_listed_changes_nothing(tmp_path: Path) -> None:
    hub = tmp_path / "hub.db"
    assert _merge(hub, tmp_path / "none").code == 3
    assert _merge(hub, "s3://me:hush@bucket/fleet").code == 2
    assert modelstore("import", "--from", "fleet", "--db", hub).code == 2
    env = pretend(tmp_path, "sys.exit(1)")
    refused = modelstore(
        *("import", "--from", "fleet", "gs://bucket/fleet", "--db", hub, "--json"), env=env
    )
    assert refused.code == 3


def test_a_store_that_dies_while_machines_are_restored_ends_the_round(tmp_path: Path) -> None:
    hub = tmp_path / "hub.db"
    for host in ("den", "box"):
        (tmp_path / "fleet" / host / "ltx" / "0").mkdir(parents=True)
        (tmp_path / "fleet" / host / "ltx" / "0" / f"{1:016x}-{1:016x}.ltx").touch()
    dies = f"import shutil; shutil.rmtree({str(tmp_path / 'fleet')!r}, True); sys.exit(1)"
    refused = modelstore(
        *("import", "--from", "fleet", f"file://{tmp_path}/fleet", "--db", hub),
        env=pretend(tmp_path, dies),
    )
    assert refused.code == 3
    assert "skipped" not in refused.err


def test_a_lost_machine_comes_back_from_its_replica(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    db = _machine(tmp_path, "den", fleet, "den-1", "den-2")
    with closing(sqlite3.connect(db)) as conn:
        before = conn.execute("SELECT * FROM models ORDER BY id").fetchall()
    for file in tmp_path.glob("*den.db*"):
        if file.is_file():
            file.unlink()
    restored = tmp_path / "restored.db"
    subprocess.run(
        [LITESTREAM, "restore", "-o", str(restored), f"file://{fleet}/den"],
        check=True,
        capture_output=True,
    )
    with closing(sqlite3.connect(restored)) as conn:
        assert conn.execute("SELECT * FROM models ORDER BY id").fetchall() == before
    assert modelstore("verify", restored, "--expect-count", "2").code == 0


@needs_weed
def test_a_fleet_over_an_object_store(tmp_path: Path) -> None:
    db, hub = tmp_path / "den.db", tmp_path / "hub.db"
    with object_store(tmp_path / "store") as store:
        done = modelstore(
            *("import", "-", "--db", db, "--replica", store.url("fleet/den"), "--timeout", "60s"),
            stdin=_models("one"),
            env={**with_litestream(), **KEYS},
        )
        assert done.code == 0, done.err
        merged = _merge(hub, store.url("fleet"), **KEYS)
        assert merged.json["added"] == 1
        assert merged.json["sources"][0]["source"] == "s3://bucket/fleet"
        said = done.out + done.err + merged.out + merged.err
        assert "testsecret" not in said
        assert "testkey" not in said
        assert _merge(hub, store.url("fleet")).code == 3  # without keys
    assert _merge(hub, store.url("fleet"), **KEYS).code == 3  # the store is dead
