from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.cli import import_report
from modelstore.database.checkpoint import Checkpoint
from modelstore.database.proof import Proof
from modelstore.database.sqlite import sqlite3 as linked
from modelstore.importing import importer
from modelstore.importing.result import ImportResult
from tests.cli.inside import inside
from tests.cli.program import DATA, alone, environment, modelstore, python, reader, records
from tests.cli.terminal import on_terminal
from tests.waiting import awaits_input, wait_until


def test_imported_models_are_in_the_main_file_alone(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    result = modelstore("import", "-", "--db", db, stdin=records(18))
    assert result.code == 0, result.err
    assert "18 rows counted in the main file alone" in result.out
    copy = tmp_path / "copy.db"
    shutil.copy(db, copy)  # the .db alone, as a careless backup does
    listed = modelstore("list", "--json", "--db", copy)
    assert len(listed.json) == 18


def test_rows_survive_when_the_log_is_deleted_after_exit(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(18)).code == 0
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"m.db{suffix}").unlink(missing_ok=True)
    assert alone(db) == [(18,)]
    assert modelstore("list", "--count", "--db", db).out.strip() == "18"


def test_printed_numbers_are_the_frames_that_were_folded(tmp_path: Path) -> None:
    """A writer that never checkpoints leaves frames; a command folds just those, and says so."""
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(3)).code == 0
    code = """
        import os, sqlite3, struct, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("PRAGMA wal_autocheckpoint=0")
        for n in range(7):
            conn.execute("UPDATE models SET name = name || ?", (str(n),))
        size = os.path.getsize(sys.argv[1] + "-wal")
        page = struct.unpack(">I", open(sys.argv[1] + "-wal", "rb").read(12)[8:])[0]
        print((size - 32) // (page + 24), flush=True)
        os.kill(os.getpid(), 9)
    """
    with python(code, db) as process:
        assert process.stdout is not None
        frames = int(process.stdout.readline())
        process.wait()
    result = modelstore("list", "--json", "--db", db)
    assert frames >= 7
    assert (
        f"[Database] WAL checkpoint: {frames} pages checkpointed, {frames} log pages, busy: 0"
        in result.err
    )


def test_a_reader_in_the_way_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(2, "Old")).code == 0
    with reader(db) as process:
        result = modelstore("import", "-", "--db", db, "--timeout", "1s", stdin=records(18))
        assert result.code == 4, result.err
        assert f"pid {process.pid}" in result.out
        assert "python" in result.out
        assert f"modelstore checkpoint {db}" in result.out  # what to do next
        assert alone(db) == [(2,)]
        assert modelstore("list", "--count", "--db", db).out.strip() == "20"
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout is not None
        assert process.stdout.readline() == "released\n"
        assert modelstore("list", "--count", "--db", db).out.strip() == "20"
        assert alone(db) == [(20,)]


def test_pending_rows_can_be_allowed(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(2, "Old")).code == 0
    with reader(db):
        arguments = ("import", "-", "--db", db, "--timeout", "300ms", "--allow-pending", "--json")
        result = modelstore(*arguments, stdin=records(18))
        assert result.code == 0, result.err
        assert result.json["in_main_file"] is False
        assert result.json["checkpoint"]["left"] > 0
        assert result.json["checkpoint"]["wal_synced"] is True


def test_a_locked_database_is_exit_7_and_nothing_is_written(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(2, "Old")).code == 0
    code = """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1], isolation_level=None)
        conn.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.readline()
    """
    with python(code, db) as process:
        assert process.stdout is not None
        process.stdout.readline()
        result = modelstore("import", "-", "--db", db, "--timeout", "200ms", stdin=records(18))
    assert result.code == 7
    assert result.out == ""
    assert str(process.pid) in result.err
    assert alone(db) == [(2,)]


def test_patience_that_ends_between_two_sources_says_what_was_written(tmp_path: Path) -> None:
    db, first = tmp_path / "m.db", tmp_path / "first.jsonl"
    assert modelstore("import", "-", "--db", db, stdin=records(2, "Old")).code == 0
    first.write_bytes(records(5, "First"))
    code = """
        import sqlite3, sys, time
        conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
        while conn.execute("SELECT count(*) FROM models").fetchone() != (7,):
            time.sleep(0.01)
        conn.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.readline()
    """
    arguments = ["import", str(first), "-", "--from", "jsonl", "--db", str(db), "--timeout", "1"]
    with python(code, db) as process:
        running = subprocess.Popen(
            [sys.executable, "-m", "modelstore", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        out, err = running.communicate(records(3, "Second"))
    assert running.returncode == 4, err
    assert out == b""
    assert b"5 models were committed" in err
    assert b"nothing was written" not in err
    assert modelstore("checkpoint", db).code == 0
    assert alone(db) == [(7,)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells who sleeps")
def test_patience_that_ends_before_the_first_model_is_exit_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of a new catalogue are written by then, and no model."""

    def busy(_db: object) -> int:
        error = linked.OperationalError("")
        error.sqlite_errorcode = linked.SQLITE_BUSY
        raise error

    monkeypatch.setattr(importer, "last_row", busy)
    (tmp_path / "one.jsonl").write_text('{"name": "a", "path": "/m/a.gguf"}\n')
    done = inside("import", tmp_path / "one.jsonl", "--db", tmp_path / "models.db")
    assert (done.code, done.out) == (7, "")
    assert alone(tmp_path / "models.db") == [(0,)]


def test_a_slow_producer_holds_no_lock(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(1, "Old")).code == 0
    slow = subprocess.Popen(
        [sys.executable, "-m", "modelstore", "import", "-", "--from", "jsonl", "--db", str(db)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert slow.stdin is not None
    slow.stdin.write(records(5, "Slow") + b"\n")
    slow.stdin.flush()
    wait_until(lambda: awaits_input(slow), slow)
    other = modelstore("import", "-", "--db", db, "--timeout", "0", stdin=records(3, "Quick"))
    assert other.code == 0, other.err
    _, err = slow.communicate(records(1, "Last"))
    assert slow.returncode == 0, err
    assert alone(db) == [(10,)]


def test_only_import_creates_a_database(tmp_path: Path) -> None:
    for command in (["list"], ["show", "x"], ["tag", "x", "--add", "y"], ["forget", "x", "--yes"]):
        result = modelstore(*command, "--db", tmp_path / "typo.db")
        assert result.code == 3, command
        assert result.out == ""
        assert "typo.db" in result.err
        assert "hint:" in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_newcomer_is_told_how_to_begin(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    result = modelstore("list", env=home)
    assert result.code == 3
    assert "modelstore import" in result.err
    assert not (tmp_path / "data").exists()


def test_the_default_place_is_created_for_an_import(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    assert modelstore("import", "-", stdin=records(2), env=home).code == 0
    assert modelstore("list", "--count", env=home).out.strip() == "2"


def test_a_model_given_as_database_is_called_a_model() -> None:
    model = next(DATA.rglob("*.gguf"))
    result = modelstore("list", "--db", model)
    assert result.code == 3
    assert "GGUF" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", ""],
        ["import", "-", "-"],
        ["import", "x", "--discover"],
        ["import", "x", "--from", "nonsense"],
        ["import", "x", "--timeout", "soon"],
        ["import", "x", "--json", "-f", "csv"],
        ["import", "x", "--host", ""],
        ["list", "--db", ""],
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_2(tmp_path: Path, arguments: list[str]) -> None:
    result = modelstore(*arguments, cwd=tmp_path)
    assert result.code == 2
    assert result.out == ""
    first, *rest = result.err.splitlines()
    assert first.startswith("error: ")
    assert all(line.startswith("hint: ") for line in rest)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_source_is_exit_3_before_anything_is_made(tmp_path: Path) -> None:
    result = modelstore("import", tmp_path / "gone", "--db", tmp_path / "m.db")
    assert result.code == 3
    assert "gone" in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_real_directory_of_models_imports(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    result = modelstore("import", DATA, "--db", db, "--json")
    assert result.code == 0, result.err
    assert result.json["added"] >= 3
    assert result.json["proof"]["kind"] == "main file alone"
    again = modelstore("import", DATA, "--db", db, "--json").json
    assert again["unchanged"] == result.json["added"]
    assert (again["added"], again["updated"]) == (0, 0)


def test_an_unchanged_tree_is_not_read_again(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", DATA, "--db", db).code == 0
    code = f"""
        import sys
        opened = []
        def hook(event, args):
            if event == "open":
                opened.append(str(args[0]))
        sys.addaudithook(hook)
        from modelstore.cli.main import run
        code = run(["import", {str(DATA)!r}, "--db", {str(db)!r}])
        print(code, [path for path in opened if path.endswith((".gguf", ".safetensors"))])
    """
    with python(code) as process:
        out, _ = process.communicate()
    assert out.splitlines()[-1] == "0 []"


def test_the_users_marks_survive(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", DATA, "--db", db, "--tag", "mine").code == 0
    name = modelstore("list", "--json", "--db", db).json[0]["id"]
    assert modelstore("tag", name, "--add", "favorite", "--db", db).code == 0
    shutil.copytree(DATA, tmp_path / "elsewhere")
    assert modelstore("import", DATA, tmp_path / "elsewhere", "--db", db).code == 0
    listed = modelstore("list", "--json", "--tag", "favorite", "--db", db).json
    assert [model["id"] for model in listed] == [name]
    assert listed[0]["tags"] == ["favorite", "mine"]


def test_a_listing_comes_back_as_it_was(tmp_path: Path) -> None:
    first, second = tmp_path / "a.db", tmp_path / "b.db"
    assert modelstore("import", DATA, "--db", first, "--tag", "x").code == 0
    listing = ("list", "--json", "--sort", "locator", "--db")
    listed = modelstore(*listing, first).out
    assert modelstore("import", "-", "--db", second, stdin=listed.encode()).code == 0
    assert json.loads(modelstore(*listing, second).out) == json.loads(listed)


def test_another_catalogue_is_taken_over_with_its_pending_rows(tmp_path: Path) -> None:
    first, second = tmp_path / "a.db", tmp_path / "b.db"
    assert modelstore("import", "-", "--db", first, stdin=records(3)).code == 0
    code = """
        import os, sqlite3, sys
        conn = sqlite3.connect(sys.argv[1])
        conn.execute("UPDATE models SET license = 'mit'")
        conn.commit()
        print("done", flush=True)
        os.kill(os.getpid(), 9)
    """
    with python(code, first) as process:
        process.wait()
    before = (tmp_path / "a.db-wal").read_bytes()
    result = modelstore("import", first, "--db", second)
    assert result.code == 0, result.err
    assert "WAL" in result.err
    assert {row["license"] for row in modelstore("list", "--json", "--db", second).json} == {"mit"}
    assert (tmp_path / "a.db-wal").read_bytes() == before


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    result = modelstore("import", DATA, "--db", db, "--dry-run")
    assert result.code == 0, result.err
    assert "nothing was written" in result.out
    assert result.err == ""  # what the private copy folded is not the catalogue's
    assert not db.exists()
    assert modelstore("import", DATA, "--db", db).code == 0
    before = db.read_bytes()
    plan = modelstore("import", DATA, "-", "--db", db, "--dry-run", "--json", stdin=records(2)).json
    assert plan["added"] == 2
    assert plan["unchanged"] >= 3
    assert plan["checkpoint"] is None
    assert db.read_bytes() == before


def test_an_empty_source_is_a_fault_unless_allowed(tmp_path: Path) -> None:
    empty = tmp_path / "models"
    empty.mkdir()
    (empty / "notes.txt").write_text("no model")
    result = modelstore("import", empty, "--db", tmp_path / "m.db")
    assert result.code == 6
    assert "--allow-empty" in result.err
    assert modelstore("import", empty, "--db", tmp_path / "m.db", "--allow-empty").code == 0


def test_one_bad_file_is_named_and_the_rest_is_imported(tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "models")
    (tmp_path / "models" / "bad\x1b[31m.gguf").write_bytes(b"GGUF" + bytes(3))
    result = modelstore("import", tmp_path / "models", "--db", tmp_path / "m.db")
    assert result.code == 6
    assert "bad\\x1b[31m.gguf" in result.err
    assert "\x1b" not in result.err + result.out
    assert modelstore("list", "--count", "--db", tmp_path / "m.db").out.strip() != "0"


def test_a_model_that_is_gone_is_missing_until_it_is_pruned(tmp_path: Path) -> None:
    models, db = tmp_path / "models", tmp_path / "m.db"
    shutil.copytree(DATA, models)
    assert modelstore("import", models, "--db", db).code == 0
    gone = next(models.rglob("*.gguf"))
    gone.unlink()
    result = modelstore("import", models, "--db", db, "--json")
    assert result.json["missing"] == 1
    missing = modelstore("list", "--status", "missing", "--json", "--db", db).json
    assert [model["path"] for model in missing] == [str(gone)]
    pruned = modelstore("import", models, "--db", db, "--prune", "--yes", "--json").json
    assert (pruned["missing"], pruned["pruned"]) == (0, 1)
    assert modelstore("list", "--status", "missing", "--json", "--db", db).json == []


def test_a_prune_asks(tmp_path: Path) -> None:
    models, db = tmp_path / "models", tmp_path / "m.db"
    shutil.copytree(DATA, models)
    assert modelstore("import", models, "--db", db).code == 0
    gone = min(models.rglob("tiny-bert*.gguf"))
    gone.unlink()
    before = db.read_bytes()
    refused = modelstore("import", models, "--db", db, "--prune")
    assert (refused.code, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert db.read_bytes() == before
    dry = modelstore("import", models, "--db", db, "--prune", "--dry-run", "--json").json
    assert [(one["change"], one["name"]) for one in dry["changes"]] == [("pruned", gone.stem)]
    screen = on_terminal("import", models, "--db", db, "--prune", answer="n\n")
    assert gone.stem in screen.plain
    assert "[y/N]" in screen.plain
    assert modelstore("list", "--status", "missing", "-c", "name", "--no-header", "--db", db).out
    screen = on_terminal("import", models, "--db", db, "--prune", answer="y\n")
    assert any(line.split()[:1] == ["-"] and gone.stem in line for line in screen.lines)
    assert gone.stem not in modelstore("list", "--db", db).out


def test_what_changed_is_named(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=b'{"name": "a"}\n{"name": "b"}').code == 0
    lines = b'{"name": "a", "architecture": "llama"}\n{"name": "b"}\n{"name": "c\\u001b[31m"}'
    said = [("updated", "a"), ("added", "c\x1b[31m")]
    dry = modelstore("import", "-", "--db", db, "--dry-run", "--json", stdin=lines)
    assert [(one["change"], one["name"]) for one in dry.json["changes"]] == said
    words = modelstore("import", "-", "--db", db, "--dry-run", stdin=lines).out
    assert [line.split()[0::2] for line in words.splitlines()[3:5]] == [
        ["~", "a"],
        ["+", "c\\x1b[31m"],
    ]
    many = records(30)
    result = modelstore("import", "-", "--db", db, "--json", stdin=many)
    assert result.json["changes"] is None
    one = modelstore("import", "-", "--db", db, "--json", stdin=b'{"name": "d"}').json
    assert [(change["change"], change["name"]) for change in one["changes"]] == [("added", "d")]
    more = modelstore("import", "-", "--db", db, "-v", "--json", stdin=records(30, "Other")).json
    assert len(more["changes"]) == 30
    quiet = modelstore("import", "-", "--db", db, "-q", stdin=many)
    assert (quiet.code, quiet.out) == (0, "")


def test_an_unmounted_disk_is_not_a_deletion(tmp_path: Path) -> None:
    models, db = tmp_path / "models", tmp_path / "m.db"
    shutil.copytree(DATA, models)
    assert modelstore("import", models, "--db", db).code == 0
    shutil.rmtree(models)
    models.mkdir()
    result = modelstore("import", models, "--db", db, "--prune", "--yes", "--allow-empty", "--json")
    assert result.json["sources"][0]["offline"]
    assert (result.json["missing"], result.json["pruned"]) == (7, 0)
    assert len(modelstore("list", "--status", "missing", "--json", "--db", db).json) == 7
    shutil.copytree(DATA, models, dirs_exist_ok=True)  # it is mounted again
    assert modelstore("import", models, "--db", db).code == 0
    assert modelstore("list", "--status", "missing", "--json", "--db", db).json == []


def test_rows_are_not_said_to_be_in_a_log_that_is_gone() -> None:
    for folded, pending in (
        (Checkpoint(mode="truncate", left=6, in_main_file=False, wal_synced=True), True),
        (Checkpoint(mode="truncate", left=6, in_main_file=False, log_deleted=True), False),
        (Checkpoint(mode="truncate", left=6, in_main_file=False, reason="replaced"), False),
    ):
        result = ImportResult(
            database="my m.db",
            origin="--db",
            tallies=(),
            checkpoint=folded,
            proof=Proof("checkpoint evidence", None, 18),
            dry_run=False,
            allow_empty=False,
            allow_pending=False,
            lock_seconds=0.0,
        )
        said = " ".join(str(part) for part in import_report.import_report(result).body)
        assert ("database + WAL" in said) is pending
        assert ("modelstore checkpoint 'my m.db'" in said) is pending
        assert ("may be lost" in said) is not pending


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_data_file_is_there_wholly_or_not_at_all(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(2, "Old")).code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", "import", "-", "--from", "jsonl", "--db", str(db)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    process.stdin.write(records(5000))  # more than a pipe holds: it is being read
    process.stdin.flush()
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code, err
    assert out == b""
    assert b"nothing of this import was committed" in err
    assert err.splitlines()[-1] == {130: b"interrupted", 143: b"terminated"}[code]
    assert b"Traceback" not in err
    assert alone(db) == [(2,)]


def test_a_catalogue_is_never_wider_than_the_umask(tmp_path: Path) -> None:
    code = f"""
        import os
        os.umask(0o077)
        from modelstore.cli.main import run
        raise SystemExit(run(["import", {str(DATA)!r}, "--db", {str(tmp_path / "m.db")!r}]))
    """
    with python(code) as process:
        process.communicate()
    assert process.returncode == 0
    assert stat.S_IMODE(os.stat(tmp_path / "m.db").st_mode) == 0o600


def test_the_summary_outlives_a_closed_stdout(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", "import", str(DATA), "--db", str(db)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    assert alone(db)[0][0] >= 3


def test_another_programs_database_is_never_altered(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    with sqlite3.connect(db) as conn:
        conn.execute("CREATE TABLE users (name)")
    conn.close()
    before = db.read_bytes()
    result = modelstore("import", DATA, "--db", db)
    assert result.code == 3
    assert "another program" in result.err
    assert db.read_bytes() == before


def test_a_source_without_a_model_leaves_no_trace(tmp_path: Path) -> None:
    empty = tmp_path / "notes"
    empty.mkdir()
    (empty / "notes.txt").write_text("no model")
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF")
    database = tmp_path / "models.db"
    good = DATA / "tiny-bert-embed-F32.gguf"
    done = modelstore("import", empty, bad, good, "--db", database, "--json")
    assert done.code in (3, 6)
    with closing(sqlite3.connect(database)) as conn:
        for table, column in (
            ("models", "path"),
            ("model_files", "path"),
            ("model_places", "root"),
            ("roots", "root"),
        ):
            assert conn.execute(f"SELECT {column} FROM {table}").fetchall() == [(str(good),)]
