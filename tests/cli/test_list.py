from __future__ import annotations

import configparser
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelstore.model import MODEL_COLUMNS
from modelstore.text import utc_text
from tests.cli.inside import inside
from tests.cli.program import DATA, environment, modelstore, python, records
from tests.cli.shelf import KILLED_WRITER, MODELS, NAMES, fill
from tests.cli.terminal import STYLES, on_terminal
from tests.waiting import PATIENCE

WAL_LINE = "WAL pages: 0 in log, 0 checkpointed, 0 left; busy: no"


def names(*arguments: str | Path) -> list[str]:
    result = inside("list", "--columns", "name", "--no-header", *arguments)
    assert result.code == 0, result.err
    return result.out.splitlines()


def test_a_pipe_gets_tsv_with_a_header_and_raw_values(filled: Path) -> None:
    result = modelstore("list", "--db", filled)
    assert result.code == 0
    assert result.err == ""
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert rows[0] == [
        *("id", "name", "architecture", "parameter_count", "quantization", "context_length"),
        *("file_size", "status", "path"),
    ]
    assert len(rows) == 9
    by_name = {row[1]: row for row in rows[1:]}
    thirty = by_name["Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_M"]
    assert len(thirty[0]) == 16
    assert thirty[2:] == [
        *("qwen3moe", "30000000000", "Q4_K_M", "262144", "18000000000", "available"),
        "/srv/qwen/30.Q4_K_M.gguf",
    ]


def test_json_is_an_array_with_every_column_and_value(filled: Path) -> None:
    result = inside("list", "--json", "--db", filled)
    assert result.out == inside("list", "-f", "json", "--db", filled).out
    models = {model["name"]: model for model in result.json}
    assert len(models) == 8
    assert all(tuple(model) == MODEL_COLUMNS for model in models.values())
    for expected in MODELS:
        model = models[expected["name"]]
        assert {key: model[key] for key in expected} == expected
        assert model["license"] is None


def test_every_format_tells_the_same(filled: Path) -> None:
    columns = ("--columns", "id,name,file_size,license", "--sort", "name", "--db", filled)
    expected = [
        (m["id"], m["name"], m["file_size"], None) for m in inside("list", "--json", *columns).json
    ]
    lines = inside("list", "-f", "jsonl", *columns).out.splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == expected
    cells = [(i, n, str(s), "") for i, n, s, _ in expected]
    tsv = inside("list", "-f", "tsv", *columns).out.splitlines()
    assert [tuple(line.split("\t")) for line in tsv[1:]] == cells
    rows = list(csv.reader(inside("list", "-f", "csv", *columns).out.splitlines()))
    assert [tuple(row) for row in rows[1:]] == cells
    assert rows[0] == tsv[0].split("\t") == ["id", "name", "file_size", "license"]


def test_a_table_in_a_pipe_is_words_with_nothing_cut(filled: Path) -> None:
    result = modelstore("list", "-f", "table", "--db", filled)
    lines = result.out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "ARCH", "PARAMS", "QUANT", "CTX", "SIZE"]
    assert all(name in result.out for name in NAMES)
    assert lines[-1] == f"8 models, 59.2 GiB, {filled} (from --db)"
    assert "\x1b" not in result.out
    assert "…" not in result.out


def test_a_terminal_gets_a_table_that_reads_well_at_80_columns(filled: Path) -> None:
    screen = on_terminal("list", "--db", filled)
    assert screen.code == 0
    lines = screen.lines
    assert all(len(line) <= 80 for line in lines[:9])
    assert lines[0].split() == ["ID", "NAME", "ARCH", "PARAMS", "QUANT", "CTX", "SIZE"]
    thirty = next(line for line in lines if "30.0B" in line and "Q4_K_M" in line)
    assert thirty.split()[1].startswith("Qwen3-30B")
    assert "…" in thirty.split()[1]
    assert thirty.split()[2:] == ["qwen3moe", "30.0B", "Q4_K_M", "256k", "16.8", "GiB"]
    assert "".join(lines[9:-1]) == f"8 models, 59.2 GiB, {filled} (from --db)"
    assert lines[-1] == WAL_LINE
    assert "\x1b[1m" in screen.text


def test_a_wide_terminal_gets_more_columns_that_tell_something(filled: Path) -> None:
    wide = on_terminal("list", "--db", filled, columns=200)
    assert wide.lines[0].split()[7:] == ["MODIFIED", "TAGS"]
    assert all(name in wide.plain for name in NAMES)
    assert "favorite, work" in wide.plain
    narrow = on_terminal("list", "--db", filled, "--no-truncate")
    assert all(name in narrow.plain for name in NAMES)
    assert "…" not in narrow.plain


def test_colour_is_chosen_by_the_option_before_all_else(filled: Path) -> None:
    always = modelstore("list", "-f", "table", "--color", "always", "--db", filled)
    assert STYLES.sub("", always.out) == modelstore("list", "-f", "table", "--db", filled).out
    assert "\x1b[1m" in always.out
    forced = modelstore("list", "-f", "table", "--db", filled, env={"FORCE_COLOR": "1"})
    assert forced == always
    refused = modelstore("list", "--status", "x", "--color", "always", "--db", filled)
    assert refused.err.startswith("\x1b[1;31merror:\x1b[0m ")
    never = on_terminal("list", "--color", "never", "--db", filled)
    assert "\x1b" not in never.text
    assert modelstore("list", "--color", "some", "--db", filled).code == 2
    machine = modelstore("list", "--json", "--color", "always", "--db", filled)
    assert "\x1b" not in machine.out


def test_a_long_answer_goes_through_the_pager(filled: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/paged\n")
    pager.chmod(0o755)
    env = {"PAGER": str(pager)}
    # "just now" may become "1 min ago" between two runs.
    columns = ",".join(name for name in MODEL_COLUMNS if not name.endswith("_at"))
    screen = on_terminal("list", "--columns", columns, "--db", filled, env=env)
    assert screen.text == ""
    plain = on_terminal("list", "--columns", columns, "--db", filled, "--no-pager", env=env)
    assert (tmp_path / "paged").read_text() == plain.text
    (tmp_path / "paged").unlink()
    for form in ("table", "json"):
        assert on_terminal("list", "-f", form, "-n", "1", "--db", filled, env=env).text
    assert not (tmp_path / "paged").exists()


def test_short_ids_of_a_table_are_understood_by_show(filled: Path) -> None:
    lines = on_terminal("list", "--db", filled).lines[1:9]
    for line in lines:
        shown = inside("show", line.split()[0], "--field", "quantization", "--db", filled)
        assert shown.out.strip() in line


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_escape_sequences_where_they_are_not_wanted(
    filled: Path, setting: dict[str, str]
) -> None:
    screen = on_terminal("list", "--db", filled, env=setting)
    assert "\x1b" not in screen.text
    assert screen.text == on_terminal("list", "--db", filled).plain


def test_colour_variables_never_change_a_pipe(filled: Path) -> None:
    plain = modelstore("list", "--db", filled)
    forced = modelstore(
        *("list", "--db", filled),
        env={"FORCE_COLOR": "1", "GITHUB_ACTIONS": "true", "CI": "true", "COLUMNS": "20"},
    )
    assert forced == plain


def test_a_narrow_terminal_gets_one_fact_a_line(filled: Path) -> None:
    screen = on_terminal("list", "--limit", "1", "--db", filled, columns=40)
    first = [line.split()[0] for line in screen.lines if line[1:2].isalpha()]
    assert first[:7] == ["ID", "NAME", "ARCH", "PARAMS", "QUANT", "CTX", "SIZE"]


def test_machine_formats_on_a_terminal_keep_stdout_to_the_answer(filled: Path) -> None:
    screen = on_terminal("list", "--json", "--db", filled)
    assert len(json.loads(screen.text)) == 8
    assert screen.err == WAL_LINE + "\n"
    screen = on_terminal("list", "--count", "--db", filled)
    assert (screen.text, screen.err) == ("8\n", WAL_LINE + "\n")


def test_a_long_table_ends_and_says_how_to_get_the_rest(tmp_path: Path) -> None:
    models: list[dict[str, Any]] = [
        {"name": f"m{n}", "locator": f"name:m{n}", "file_size": 1024} for n in range(1_203)
    ]
    db = fill(tmp_path / "m.db", models)
    screen = on_terminal("list", "--db", db, columns=200)
    assert len(screen.lines) == 1 + 1000 + 3
    assert screen.lines[1001] == "203 more: use --limit, or -f jsonl"
    assert screen.lines[1002].startswith("1,203 models, 1.2 MiB, ")
    whole = on_terminal("list", "--limit", "1200", "--db", db, columns=200)
    assert sum(line.split()[1:2] != ["NAME"] for line in whole.lines[:-3]) == 1200
    assert whole.lines[-3] == "1,200 of 1,203 shown"
    piped = modelstore("list", "-f", "table", "--db", db)
    assert len(piped.out.splitlines()) == 1_205


def test_columns(filled: Path) -> None:
    header = inside("list", "-c", "name", "-c", "size, path", "--db", filled).out.split("\n")[0]
    assert header == "name\tfile_size\tpath"
    header = inside("list", "--columns", "all", "--db", filled).out.split("\n")[0]
    assert tuple(header.split("\t")) == MODEL_COLUMNS
    screen = on_terminal("list", "--columns", "all", "--limit", "1", "--db", filled)
    firsts = [line.split()[0] for line in screen.lines if line.strip()]
    assert {"ID", "LOCATOR", "SHA256", "UPDATED"} <= set(firsts)
    assert len(firsts) >= len(MODEL_COLUMNS)


@pytest.mark.parametrize(
    ("sort", "key", "backwards"),
    [
        ("file_size", "file_size", False),
        ("-file_size", "file_size", True),
        ("size:desc", "file_size", True),
        ("id", "id", False),
        ("-id", "id", True),
    ],
)
def test_sort(filled: Path, sort: str, key: str, backwards: bool) -> None:
    values = [m[key] for m in inside("list", "--json", "--sort", sort, "--db", filled).json]
    assert values == sorted(values, reverse=backwards)
    assert len(values) == 8


@pytest.mark.parametrize("limit", ["1", "3", "8"])
def test_every_format_shows_the_same_models_by_name(shelf: Path, limit: str) -> None:
    twins = [{"name": "same", "locator": f"name:twin {n}"} for n in range(4)]
    fill(shelf, twins)
    models = inside("list", "--json", "--db", shelf).json
    expected = sorted(models, key=lambda model: (model["name"].lower(), model["id"]))
    assert models == expected
    ids = [model["id"] for model in expected[: int(limit)]]
    arguments = ("-n", limit, "--db", shelf)
    assert inside("list", "-q", *arguments).out.split() == ids
    for form in ("tsv", "csv", "table"):
        listed = inside("list", "-f", form, "-c", "id,name", "--no-header", *arguments).out
        assert [re.split(r"[\s,]", line.strip())[0] for line in listed.splitlines()][
            : len(ids)
        ] == ids
    assert [model["id"] for model in inside("list", "--json", *arguments).json] == ids
    rest = inside("list", "-q", "--offset", limit, "--db", shelf).out.split()
    assert ids + rest == [model["id"] for model in expected]


def test_unsorted_is_the_order_on_disk(filled: Path) -> None:
    assert names("--sort", "none", "--db", filled) == NAMES


def test_sort_by_several(filled: Path) -> None:
    models = inside("list", "--json", "--sort", "quant,-params", "--db", filled).json
    keys = [(model["quantization"], -model["parameter_count"]) for model in models]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["30b"], 2),
        (["qwen3moe"], 4),
        (["/srv/qwen/8."], 2),
        (["nothing like it"], 0),
        (["qwen3", "30b"], 2),
        (["30b qwen3 q8"], 1),
        (["a3b instruct_2507"], 8),
        (["*30b*q8*"], 1),
        (["*30b*q8"], 0),
        (["Qwen3?30B*[4]_K_M"], 1),
        (["*"], 8),
        (["params>8B"], 4),
        (["size>=18GB"], 2),
        (["size>17GiB"], 0),
        (["ctx>=256k", "30b"], 2),
        (["arch=LLAMA"], 4),
        (["--where", "size > 8GB AND ctx >= 256k"], 4),
        (["--where", "name = 'size > 8GB'"], 0),
        (["--arch", "llama,qwen3moe"], 8),
        (["--tag", "favorite,nothing"], 2),
        (["%"], 0),
        (["--arch", "llama"], 4),
        (["--arch", "llama", "--arch", "qwen3moe"], 8),
        (["--arch", "llama", "--quant", "q8_0"], 2),
        (["--type", "embedding"], 2),
        (["--status", "missing"], 0),
        (["--tag", "favorite"], 2),
        (["--tag", "fav"], 0),
        (["--host", "den"], 4),
        (["--where", "parameter_count > 8e9 AND quantization = 'Q8_0'"], 2),
        (["--limit", "3"], 3),
        (["--limit", "0"], 0),
        (["--offset", "6"], 2),
        (["--offset", "9"], 0),
        (["30b", "--where", "1 OR 1"], 2),
    ],
)
def test_filters(filled: Path, options: list[str], count: int) -> None:
    assert len(names(*options, "--db", filled)) == count


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--arch", "lama"], "note: no architecture 'lama'; did you mean llama (4)?\n"),
        (["--arch", "llama,lama"], "note: no architecture 'lama'; did you mean llama (4)?\n"),
        (["--tag", "favourite"], "note: no tag 'favourite'; did you mean favorite (2)?\n"),
        (["--host", "zzz"], "note: no host 'zzz'\n"),
        (["--type", "vocab"], "note: no type 'vocab'\n"),
        (["--arch", "LLAMA"], ""),
    ],
)
def test_a_value_that_no_model_has_gets_a_note(filled: Path, options: list[str], note: str) -> None:
    result = inside("list", *options, "--db", filled)
    assert (result.code, result.err) == (0, note)


def test_paths_for_xargs(filled: Path) -> None:
    paths = inside("list", "--print0", "--db", filled).out
    assert sorted(paths.removesuffix("\0").split("\0")) == sorted(str(m["path"]) for m in MODELS)


def test_count_and_ids(filled: Path) -> None:
    assert inside("list", "--count", "--db", filled).out == "8\n"
    assert inside("list", "--count", "--arch", "llama", "--db", filled).out == "4\n"
    ids = inside("list", "-q", "--db", filled).out.split()
    assert len({text for text in ids if len(text) == 16}) == 8
    assert on_terminal("list", "-q", "--db", filled).text.split() == ids


def test_the_total_line_counts_what_fits_and_what_there_is(filled: Path) -> None:
    screen = on_terminal("list", "--arch", "llama", "--db", filled, columns=200)
    assert screen.lines[-2] == f"4 of 8 models, 10.1 GiB, {filled} (from --db)"
    screen = on_terminal("list", "--limit", "2", "--db", filled, columns=200)
    assert screen.lines[-3:-1] == ["2 of 8 shown", f"8 models, 59.2 GiB, {filled} (from --db)"]


def test_the_origin_of_the_choice_is_told(filled: Path) -> None:
    result = modelstore("list", "-f", "table", env={"MODELSTORE_DB": str(filled)})
    assert result.out.endswith(f"{filled} (from MODELSTORE_DB)\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--columns", "nmae"], "did you mean name?"),
        (["--columns", "zzz"], "hint: see modelstore help columns"),
        (["--status", "gone"], "one of available, missing, incomplete, truncated, remote"),
        (["--type", "modle"], "one of model, embedding, reranker"),
        (["size>big"], "'big' is not a number for file_size"),
        (["--where", "params < 8X"], "'8X' is not a number for parameter_count"),
        (["--columns", ""], "there is no column ''"),
        (["--sort", "sise"], "there is no column 'sise'"),
        (["--sort", "name:up"], "'name:up' is not a sort order"),
        (["--where", "parameter_count >"], "--where parameter_count > cannot be used"),
        (["--where", "1); DROP TABLE models; --"], "cannot be used"),
        (["--where", "(SELECT 1)"], "cannot be used"),
        (["--where", " "], "--where is empty"),
        (["-q", "--columns", "name"], "-q shows ids alone"),
        (["--json", "-f", "csv"], "contradict each other"),
        (["--limit", "-1"], "see modelstore list --help"),
        (["-f", "xml"], "see modelstore list --help"),
        (["--timeout", "soon"], "'soon' is not a duration"),
    ],
)
def test_usage_errors_are_one_sentence_and_leave_stdout_empty(
    filled: Path, options: list[str], said: str
) -> None:
    result = inside("list", *options, "--db", filled)
    assert result.code == 2
    assert result.out == ""
    assert said in result.err
    lines = result.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "preset"])
def test_no_format_begins_before_the_question_is_known_to_be_good(filled: Path, form: str) -> None:
    result = inside("list", "-f", form, "--where", "nonsense", "--db", filled)
    assert (result.code, result.out) == (2, "")


def test_a_mistyped_path_is_an_error_and_creates_nothing(tmp_path: Path) -> None:
    result = modelstore("list", "--db", tmp_path / "typo.db")
    assert (result.code, result.out) == (3, "")
    assert "typo.db" in result.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_catalogue_it_says_how_to_begin(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    result = modelstore("list", env=home)
    assert (result.code, result.out) == (3, "")
    assert "modelstore import" in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_given_as_text_is_asked_about(filled: Path, tmp_path: Path) -> None:
    result = modelstore("list", filled, "--db", filled)
    assert (result.code, result.err.count("did you mean --db")) == (0, 1)
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    result = modelstore("list", filled, env=home)
    assert (result.code, result.out) == (3, "")
    assert f"hint: did you mean --db {filled}?" in result.err


def test_an_empty_catalogue(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", [])
    assert inside("list", "--json", "--db", db).json == []
    assert inside("list", "-f", "jsonl", "--db", db).out == ""
    assert inside("list", "-q", "--db", db).out == ""
    assert inside("list", "--count", "--db", db).out == "0\n"
    assert inside("list", "--db", db).out.count("\n") == 1
    screen = on_terminal("list", "--db", db, columns=200)
    assert screen.lines == [f"0 models, {db} (from --db)", WAL_LINE]
    assert "modelstore import" in screen.err


def test_a_database_that_is_no_catalogue(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE t (a)')"
    subprocess.run([sys.executable, "-c", code, str(other)], check=True)
    result = modelstore("list", "--db", other)
    assert (result.code, result.out) == (3, "")
    assert "without a table of models" in result.err


def test_another_programs_models_are_listed_and_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "dashboard.db"
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1])
        conn.execute("CREATE TABLE models (id TEXT, name TEXT, path TEXT, favorite INT,"
                     " block_count INT, ctx_size INT, file_size INT, hf_token TEXT)")
        conn.execute("INSERT INTO models VALUES ('model_1', 'Llama', '/a.gguf', 1, 32, 0, 9, 's3')")
        conn.commit()
        print("made", flush=True)
    """
    with python(code, other) as process:
        process.wait(30)
    before = other.read_bytes()
    (model,) = modelstore("list", "--json", "--db", other).json
    assert (model["name"], model["path"], model["file_size"]) == ("Llama", "/a.gguf", 9)
    assert model["context_length"] is None
    assert "s3" not in modelstore("list", "-f", "csv", "--columns", "all", "--db", other).out
    assert other.read_bytes() == before
    assert names("--where", "block_count = 32", "--sort", "-name", "--db", other) == ["Llama"]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    db = fill(
        tmp_path / "m.db",
        [{"name": f"m{n}", "locator": f"name:{n}", "license": "x" * 900} for n in range(2_000)],
    )
    for form in ("tsv", "json", "jsonl", "csv", "table"):
        command = f'"{sys.executable}" -m modelstore list -c all -f {form} --db "{db}"'
        done = subprocess.run(
            ["/bin/sh", "-c", f'{{ {command}; echo "code $?" >&2; }} | head -c 100'],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        assert len(done.stdout) == 100
        assert done.stderr == "code 0\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told(filled: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "modelstore", "list", "--db", str(filled)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert "stdout could not be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_log_held_is_folded_and_told(shelf: Path) -> None:
    with python(KILLED_WRITER, shelf) as process:
        process.wait(30)
    wal = shelf.with_name(shelf.name + "-wal")
    frames = (wal.stat().st_size - 32) // (4096 + 24)
    assert frames >= 7
    result = modelstore("list", "--json", "--db", shelf)
    assert result.err == (
        f"[Database] WAL checkpoint: {frames} pages checkpointed, {frames} log pages, busy: 0\n"
    )
    assert {model["license"] for model in result.json} == {"licence 6"}
    assert not wal.exists() or wal.stat().st_size == 0


def test_no_checkpoint_leaves_database_and_log_as_they_are(shelf: Path) -> None:
    with python(KILLED_WRITER, shelf) as process:
        process.wait(30)
    wal = shelf.with_name(shelf.name + "-wal")
    before = shelf.read_bytes(), wal.read_bytes()
    result = modelstore("list", "--json", "--no-checkpoint", "--db", shelf)
    assert {model["license"] for model in result.json} == {"licence 6"}
    assert (shelf.read_bytes(), wal.read_bytes()) == before


def test_the_wal_line_of_a_terminal_has_the_true_numbers(shelf: Path) -> None:
    with python(KILLED_WRITER, shelf) as process:
        process.wait(30)
    frames = (shelf.with_name(shelf.name + "-wal").stat().st_size - 32) // (4096 + 24)
    screen = on_terminal("list", "--db", shelf)
    assert screen.lines[-1] == (
        f"WAL pages: {frames} in log, {frames} checkpointed, 0 left; busy: no"
    )


def test_what_is_gone_is_not_shown_as_if_it_were_there(tmp_path: Path) -> None:
    models: list[dict[str, Any]] = [
        {"name": "there", "locator": "name:a", "file_size": 2048, "status": "available"},
        {"name": "gone", "locator": "name:b", "file_size": 4096, "status": "missing"},
    ]
    screen = on_terminal("list", "--db", fill(tmp_path / "m.db", models), columns=200)
    gone = next(line for line in screen.lines if "gone" in line)
    assert gone.split()[-1] == "missing"
    assert screen.lines[-2].startswith("2 models, 2.0 KiB, ")


def test_a_spreadsheet_gets_no_formula_unless_asked(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", [{"name": "=1+1", "locator": "name:a", "file_size": 5}])
    columns = ("--columns", "name,file_size", "--no-header", "-f", "csv", "--db", db)
    assert inside("list", *columns).out == "'=1+1,5\n"
    assert inside("list", "--formulas", *columns).out == "=1+1,5\n"


def test_a_preset_file(filled: Path) -> None:
    result = modelstore("list", "-f", "preset", "--tag", "work", "--db", filled)
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=(";", "#"))
    parser.read_string("[before]\n" + result.out)
    assert {name: dict(parser[name]) for name in parser.sections() if name != "before"} == {
        model["name"]: {"model": model["path"], "tags": "favorite,work"}
        for model in MODELS
        if model["tags"]
    }


def test_a_blob_of_a_store_is_served_without_a_name_or_a_file_type(tmp_path: Path) -> None:
    blob = "/srv/blobs/sha256-" + "ab" * 32
    told = {"tokenizer.ggml.model": "gpt2", "llama.rope.dimension_count": 128}
    models = [
        {"name": "tiny:1b", "path": blob, "parameters": told},
        {"name": "tiny:mlx", "path": "/srv/blobs/sha256-" + "cd" * 32, "parameters": {}},
    ]
    db = fill(tmp_path / "m.db", models)
    result = modelstore("list", "-f", "preset", "--db", db)
    assert re.findall("^model = (.*)$", result.out, re.MULTILINE) == [blob]


def test_a_preset_file_imports_again_as_the_same_models(filled: Path, tmp_path: Path) -> None:
    preset = tmp_path / "models.ini"
    preset.write_text(modelstore("list", "-f", "preset", "--db", filled).out)
    again = tmp_path / "again.db"
    done = modelstore("import", preset, "--from", "preset", "--db", again)
    assert done.code == 0, done.err
    columns = ("--columns", "name,path,tags", "--sort", "name")
    listed = modelstore("list", *columns, "--db", again).out
    assert listed == modelstore("list", *columns, "--db", filled).out


def test_json_round_trips_through_an_import(filled: Path, tmp_path: Path) -> None:
    first = modelstore("list", "--json", "--sort", "id", "--db", filled)
    again = tmp_path / "again.db"
    done = modelstore("import", "-", "--db", again, stdin=first.out.encode())
    assert done.code == 0, done.err
    second = modelstore("list", "--json", "--sort", "id", "--db", again)
    changing = ("created_at", "updated_at")
    for one, other in zip(first.json, second.json, strict=True):
        assert {k: v for k, v in one.items() if k not in changing} == {
            k: v for k, v in other.items() if k not in changing
        }


def test_json_loads_neither_rich_nor_numpy(filled: Path) -> None:
    code = (
        "import sys\n"
        "from modelstore.cli.main import run\n"
        "run(sys.argv[1:])\n"
        "heavy = {'rich', 'numpy', 'yaml', 'urllib3', 'gguf', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for form in ("json", "jsonl", "tsv", "csv", "table"):
        done = subprocess.run(
            [sys.executable, "-c", code, "list", "-f", form, "--db", str(filled)],
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
        assert done.stderr == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_amid_a_slow_expression_is_no_bug(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """SQLite's module swallows what a signal's handler raises inside its progress handler."""
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(2_000)).code == 0
    program = """
        import os, sys
        from modelstore.__main__ import main
        from modelstore.catalogue.expression import TimeBudget

        number = int(sys.argv.pop())

        def interrupted(budget):
            print("amid", file=sys.stderr, flush=True)
            os.kill(os.getpid(), number)

        TimeBudget.expired = interrupted
        main()
    """
    slow = " OR ".join(f"name LIKE '%M%o%d%e%l%{n}%x%y%z%'" for n in range(500))
    arguments = ("list", "--count", "--where", slow, "--db", db, str(int(number)))
    with python(program, *arguments, stderr=subprocess.PIPE) as run:
        out, err = run.communicate(timeout=PATIENCE)
    assert (run.returncode, out) == (code, "")
    first, *_, last = err.splitlines()
    assert (first, last) == ("amid", {130: "interrupted", 143: "terminated"}[code])


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
def test_a_closed_stdout_is_never_a_databases_descriptor(shelf: Path) -> None:
    command = f'"{sys.executable}" -m modelstore tag {NAMES[0]} --add x --db "{shelf}" >&- 2>&-'
    done = subprocess.run(["sh", "-c", command], env=environment(), check=False)
    assert done.returncode == 0
    assert len(inside("list", "--tag", "x", "-q", "--db", shelf).out.split()) == 1
    assert modelstore("verify", shelf, "--strict", "--skip", "environment").code == 0


@pytest.fixture(name="memories", scope="module")
def _memories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of the models in the repository."""
    db = tmp_path_factory.mktemp("memory") / "m.db"
    assert modelstore("import", DATA, "--db", db).code == 0
    return db


GEMMA = 2848 + 2 * 2560 * 64  # weights; two layers, each with a window of 2,560 cells of 64 bytes


def test_a_context_adds_the_memory_for_it(memories: Path) -> None:
    result = inside("list", "--ctx", "32k", "--json", "--db", memories)
    memory = {model["name"]: model["memory"] for model in result.json}
    assert memory["tiny-gemma-3-it-Q4_0"] == GEMMA
    assert memory["tiny-mistral"] is None  # safetensors
    assert tuple(result.json[0]) == (*MODEL_COLUMNS, "memory")
    assert "4 models are trained for fewer tokens than 32,768" in result.err
    tsv = inside("list", "--ctx", "32k", "--db", memories).out.splitlines()
    assert tsv[0].split("\t")[-1] == "memory"
    screen = on_terminal("list", "--ctx", "32k", "--db", memories)
    assert "MEMORY" in screen.lines[0]


def test_slots_of_their_own_have_smaller_windows(memories: Path) -> None:
    arguments = ("--ctx", "32k", "-c", "memory", "--no-header", "--db", memories)
    shared = inside("list", "gemma", *arguments).out
    alone = inside("list", "gemma", "--parallel", "1", *arguments).out
    assert (int(shared), int(alone)) == (GEMMA, 2848 + 2 * 1024 * 64)


def test_memory_is_a_column_like_any_other(memories: Path) -> None:
    rows = inside("list", "-c", "name,memory", "--sort", "-memory", "--json", "--db", memories).json
    known = [row["memory"] for row in rows if row["memory"] is not None]
    assert len(known) > 2
    assert known == sorted(known, reverse=True)
    assert rows[-1]["memory"] is None
    small = ["tiny-gemma-3-it-Q4_0", "Tiny-Llama-7K-Instruct-Q8_0"]
    assert names("memory<1MiB", "--type", "model", "--db", memories) == small
    large = names("--where", "memory > 1MiB AND memory < 4GB", "--db", memories)
    assert large == ["Tiny-Qwen3-7K-F16"]


@pytest.mark.parametrize(
    "options",
    [
        ("--ctx", "0"),
        ("--ctx", "many"),
        ("--ctx", "-1"),
        ("--ctx", "2000M"),
        ("--cache-type-k", "q9"),
        ("--parallel", "0"),
        ("--parallel", "257"),
        ("--parallel", "1", "--count"),
        ("--cache-type-v", ""),
        ("--ctx", "32k", "-c", "name"),
        ("--ctx", "32k", "-q"),
        ("--ctx", "32k", "--count"),
        ("--ctx", "32k", "--print0"),
        ("--ctx", "32k", "-f", "preset"),
    ],
)
def test_a_context_that_means_nothing_is_refused(options: tuple[str, ...], memories: Path) -> None:
    result = inside("list", *options, "--db", memories)
    assert result.code == 2
    assert result.out == ""
    assert "hint: " in result.err


def test_an_age_is_compared_with_the_time_that_has_passed(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    now = time.time()
    ages = {"new": 0.1, "week": 8, "month": 40, "old": 800}  # days
    lines = [
        json.dumps({"name": name, "modified_at": utc_text(now - days * 86_400)})
        for name, days in ages.items()
    ]
    assert modelstore("import", "-", "--db", db, stdin="\n".join(lines).encode()).code == 0
    for age, older in (("1h", 4), ("3D", 3), ("1w", 3), ("30d", 2), ("1.5y", 1), ("9y", 0)):
        assert len(names(f"modified>{age}", "--db", db)) == older, age
        assert len(names(f"modified_at<={age}", "--db", db)) == 4 - older
        assert len(names("--where", f"modified > {age}", "--db", db)) == older
    assert names("modified>1h", "modified<30d", "--db", db) == ["new", "week"]
    result = inside("list", "modified=7d", "--db", db)
    assert (result.code, result.out) == (2, "")
    assert "'7d' is an age" in result.err


ABLE: list[dict[str, Any]] = [
    {"name": "a", "locator": "name:a", "capabilities": ["tools", "vision"]},
    {"name": "b", "locator": "name:b", "capabilities": ["tools"], "revision": "1234"},
    {"name": "c", "locator": "name:c", "capabilities": []},
    {
        "name": "d",
        "locator": "name:d",
        "parameter_count": 1000,
        "parameters": {"tensor_bytes": 562},
    },
]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--capability", "tools"], ["a", "b"]),
        (["--capability", "vision,embedding"], ["a"]),
        (["--capability", "embedding"], []),
        (["--where", "capabilities IS NULL"], ["d"]),
        (["bpw<4.6", "bpw>4.4"], ["d"]),
        (["--where", "BPW < 5"], ["d"]),
        (["revision=1234"], ["b"]),
    ],
)
def test_capabilities_and_computed_columns_choose_models(
    tmp_path: Path, options: list[str], names: list[str]
) -> None:
    db = fill(tmp_path / "m.db", ABLE)
    done = inside("list", *options, "-c", "name", "--no-header", "--db", db)
    assert (done.code, done.out.split()) == (0, names), done.err


def test_a_capability_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", ABLE)
    done = inside("list", "--capability", "flight", "--db", db)
    assert (done.code, done.out) == (2, "")
    assert "thinking" in done.err


def test_capabilities_are_an_array_and_unknown_ones_null(tmp_path: Path) -> None:
    db = fill(tmp_path / "m.db", ABLE)
    lines = inside("list", "-c", "capabilities,bpw", "-f", "jsonl", "--db", db).out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"capabilities": ["tools", "vision"], "bpw": None},
        {"capabilities": ["tools"], "bpw": None},
        {"capabilities": [], "bpw": None},
        {"capabilities": None, "bpw": 4.5},
    ]
    copied = tmp_path / "copy.db"
    listed = inside("list", "--json", "--db", db).out
    (tmp_path / "all.json").write_text(listed)
    assert inside("import", tmp_path / "all.json", "--db", copied).code == 0
    assert inside("list", "--json", "-c", "name,capabilities,revision", "--db", copied).out == (
        inside("list", "--json", "-c", "name,capabilities,revision", "--db", db).out
    )
