from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.inside import inside
from tests.cli.program import alone, modelstore, python, reader
from tests.cli.shelf import MODELS
from tests.cli.terminal import on_terminal

ONE = "Qwen3-1B-A3B-Instruct-2507-UD-Q4_K_M"
THIRTY = "Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_M"


def tags(db: Path, name: str) -> list[str]:
    (value,) = (m["tags"] for m in inside("list", "--json", "--db", db).json if m["name"] == name)
    assert isinstance(value, list)
    return value


def test_tags_are_added_and_removed(shelf: Path) -> None:
    result = inside("tag", ONE, "--add", "fast, cheap", "--add", "favorite", "--db", shelf)
    assert result.code == 0, result.err
    assert "1 model changed" in result.out
    assert tags(shelf, ONE) == ["cheap", "fast", "favorite"]
    result = inside("tag", ONE, "--remove", "fast", "--add", "new", "--db", shelf)
    assert result.code == 0
    assert tags(shelf, ONE) == ["cheap", "favorite", "new"]
    assert tags(shelf, THIRTY) == ["favorite", "work"]
    listed = inside("list", "--tag", "new", "-c", "name", "--no-header", "--db", shelf)
    assert listed.out == ONE + "\n"


def test_tags_are_in_the_main_file_when_it_says_so(shelf: Path) -> None:
    assert modelstore("tag", ONE, "--add", "fast", "--db", shelf).code == 0
    (row,) = alone(shelf, f"SELECT tags FROM models WHERE name = '{ONE}'")
    assert json.loads(row[0]) == ["fast"]


def test_tags_survive_the_next_import(shelf: Path) -> None:
    assert modelstore("tag", ONE, "--add", "mine", "--db", shelf).code == 0
    lines = "\n".join(map(json.dumps, MODELS))
    assert modelstore("import", "-", "--db", shelf, stdin=lines.encode()).code == 0
    assert tags(shelf, ONE) == ["mine"]


def test_what_is_so_already_is_unchanged(shelf: Path) -> None:
    result = inside("tag", THIRTY, "--add", "work", "--json", "--db", shelf)
    assert result.code == 0
    assert (result.json["changed"], result.json["unchanged"]) == (0, 1)
    assert result.json["format_version"] == 1
    assert result.json["models"][0]["tags"] == ["favorite", "work"]
    assert {"busy", "log", "checkpointed", "left"} <= set(result.json["checkpoint"])
    assert result.json["exit_code"] == 0


def test_several_are_tagged_without_a_question(shelf: Path) -> None:
    result = modelstore("tag", ONE, THIRTY, ONE, "--add", "x", "--db", shelf)
    assert result.code == 0
    assert "2 models changed" in result.out
    assert tags(shelf, ONE) == ["x"]
    screen = on_terminal("tag", ONE, THIRTY, "--remove", "x", "--db", shelf, answer="n\n")
    assert screen.code == 0
    assert "[y/N]" not in screen.plain
    assert tags(shelf, ONE) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no tag was given"),
        (["--add", ""], "'' is no tag"),
        (["--add", "a\nb"], "'a\\nb' is no tag"),
        (["--add", "x" * 65], "is no tag"),
        (["--remove", "\x1b[31m"], "'\\x1b[31m' is no tag"),
    ],
)
def test_what_is_no_tag(shelf: Path, options: list[str], said: str) -> None:
    result = inside("tag", ONE, *options, "--db", shelf)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_one_unknown_model_changes_none(shelf: Path) -> None:
    before = shelf.read_bytes()
    result = modelstore("tag", ONE, "zzz", "--add", "x", "--db", shelf)
    assert (result.code, result.out) == (3, "")
    assert shelf.read_bytes() == before


def test_without_a_database_none_is_created(tmp_path: Path) -> None:
    result = modelstore("tag", "x", "--add", "y", "--db", tmp_path / "typo.db")
    assert (result.code, result.out) == (3, "")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_in_the_way_is_exit_4_with_the_whole_answer(shelf: Path) -> None:
    assert modelstore("tag", ONE, "--add", "first", "--db", shelf).code == 0
    with reader(shelf) as process:
        result = modelstore("tag", ONE, "--add", "x", "--timeout", "200ms", "--db", shelf)
        assert result.code == 4
        assert "1 model changed" in result.out
        assert str(process.pid) in result.err
        options = ("--timeout", "200ms", "--json", "--db", shelf)
        result = modelstore("tag", ONE, "--add", "y", *options)
        assert (result.code, result.json["exit_code"]) == (4, 4)
    assert modelstore("list", "--tag", "x", "--count", "--db", shelf).out == "1\n"
    assert alone(shelf, "SELECT count(*) FROM models WHERE tags LIKE '%\"x\"%'") == [(1,)]


def test_a_writer_in_the_way_is_exit_7_and_nothing_is_written(shelf: Path) -> None:
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.readline()
    """
    with python(code, shelf) as process:
        assert process.stdout is not None
        process.stdout.readline()
        result = modelstore("tag", ONE, "--add", "x", "--timeout", "200ms", "--db", shelf)
    assert (result.code, result.out) == (7, "")
    assert tags(shelf, ONE) == []


def test_another_programs_models_are_never_altered(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('CREATE TABLE models (name TEXT)');"
        "c.execute(\"INSERT INTO models VALUES ('x')\"); c.commit()"
    )
    subprocess.run([sys.executable, "-c", code, str(other)], check=True)
    before = other.read_bytes()
    for command in (["tag", "x", "--add", "y"], ["forget", "x"]):
        result = inside(*command, "--db", other)
        assert (result.code, result.out) == (3, "")
        assert "another program" in result.err
    assert other.read_bytes() == before
