"""The program as CI runs it: the incident, every option, every form of the result."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelstore.verify.checks import check_names
from tests.cli.logs import flip_bit, frame_offset, killed_writer, state_of
from tests.cli.program import alone, modelstore, python, reader, records
from tests.cli.terminal import on_terminal, stderr_on_terminal
from tests.waiting import PATIENCE

APPLICATION = """
    import sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA wal_autocheckpoint=0")
    conn.execute("CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT)")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(1, 19):
        conn.execute("INSERT INTO models (name) VALUES (?)", (f"Model-{n}",))
    print("imported", flush=True)
    sys.stdin.readline()
"""
NAMES = [f"Model-{n}" for n in range(1, 19)]


@contextmanager
def application(db: Path) -> Iterator[subprocess.Popen[str]]:
    """Run an application that imported 18 models and holds its connection; killed at the end."""
    with python(APPLICATION, db) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "imported\n"
        yield process


def of(report: dict[str, list[dict[str, object]]], *results: str) -> dict[object, object]:
    return {f["code"]: f["measured"] for f in report["findings"] if f["result"] in results}


def test_the_incident(tmp_path: Path) -> None:
    """The 18 rows are named while they can be saved, saved, and missed when it is too late."""
    saved, lost = tmp_path / "saved.db", tmp_path / "lost.db"
    with application(saved):
        alive = modelstore("verify", saved, "--no-checkpoint", "--json")
        assert alive.code == 5
    for db in (saved, lost):
        if db is lost:
            with application(db):
                pass
        before = {name: digest for name, (digest, _) in state_of(db).items() if "shm" not in name}
        result = modelstore("verify", db, "--no-checkpoint", "--json")
        after = {name: digest for name, (digest, _) in state_of(db).items() if "shm" not in name}
        assert after == before
        assert result.code == 5
        failures = of(result.json, "fail")
        assert set(failures) == {"persistence.pending"}
        assert all(name in str(failures["persistence.pending"]) for name in NAMES)
    assert alone(saved) == [(0,)]
    result = modelstore("verify", saved, "--expect-count", "18", "--json")
    assert result.code == 0
    assert set(of(result.json, "warn")) == {"log.pending"}
    assert alone(saved) == [(18,)]
    Path(f"{lost}-wal").unlink()
    result = modelstore("verify", lost, "--expect-count", "18", "--json")
    assert result.code == 5
    failures = of(result.json, "fail")
    assert "models: 0 rows" in str(failures["expectations.count"])
    assert "counts 18 frames" in str(of(result.json, "warn")["log.gone"])


def test_strict_fails_for_what_was_only_in_the_log(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 3)
    result = modelstore("verify", db, "--strict")
    assert result.code == 5
    assert result.out.splitlines()[-1] == "FAIL, 1 warning (--strict)"
    assert modelstore("verify", db, "--strict").code == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks are told on Linux alone")
def test_a_fold_that_is_still_blocked_fails_and_names_who_blocks(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 3)
    with reader(db) as process:
        with python(
            "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute(\"INSERT INTO models (name) VALUES ('late')\"); os.kill(os.getpid(), 9)",
            db,
        ) as late:
            late.wait()
        result = modelstore("verify", db, "--timeout", "100ms", "--json")
        assert result.code == 5
        assert f"pid {process.pid}" in str(of(result.json, "fail")["checkpoint.blocked"])
        assert "late" in str(of(result.json, "fail")["persistence.pending"])
        assert result.json["busy"] is True
        assert result.json["left"] > 0


def test_a_damaged_log_is_left_as_it_is(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 30)
    wal = Path(f"{db}-wal")
    flip_bit(wal, frame_offset(wal, 6) + 24 + 4090)
    before = db.read_bytes(), wal.read_bytes()
    result = modelstore("verify", db, "--expect-count", "30", "--json")
    assert result.code == 5
    assert (db.read_bytes(), wal.read_bytes()) == before
    assert {"log.damaged", "expectations.count"} == set(of(result.json, "fail"))


def test_the_report_for_a_person(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    result = modelstore("verify", db, "--skip", "environment", "--expect-count", "18")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["CHECK", "RESULT", "MEASURED"]
    assert [line.split()[:2] for line in lines[1:-3]] == [
        ["file", "pass"],
        ["log", "warn"],
        ["integrity", "pass"],
        ["integrity", "pass"],
        ["checkpoint", "pass"],
        ["persistence", "pass"],
        ["expectations", "pass"],
    ]
    assert "18 in log, 18 checkpointed, 0 left; busy: no" in lines[5]
    assert "18 of 18 rows in the main file alone" in lines[6]
    assert lines[-3].startswith("log: ")
    assert lines[-2] == f"{db}"
    assert lines[-1] == "PASS, 1 warning (--strict fails)"
    assert result.err == (
        "[Database] WAL checkpoint: 18 pages checkpointed, 18 log pages, busy: 0\n"
    )


def test_a_terminal_has_room_for_it(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 18)
    screen = on_terminal("verify", db)
    assert screen.code == 0
    assert max(map(len, screen.lines)) <= 80
    assert "Model-16,Model-17" in "".join(screen.plain.split())
    assert screen.lines[-1] == "PASS, 1 warning (--strict fails)"
    assert screen.err == ""


def test_the_object_for_a_program(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 5)
    report = modelstore("verify", "--db", db, "--json").json
    assert report["format_version"] == 1
    assert (report["database"], report["database_from"]) == (str(db), "--db")
    assert (report["result"], report["strict"], report["exit_code"]) == ("pass", False, 0)
    assert (report["busy"], report["log"], report["checkpointed"], report["left"]) == (
        *(False, 5, 5, 0),
    )
    assert report["counts"]["warn"] == 1
    assert {f["check"] for f in report["findings"]} == set(check_names()) - {
        *("models", "replica", "drill", "expectations"),
    }
    assert set(report["timings"]) <= set(check_names())


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv"])
def test_the_findings_are_rows(tmp_path: Path, form: str) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 1)
    lines = modelstore("verify", db, "--format", form).out.splitlines()
    if form == "jsonl":
        assert {json.loads(line)["result"] for line in lines} == {"pass", "warn"}
    else:
        assert lines[0].replace("\t", ",") == "check,code,result,measured,where,advice"
    assert any("log.pending" in line for line in lines)


def test_checks_are_chosen(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 1)

    def made(*options: str) -> set[str]:
        report = modelstore("verify", db, "--json", *options).json
        return {finding["check"] for finding in report["findings"]}

    assert made("--only", "log", "--only", "file") == {"log", "file"}
    assert made("--skip", "environment", "--skip", "log") == {
        *("file", "integrity", "checkpoint", "persistence"),
    }
    assert not Path(f"{db}-wal").exists()  # every command folds, whatever it tells


def test_models_of_a_catalogue_are_expected_by_name_and_by_field(tmp_path: Path) -> None:
    db, names = tmp_path / "m.db", tmp_path / "names.txt"
    assert modelstore("import", "-", "--db", db, stdin=records(3)).code == 0
    names.write_text("Model-0\nModel-2\n")
    assert modelstore("verify", "--db", db, "--expect", names, "--min-count", "2").code == 0
    names.write_text("Model-0\nModel-7\n")
    result = modelstore("verify", "--db", db, "--expect", names)
    assert result.code == 5
    assert "missing: Model-7" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "nothing"), "no check 'nothing'"),
        (("--only", "log", "--skip", "log"), "no check is left"),
        (("--expect-count", "many"), "no count"),
        (("--expect", "/does/not/exist"), "does not exist"),
        (("--max-wal-size", "big"), "not a size"),
        (("--timeout", "soon"), "not a duration"),
        (("--json", "--format", "csv"), "contradict"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = modelstore("verify", tmp_path / "app.db", *arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert "Traceback" not in result.err


def test_what_is_absent_or_no_database_is_refused(tmp_path: Path) -> None:
    result = modelstore("verify", tmp_path / "absent.db", "--junit", tmp_path / "j.xml")
    assert (result.code, result.out) == (3, "")
    assert "does not exist" in result.err
    (tmp_path / "text").write_text("only text\n" * 20)
    assert modelstore("verify", tmp_path / "text").code == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "text"]


def test_results_are_written_to_files(tmp_path: Path) -> None:
    db, junit, page = tmp_path / "app.db", tmp_path / "j.xml", tmp_path / "p.html"
    killed_writer(db, 2)
    junit.write_text("from an earlier run")
    result = modelstore("verify", db, "--junit", junit, "--report", page, "--no-checkpoint")
    assert result.code == 5
    tree = ET.parse(junit).getroot()
    assert tree.findall(".//failure")
    assert page.read_text().lower().startswith("<!doctype html>")
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix in {".xml", ".html", ".part"}) == [
        *("j.xml", "p.html"),
    ]


def test_files_are_never_written_through_a_link_nor_over_a_database(tmp_path: Path) -> None:
    db, victim, link = tmp_path / "app.db", tmp_path / "victim", tmp_path / "link"
    killed_writer(db, 2)
    victim.write_text("precious")
    link.symlink_to(victim)
    result = modelstore("verify", db, "--junit", link)
    assert (result.code, result.out) == (2, "")
    assert "symbolic link" in result.err
    assert victim.read_text() == "precious"
    before = db.read_bytes()
    result = modelstore("verify", db, "--report", db)
    assert result.code == 2
    assert "is a database" in result.err
    assert db.read_bytes() == before
    os.mkfifo(tmp_path / "fifo")
    assert modelstore("verify", db, "--report", tmp_path / "fifo").code == 2


def test_a_file_that_cannot_be_written_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 2)
    result = modelstore("verify", db, "--junit", tmp_path / "absent" / "j.xml")
    assert (result.code, result.out) == (3, "")
    assert "--junit" in result.err
    assert Path(f"{db}-wal").stat().st_size


def test_a_file_of_results_has_the_rights_of_any_other(tmp_path: Path) -> None:
    db, junit = tmp_path / "app.db", tmp_path / "j.xml"
    killed_writer(db, 2)
    assert modelstore("verify", db, "--junit", junit).code == 0
    before = os.umask(0)
    os.umask(before)
    assert stat.S_IMODE(junit.stat().st_mode) == 0o666 & ~before


def test_github_gets_annotations_and_a_summary(tmp_path: Path) -> None:
    db, summary = tmp_path / "app.db", tmp_path / "summary.md"
    killed_writer(db, 2)
    summary.write_text("# before\n")
    result = modelstore(
        *("verify", db, "--no-checkpoint"),
        env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)},
    )
    assert "::error title=modelstore verify%3A persistence.pending::" in result.err
    assert "::" not in result.out
    assert summary.read_text().startswith("# before\n")
    assert "persistence" in summary.read_text()


def test_text_of_others_reaches_no_terminal(tmp_path: Path) -> None:
    db = tmp_path / "app.db"
    killed_writer(db, 1)
    with python(
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute(\"INSERT INTO models (name) VALUES ('\\x1b[31m[/]\\u202e' || char(10))\");"
        "c.execute('CREATE TABLE \"\\x1b]0;x\\x07\" (v)'); os.kill(os.getpid(), 9)",
        db,
    ) as writer:
        writer.wait()
    screen = on_terminal("verify", db, "--no-checkpoint", env={"NO_COLOR": "1"})
    assert screen.code == 5
    assert "\x1b" not in screen.text
    assert "\u202e" not in screen.text
    assert "\\x1b[31m[/]\\u202e\\n" in screen.plain.replace("\n ", "").replace(" ", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")
def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while SQLite checks the pages is an interruption, not damage that was found."""
    db = tmp_path / "app.db"
    with python(
        """
        import sqlite3, sys
        conn = sqlite3.connect(sys.argv[1])
        conn.execute("PRAGMA journal_mode = wal")
        conn.execute("CREATE TABLE t (k INTEGER PRIMARY KEY)")
        conn.execute("CREATE INDEX costly ON t (k + 0)")
        conn.execute("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT "
                     "200000) INSERT INTO t SELECT i FROM n")
        zeros = " + ".join(["0"] * 60)  # the same keys, but minutes of work for who checks them
        conn.execute("PRAGMA writable_schema = on")
        conn.execute("UPDATE sqlite_schema SET sql = replace(sql, 'k + 0', "
                     f"'k + {zeros} * length(hex(zeroblob(30000 + k)))') WHERE name = 'costly'")
        conn.commit()
        conn.close()
        """,
        db,
    ) as writer:
        assert writer.wait() == 0
    with stderr_on_terminal("verify", db, "--junit", tmp_path / "j.xml") as (process, shown):
        assert shown("integrity_check")
        process.send_signal(signal.SIGINT)
        assert shown("interrupted")
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out == b""
    assert not (tmp_path / "j.xml").exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_a_directory_is_for_the_drill_alone(tmp_path: Path) -> None:
    result = modelstore("verify", tmp_path)
    assert (result.code, result.out) == (3, "")
    assert "a directory" in result.err


def test_the_help_says_what_ci_wants_to_know() -> None:
    text = modelstore("verify", "--help").out
    for option in ("--expect-count", "--min-count", "--junit", "--strict", "--drill", "--hash"):
        assert option in text
    assert "5" in text
