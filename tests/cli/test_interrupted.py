"""Signals to commands that have committed: they say what is committed, and where it is."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.program import alone, environment, modelstore, reader, records
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
COUNT = "SELECT count(*) FROM models"
TAGGED = "SELECT min(tags) FROM models"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    db = tmp_path / "m.db"
    assert modelstore("import", "-", "--db", db, stdin=records(2, "Old")).code == 0
    return db


# The program, which also says when it has found somebody in the way of a fold and pauses.
TELLING = """
import os
from modelstore.__main__ import main
from modelstore.database import fold, proof
pauses = fold.pauses
def telling():
    pause = pauses()
    def told():
        os.write(2, b"it waits\\n")
        return pause()
    return told
fold.pauses = proof.pauses = telling
main()
"""


@contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", TELLING, *map(str, arguments), "--timeout", "1h"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def committed(db: Path, query: str, expected: object) -> Callable[[], bool]:
    def is_so() -> bool:
        with closing(sqlite3.connect(db)) as conn:
            return bool(conn.execute(query).fetchone() == (expected,))

    return is_so


def waits(process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    assert process.stderr is not None
    lines = iter(process.stderr.readline, b"")
    return lambda: b"it waits\n" in lines


def interrupt(
    process: subprocess.Popen[bytes], number: signal.Signals, when: Callable[[], bool]
) -> list[str]:
    """Send a signal as soon as something is so; return what was said on stderr."""
    wait_until(when, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert out == b""
    assert b"Traceback" not in err
    return [line for line in err.decode().splitlines() if line != "it waits"]


@SIGNALS
def test_an_import_that_waits_for_a_reader_says_where_its_rows_are(
    catalogue: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "new.jsonl").write_bytes(records(5))
    with (
        reader(catalogue),
        started("import", tmp_path / "new.jsonl", "--db", catalogue) as process,
    ):
        said = interrupt(process, number, waits(process))
        assert process.returncode == code, said
        assert alone(catalogue) == [(2,)]
        (note,) = [line for line in said if "this import" in line]
        assert "of this import is committed (5 models added or updated)" in note
        assert note.endswith(f"safe in {catalogue} together with its log, {catalogue}-wal")
        assert any("blocks backfill" in line for line in said)
        assert said[-1] == {130: "interrupted", 143: "terminated"}[code]
    assert modelstore("checkpoint", catalogue).code == 0
    assert alone(catalogue) == [(7,)]


@SIGNALS
def test_a_part_that_was_folded_is_said_to_be_in_the_database(
    catalogue: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The first source is committed; the second never ends."""
    (tmp_path / "new.jsonl").write_bytes(records(5))
    arguments = ("import", tmp_path / "new.jsonl", "-", "--from", "jsonl", "--db", catalogue)
    with started(*arguments) as process:
        said = interrupt(process, number, committed(catalogue, COUNT, 7))
        assert process.returncode == code, said
    assert (
        "note: 5 models of this import committed (run it again to continue), "
        f"and safe in {catalogue}"
    ) in said
    assert alone(catalogue) == [(7,)]


@pytest.mark.parametrize(
    ("arguments", "number", "query", "expected", "words"),
    [
        (("tag", "Old-0", "--add", "mine"), signal.SIGINT, TAGGED, '["mine"]', "changed"),
        (("forget", "Old-0", "--yes"), signal.SIGTERM, COUNT, 1, "forgotten"),
    ],
    ids=["tag", "forget"],
)
def test_a_change_that_waits_for_a_reader_says_where_it_is(
    catalogue: Path,
    arguments: tuple[str, ...],
    number: signal.Signals,
    query: str,
    expected: object,
    words: str,
) -> None:
    with reader(catalogue), started(*arguments, "--db", catalogue) as process:
        said = interrupt(process, number, waits(process))
        assert process.returncode == 128 + number, said
        assert (
            f"note: 1 model {words}: that is committed, and safe in {catalogue} together with "
            f"its log, {catalogue}-wal"
        ) in said
    assert modelstore("checkpoint", catalogue).code == 0
    assert alone(catalogue, query) == [(expected,)]


def test_a_dry_run_that_is_interrupted_claims_no_commit(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_bytes(records(5))
    arguments = ("import", tmp_path / "new.jsonl", "-", "--from", "jsonl", "--dry-run")
    with started(*arguments, "--db", catalogue) as process:
        assert process.stdin is not None
        process.stdin.write(records(5000))  # more than a pipe holds: it reads the second source
        process.stdin.flush()
        said = interrupt(process, signal.SIGINT, lambda: True)
    assert process.returncode == 130
    assert not [line for line in said if line.startswith("note: ")]
    assert alone(catalogue) == [(2,)]
