from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from modelstore.model import COMPUTED_COLUMNS, MODEL_COLUMNS
from tests.cli.inside import inside
from tests.cli.program import DATA, modelstore
from tests.cli.shelf import MODELS, NAMES, fill
from tests.cli.terminal import on_terminal

NAME = "Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_M"
EXPECTED = next(model for model in MODELS if model["name"] == NAME)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of the models in the repository, with their files and places."""
    db = tmp_path_factory.mktemp("imported") / "m.db"
    result = modelstore("import", DATA, "--db", db)
    assert result.code == 0, result.err
    return db


def test_everything_in_words(filled: Path) -> None:
    result = inside("show", NAME, "--db", filled)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == NAME
    facts = dict(line.split(maxsplit=1) for line in lines if line.startswith(" "))
    assert facts["parameter_count"] == "30,000,000,000 (30.0B)"
    assert facts["context_length"] == "262,144 (256k)"
    assert facts["file_size"] == "18,000,000,000 (16.8 GiB)"
    assert facts["tags"] == "favorite, work"
    assert facts["path"] == EXPECTED["path"]
    assert facts["modified_at"].startswith("2026-11-22T10:00:00Z")
    assert "unknown: " in result.out
    assert "license" in next(line for line in lines if line.startswith("unknown: "))
    assert lines[-1] == f"{filled} (from --db)"


def test_an_object_for_programs(filled: Path) -> None:
    shown = modelstore("show", NAME, "--json", "--db", filled).json
    assert shown["format_version"] == 1
    assert tuple(shown["model"]) == (*MODEL_COLUMNS, *COMPUTED_COLUMNS)
    assert {key: shown["model"][key] for key in EXPECTED} == EXPECTED
    assert shown["files"] == shown["places"] == []
    assert {"busy", "log", "checkpointed", "left"} <= set(shown["checkpoint"])
    assert shown["database"] == str(filled)


def test_a_line_for_programs_is_the_same_as_lists(filled: Path) -> None:
    for form in ("jsonl", "csv", "tsv"):
        shown = inside("show", NAME, "-f", form, "--db", filled)
        listed = inside("list", NAME, "-f", form, "--columns", "all", "--db", filled)
        if form == "jsonl":
            assert json.loads(shown.out) == json.loads(listed.out)
        assert len(shown.out.splitlines()) == len(listed.out.splitlines())
        assert shown.code == listed.code == 0


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("name", NAME, NAME),
        ("file_size", "18000000000", 18_000_000_000),
        ("size", "18000000000", 18_000_000_000),
        ("license", "", None),
        ("tags", "favorite\nwork", ["favorite", "work"]),
        ("parameters", '{"general.basename": "Qwen3"}', {"general.basename": "Qwen3"}),
    ],
)
def test_one_field_for_scripts(filled: Path, field: str, text: str, value: Any) -> None:
    assert inside("show", NAME, "--field", field, "--db", filled).out == text + "\n"
    assert inside("show", NAME, "--field", field, "--json", "--db", filled).json == value
    assert on_terminal("show", NAME, "--field", field, "--db", filled).text == text + "\n"


def test_a_field_in_a_pipe_is_exact_and_on_a_terminal_harmless(tmp_path: Path) -> None:
    path = "/srv/a\x1b[31m b\u202e.gguf"
    db = fill(tmp_path / "m.db", [{"name": "x", "locator": "name:x", "path": path}])
    assert modelstore("show", "x", "--field", "path", "--db", db).out == path + "\n"
    screen = on_terminal("show", "x", "--field", "path", "--db", db)
    assert screen.text == "/srv/a\\x1b[31m b\\u202e.gguf\n"


def test_an_unknown_field(filled: Path) -> None:
    result = modelstore("show", NAME, "--field", "contxt_length", "--db", filled)
    assert (result.code, result.out) == (2, "")
    assert "did you mean context_length" in result.err


def test_files_and_places(imported: Path) -> None:
    models = inside("list", "--json", "--db", imported).json
    sharded = [
        (model, shown)
        for model in models
        if len((shown := inside("show", model["id"], "--json", "--db", imported).json)["files"]) > 1
    ]
    assert sharded
    model, shown = sharded[0]
    assert all(Path(file["path"]).stat().st_size == file["size"] for file in shown["files"])
    assert shown["places"]
    words = inside("show", model["id"], "--db", imported).out
    assert all(file["path"] in words for file in shown["files"])
    assert "FILE" in words
    assert "SEEN IN" in words
    paths = inside("show", model["id"], "--field", "files", "--db", imported).out
    assert paths.splitlines() == [file["path"] for file in shown["files"]]


def test_a_terminal_cuts_nothing_and_shows_the_wal_line(imported: Path) -> None:
    model = modelstore("list", "--json", "--db", imported).json[0]
    screen = on_terminal("show", model["id"], "--db", imported)
    assert screen.code == 0
    assert all(len(line) <= 80 for line in screen.lines)
    assert "…" not in screen.plain.partition("parameters\n")[0]
    assert "".join(model["locator"].split()) in "".join(screen.plain.split())
    assert screen.lines[-1] == "WAL pages: 0 in log, 0 checkpointed, 0 left; busy: no"


def test_several_models(filled: Path) -> None:
    ids = inside("list", "-q", "--db", filled).out.split()
    shown = inside("show", *ids, ids[0], "--json", "--db", filled).json
    assert [one["model"]["id"] for one in shown["models"]] == ids
    words = inside("show", *ids, "--db", filled).out
    assert all(name in words for name in NAMES)
    lines = inside("show", *ids, "--field", "name", "--db", filled).out.splitlines()
    assert sorted(lines) == sorted(NAMES)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("general.description", "a long value whole: "),
        ("tokenizer.chat_template", "chat template of 6,910 characters: "),
        ("chat_template", "chat template of 6,910 characters: "),
        ("template", "chat template of 6,910 characters: "),
    ],
)
def test_a_long_parameter_is_shortened_with_the_way_to_see_it(
    tmp_path: Path, key: str, line: str
) -> None:
    template = "{% for m in messages %}" * 300 + "\n{{ end }}"
    parameters = {key: template, "general.basename": "X"}
    models = [{"name": "x", "locator": "name:x", "parameters": parameters}]
    db = fill(tmp_path / "m.db", models)
    words = inside("show", "x", "--db", db).out
    assert len(words) < 2500
    assert re.search(r"general.basename +X", words)
    assert f"{len(template):,} characters" in words
    assert "{% for" not in words or key == "general.description"
    command = next(one for one in words.splitlines() if one.startswith(line))
    arguments = command.partition("modelstore ")[2].split()
    assert inside(*arguments, "--db", db).out == template + "\n"


def test_a_model_without_a_chat_template(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", [{"name": "x", "locator": "name:x"}])
    result = inside("show", "x", "--template", "--db", db)
    assert (result.code, result.out) == (2, "")
    assert "x has no chat template" in result.err


def test_an_ambiguous_model_names_its_candidates(tmp_path: Path) -> None:
    models = [{"name": "same", "locator": f"name:{n}"} for n in range(3)]
    db = fill(tmp_path / "m.db", models)
    result = inside("show", "same", "--db", db)
    assert (result.code, result.out) == (2, "")
    ids = inside("list", "-q", "--db", db).out.split()
    assert all(model[:7] in result.err for model in ids)
    assert result.err.splitlines()[1].startswith("hint: ")


def test_too_few_digits_of_an_id_are_named(filled: Path) -> None:
    result = modelstore("show", "eee", "--db", filled)
    assert result.code == 3
    assert "hint: an id needs 4 digits or more" in result.err


def test_an_unknown_model_names_near_ones(filled: Path) -> None:
    result = inside("show", "Qwen3-30B-A3B-Instruct-2507-UD-Q4", "--db", filled)
    assert (result.code, result.out) == (3, "")
    assert NAME in result.err
    result = inside("show", "zzz", "--db", filled)
    assert (result.code, result.out) == (3, "")
    assert "modelstore list" in result.err


def test_an_empty_name_is_an_unset_variable(filled: Path) -> None:
    result = modelstore("show", "", "--db", filled)
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize("text", ["'; DROP TABLE models; --", "%", "*", "\\", '"', "a" * 5000])
def test_a_name_is_never_sql(filled: Path, text: str) -> None:
    result = inside("show", text, "--db", filled)
    assert (result.code, result.out) == (3, "")
    assert len(result.err) < 2000
    assert inside("list", "--count", "--db", filled).out == "8\n"


def test_memory_in_parts(imported: Path) -> None:
    shown = inside("show", "tiny-gemma-3-it-Q4_0", "--ctx", "1M", "--json", "--db", imported)
    cache = 2 * 2560 * 64  # two layers, each with a window of 2,560 cells of 64 bytes
    assert shown.json["memory"] == {
        "weights": 2848,
        "kv_cache": cache,
        "recurrent_state": 0,
        "context_length": 1024 * 1024,
        "total": 2848 + cache,
    }
    assert "is trained for 131,072 tokens, fewer than 1,048,576" in shown.err
    words = inside("show", "tiny-gemma-3-it-Q4_0", "--ctx", "1M", "--db", imported).out
    assert "323 KiB at 1,048,576 tokens: weights 2.8 KiB, KV cache 320 KiB" in words
    field = ("--field", "memory", "--db", imported)
    assert inside("show", "tiny-gemma-3-it-Q4_0", *field).out == f"{2848 + cache}\n"
    assert inside("show", "tiny-mistral", "--json", "--db", imported).json["memory"] is None
    assert "memory" in inside("show", "tiny-mistral", "--db", imported).out.split("unknown: ")[1]


def test_a_context_is_for_memory_alone(imported: Path) -> None:
    result = inside("show", "tiny-mistral", "--ctx", "4k", "--field", "name", "--db", imported)
    assert (result.code, result.out) == (2, "")
