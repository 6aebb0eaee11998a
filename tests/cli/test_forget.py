from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.program import DATA, alone, modelstore
from tests.cli.shelf import NAMES
from tests.cli.terminal import on_terminal


def test_a_forgotten_model_is_gone_and_its_files_are_not(tmp_path: Path) -> None:
    models, db = tmp_path / "models", tmp_path / "m.db"
    shutil.copytree(DATA, models)
    assert modelstore("import", models, "--db", db).code == 0
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    listed = modelstore("list", "--json", "--db", db).json
    result = modelstore("forget", listed[0]["id"], "--yes", "--db", db)
    assert result.code == 0, result.err
    assert "1 model forgotten" in result.out
    assert "no model file was touched" in result.out
    assert "import" in result.out
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before
    again = modelstore("forget", listed[1]["id"], "--yes", "--json", "--db", db)
    assert (again.json["forgotten"], again.json["exit_code"]) == (1, 0)
    left = modelstore("list", "-q", "--db", db).out.split()
    assert listed[0]["id"] not in left
    assert len(left) == len(listed) - 2
    assert alone(db) == [(len(left),)]
    for table in ("model_files", "model_places"):
        query = f"SELECT count(*) FROM {table} WHERE model_id = '{listed[0]['id']}'"
        assert alone(db, query) == [(0,)]
    assert modelstore("import", models, "--db", db).code == 0
    assert modelstore("list", "-q", "--db", db).out.split() != left


@pytest.mark.parametrize("count", [1, 3])
def test_a_script_needs_a_yes(shelf: Path, count: int) -> None:
    before = shelf.read_bytes()
    result = modelstore("forget", *NAMES[:count], "--db", shelf)
    assert (result.code, result.out) == (2, "")
    assert NAMES[0] in result.err
    assert "--yes" in result.err
    assert shelf.read_bytes() == before


def test_several_are_forgotten_at_once(shelf: Path) -> None:
    result = modelstore("forget", *NAMES[:3], "--yes", "--json", "--db", shelf)
    assert result.code == 0
    assert result.json["forgotten"] == 3
    assert [model["name"] for model in result.json["models"]] == NAMES[:3]
    assert modelstore("list", "--count", "--db", shelf).out == "5\n"


@pytest.mark.parametrize(("answer", "left"), [("y\n", 6), ("n\n", 8), ("\x04", 8)])
def test_a_terminal_is_asked(shelf: Path, answer: str, left: int) -> None:
    screen = on_terminal("forget", *NAMES[:2], "--db", shelf, answer=answer)
    assert screen.code == 0
    assert "[y/N]" in screen.plain
    assert modelstore("list", "--count", "--db", shelf).out == f"{left}\n"


def test_one_unknown_model_forgets_none(shelf: Path) -> None:
    result = modelstore("forget", NAMES[0], "zzz", "--yes", "--db", shelf)
    assert (result.code, result.out) == (3, "")
    assert modelstore("list", "--count", "--db", shelf).out == "8\n"


def test_a_terminal_sees_the_wal_line(shelf: Path) -> None:
    screen = on_terminal("forget", NAMES[0], "--yes", "--db", shelf)
    assert screen.code == 0
    line = screen.lines[-1].split()
    assert line[:2] == ["WAL", "pages:"]
    assert int(line[2]) > 0
    assert line[2] == line[5]
    assert screen.lines[-1].endswith("0 left; busy: no")


def test_nothing_named_is_a_usage_error(shelf: Path) -> None:
    for arguments in ([], [""], ["", "--yes"]):
        result = modelstore("forget", *arguments, "--db", shelf)
        assert (result.code, result.out) == (2, "")
