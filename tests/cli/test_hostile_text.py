"""No text of others reaches a terminal as anything but text, and none is changed in JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.inside import inside
from tests.cli.program import modelstore, python
from tests.cli.shelf import fill
from tests.cli.terminal import STYLES, on_terminal
from tests.render.samples import HOSTILE, unsafe_characters

# A record whose name holds a NUL, or is empty, is refused by the import, as it should be.
NAMES = {key: name for key, name in HOSTILE.items() if name and "\0" not in name}
OUR_STYLES = {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;31m", "\x1b[33m", "\x1b[32m"}
FORMATS = ("table", "json", "jsonl", "csv", "tsv", "preset")
MODELS: list[dict[str, Any]] = [
    {
        "name": name,
        "locator": f"name:{key}",
        "path": f"/srv/{key}/{name}.gguf",
        "architecture": name,
        "quantization": name,
        "license": name,
        "parameters": {name: [name, {"deep": name}]},
        "file_size": 10**9,
    }
    for key, name in NAMES.items()
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("hostile") / "models.db", MODELS)


def assert_harmless(text: str, *, allowed: str = "\n") -> None:
    """Nothing but text, line ends and the styles that are ours."""
    assert set(STYLES.findall(text)) <= OUR_STYLES
    assert unsafe_characters(STYLES.sub("", text), allowed=allowed) == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("columns", ["all", "name,path,license,id"])
def test_in_a_pipe_in_every_format(hostile: Path, form: str, columns: str) -> None:
    result = inside("list", "-f", form, "--columns", columns, "--db", hostile)
    assert result.code == 0, result.err
    assert_harmless(result.out, allowed="\n\t" if form in ("tsv", "csv") else "\n")
    assert_harmless(result.err)
    lines = {"csv": 1, "tsv": 1, "jsonl": 0, "json": 2, "table": 2}
    if form in lines:
        assert result.out.count("\n") == len(NAMES) + lines[form]


@pytest.mark.parametrize("form", FORMATS)
def test_on_a_terminal_in_every_format(hostile: Path, form: str) -> None:
    screen = on_terminal("list", "-f", form, "--db", hostile)
    assert screen.code == 0
    assert_harmless(screen.text, allowed="\n\t" if form in ("tsv", "csv") else "\n")
    assert_harmless(screen.err)


@pytest.mark.parametrize("columns", [30, 79, 80, 132])
def test_a_table_keeps_its_lines_whatever_the_names(hostile: Path, columns: int) -> None:
    screen = on_terminal("list", "--db", hostile, columns=columns)
    assert_harmless(screen.text)
    if columns >= 79:
        assert len(screen.lines) >= len(NAMES) + 3
        assert [line.split()[-2:] for line in screen.lines[1 : len(NAMES) + 1]] == (
            [["954", "MiB"]] * len(NAMES)
        )


def test_json_gives_every_text_back_exactly(hostile: Path) -> None:
    for form in ("json", "jsonl"):
        out = modelstore("list", "-f", form, "--db", hostile).out
        models = json.loads(out) if form == "json" else [json.loads(x) for x in out.splitlines()]
        found = {model["locator"]: model for model in models}
        for expected in MODELS:
            model = found[expected["locator"]]
            assert {key: model[key] for key in expected} == expected


@pytest.mark.parametrize("key", NAMES)
def test_one_model_in_every_way(hostile: Path, key: str) -> None:
    for options in ([], ["--json"], ["-f", "csv"], ["-f", "tsv"], ["--field", "id"]):
        result = inside("show", "--db", hostile, *options, "--", f"name:{key}")
        assert result.code == 0, result.err
        assert_harmless(result.out, allowed="\n\t" if {"tsv", "csv"} & set(options) else "\n")
    shown = inside("show", "--json", "--db", hostile, f"name:{key}").json["model"]
    assert shown["name"] == NAMES[key]
    by_name = inside("show", "--field", "locator", "--db", hostile, "--", NAMES[key])
    assert by_name.out == f"name:{key}\n"


@pytest.mark.parametrize("key", ["title", "markup", "lines", "surrogate"])
def test_one_model_on_a_terminal(hostile: Path, key: str) -> None:
    screen = on_terminal("show", f"name:{key}", "--db", hostile)
    assert screen.code == 0
    assert_harmless(screen.text)


def test_questions_and_answers_of_tag_and_forget(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", MODELS)
    keys = [f"name:{key}" for key in NAMES]
    screen = on_terminal("tag", *keys, "--add", "x", "--db", db, answer="y\n")
    assert screen.code == 0
    assert_harmless(screen.text, allowed="\n\x07\x08")
    screen = on_terminal("forget", *keys, "--db", db, answer="y\n")
    assert screen.code == 0
    assert_harmless(screen.text, allowed="\n\x07\x08")
    assert inside("list", "--count", "--db", db).out == "0\n"


@pytest.mark.parametrize("key", NAMES)
def test_what_is_typed_comes_back_harmless_in_errors(hostile: Path, key: str) -> None:
    text = NAMES[key] + "?"
    database: list[str | Path] = ["--db", hostile]
    nowhere: list[str | Path] = ["--db", text + "/nowhere"]
    for arguments in (
        ["list", *database, "--columns", text],
        ["list", *database, "--sort", text],
        ["list", *database, "--where", text],
        ["list", *database, "--timeout", text],
        ["show", *database, "--field", text, "x"],
        ["show", *database, "--", text],
        ["tag", *database, "x", "--add", text + "\n"],
        ["list", *nowhere],
    ):
        result = inside(*arguments)
        assert result.code in (2, 3), (arguments, result)
        assert result.out == ""
        assert_harmless(result.err)
        assert "Traceback" not in result.err
        assert len(result.err.splitlines()) <= 2


def test_options_hidden_in_names(hostile: Path, tmp_path: Path) -> None:
    assert inside("list", "--db", hostile, "-q", "--", "-rf").out.count("\n") == 1
    result = inside("list", "--db", hostile, "--", f"--db={tmp_path}/x.db")
    assert (result.code, result.out.count("\n")) == (0, 1)
    assert list(tmp_path.iterdir()) == []


COMMANDS = ("::error::x", " ::stop-commands::y", "##[group]x", "a ##[error]b", "z\n::debug::b")


def obeyed(text: str) -> list[str]:
    """Return the lines that GitHub's runner would take for commands."""
    lines = re.split(r"[\r\n]", text)
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


@pytest.mark.parametrize("form", FORMATS)
def test_githubs_runner_finds_no_command(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    models = [{"name": name, "path": f"/m/{name}", "license": name} for name in COMMANDS]
    db = fill(tmp_path / "m.db", models)
    for columns in ("all", "name,license"):
        result = inside("list", "-f", form, "-c", columns, "--no-header", "--db", db)
        assert (result.code, obeyed(result.out + "\n" + result.err)) == (0, [])
    for name in COMMANDS:
        for options in ([], ["-f", form if form != "preset" else "csv"], ["--field", "name"]):
            result = inside("show", *options, "--db", db, "--", name)
            assert (result.code, obeyed(result.out + "\n" + result.err)) == (0, [])
        result = inside("show", "--db", db, "--", f"{name}?")
        assert (result.code, obeyed(result.err)) == (3, [])


def test_elsewhere_such_names_are_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    db = fill(tmp_path / "m.db", [{"name": "::error::##[x"}])
    options = ("list", "-f", "tsv", "-c", "name,locator", "--db", db)
    name = "::error::##[x"
    assert inside(*options).out == f"name\tlocator\n{name}\tname:{name}\n"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    spelled = inside(*options).out
    assert spelled.endswith("\n\\x3a:error::#\\x23[x\tname:::error::#\\x23[x\n")
    assert inside("list", "--json", "--db", db).json[0]["name"] == name
    back = tmp_path / "back.db"
    (tmp_path / "list.tsv").write_text(spelled)
    assert inside("import", tmp_path / "list.tsv", "--db", back).code == 0
    assert inside("list", "--json", "--db", back).json[0]["name"] == name


def test_a_name_of_a_million_characters(tmp_path: Path) -> None:
    name = "\x1b]0;x\x07" * 200_000
    db = fill(tmp_path / "m.db", [{"name": name, "locator": "name:long", "license": name}])
    screen = on_terminal("list", "--db", db)
    assert_harmless(screen.text)
    assert len(screen.lines) <= 8
    shown = on_terminal("show", "name:long", "--db", db)
    assert_harmless(shown.text)
    assert len(shown.text) < 200_000
    (model,) = modelstore("list", "--json", "--db", db).json
    assert model["name"] == model["license"] == name
    result = inside("show", name + "?", "--db", db)
    assert result.code == 3
    assert len(result.err) < 4000
    screen = on_terminal("forget", "name:long", "--yes", "--db", db)
    assert screen.code == 0
    assert_harmless(screen.text)


def test_a_hostile_path_of_the_database(tmp_path: Path) -> None:
    directory = tmp_path / "a\x1b]0;x\x07\n[red]b"
    directory.mkdir()
    db = fill(directory / "m.db", [{"name": "x", "locator": "name:x"}])
    for arguments in (["list"], ["show", "x"], ["tag", "x", "--add", "y"]):
        screen = on_terminal(*arguments, "--db", db)
        assert screen.code == 0
        assert_harmless(screen.text)
        assert_harmless(screen.err)
    shown = modelstore("show", "x", "--json", "--db", db)
    assert_harmless(shown.out)
    assert shown.json["database"] == str(db)


def test_bytes_that_are_no_text_in_another_programs_table(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    code = r"""
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1])
        conn.execute("CREATE TABLE models (name TEXT, path TEXT, architecture, quantization)")
        for raw in (b"caf\xe9\x1b[31m", b"a\x00b", b"\xed\xa0\x80\xff\xfe", b"\xf0\x9f\x92"):
            conn.execute("INSERT INTO models VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, 1.5)",
                         (raw, raw, raw))
        conn.commit()
        print("made", flush=True)
    """
    with python(code, other) as process:
        process.wait(30)
    for form in FORMATS:
        result = inside("list", "-f", form, "--db", other)
        assert result.code == 0, result.err
        assert_harmless(result.out, allowed="\n\t" if form in ("tsv", "csv") else "\n")
    screen = on_terminal("list", "--db", other)
    assert screen.code == 0
    assert_harmless(screen.text)
    assert len(modelstore("list", "--json", "--db", other).json) == 4
