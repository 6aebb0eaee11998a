"""The keys that begin the JSON object of every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import modelstore
from tests.cli.inside import inside
from tests.cli.program import reader, records

SHARED = ["format_version", "command", "database", "database_from", "exit_code", "exit_codes"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "models.jsonl"
    path.write_bytes(records(3))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "Model-0"),
        ("tag", "Model-0", "--add", "mine"),
        ("forget", "Model-0", "--yes"),
        ("checkpoint",),
        ("inspect-wal",),
        ("inspect-wal", "--frames"),
        ("inspect-wal", "--transactions"),
        ("verify", "--only", "file"),
        ("import", "SOURCE"),
        ("import", "SOURCE", "--dry-run"),
    ],
    ids=" ".join,
)
def test_every_object_has_the_shared_keys(
    tmp_path: Path, source: Path, arguments: tuple[str, ...]
) -> None:
    db = tmp_path / "m.db"
    assert inside("import", source, "--db", db).code == 0
    words = [source if word == "SOURCE" else word for word in arguments]
    result = inside(*words, "--db", db, "--json")
    shared = {key: result.json[key] for key in SHARED}
    assert shared == {
        "format_version": 1,
        "command": arguments[0],
        "database": str(db),
        "database_from": "--db",
        "exit_code": result.code,
        "exit_codes": [result.code],
    }


def test_an_object_carries_every_exit_code_that_applies(tmp_path: Path, source: Path) -> None:
    db = tmp_path / "m.db"
    assert inside("import", source, "--db", db).code == 0
    source.write_bytes(records(3, "New") + b"\nno record\n")
    with reader(db):
        result = inside("import", source, "--db", db, "--json", "--timeout", "0")
    assert (result.code, result.json["exit_codes"]) == (4, [4, 6])


def test_private_parts_of_typer_are_imported_in_one_place() -> None:
    root = Path(modelstore.__file__).parent
    users = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"typer\.?_|from typer import _", path.read_text("utf-8"))
    ]
    assert users == ["cli/vendored_click.py"]
