"""The line of progress: phase, share and rest on a terminal; nothing anywhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelstore.cli import progress
from modelstore.cli.output import Output
from modelstore.cli.progress import _figures, _Line, _Work
from tests.cli.program import modelstore, records
from tests.cli.terminal import STYLES, stderr_on_terminal, watched
from tests.waiting import PATIENCE

posix = pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")


@pytest.mark.parametrize(
    ("work", "seconds", "words"),
    [
        (_Work("x", 0, None, "", 0), 0.5, ""),
        (_Work("x", 0, None, "", 0), 12.7, "  12 s"),
        (_Work("x", 1200, None, "models", 0), 2, "  1,200 models, 600/s"),
        (_Work("x", 1, 400, "pages", 0), 2, "  0 %  1 of 400 pages"),
        (_Work("x", 100, 400, "pages", 0), 2, "  25 %  100 of 400 pages, 50/s, 6 s left"),
        (_Work("x", 400, 400, "pages", 0), 2, "  100 %  400 of 400 pages, 200/s"),
        (
            _Work("x", 3 << 30, 4 << 30, "bytes", 0),
            30,
            "  75 %  3.0 GiB of 4.0 GiB, 102 MiB/s, 10 s left",
        ),
        (_Work("x", 1, 200, "tables", 0), 600, "  0 %  1 of 200 tables"),
    ],
)
def test_the_figures(work: _Work, seconds: float, words: str) -> None:
    assert _figures(work, seconds) == words


@pytest.mark.parametrize(
    ("columns", "there"), [(20, "5 %"), (40, "6,000 of"), (70, "1,500/s"), (100, "left")]
)
def test_a_narrow_terminal_gets_the_phase_and_the_share(
    monkeypatch: pytest.MonkeyPatch, columns: int, there: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 104.0))
    line = _Line(Output(), "pages", "")
    line.end()
    line._work = _Work("comparing the log", 6000, 120_000, "pages", 100.0)
    shown = line._drawn().plain
    assert len(shown) < columns
    assert "comparing" in shown
    assert there in shown


@posix
def test_a_long_import_shows_its_phase_and_the_line_is_gone_afterwards(tmp_path: Path) -> None:
    pipe = tmp_path / "slow.jsonl"
    os.mkfifo(pipe)
    db = tmp_path / "m.db"
    with stderr_on_terminal("import", "-", "--db", db, stdin=pipe) as (process, shown):
        with pipe.open("wb") as writer:
            writer.write(records(3))
            writer.flush()
            assert shown("stdin")  # nothing more comes: the line appears by itself
        assert process.wait(PATIENCE) == 0
        assert shown("\x1b[2K")  # it is taken away
    assert modelstore("list", "--db", db, "--count").out == "3\n"


@posix
def test_quiet_means_no_line(tmp_path: Path) -> None:
    pipe = tmp_path / "slow.jsonl"
    os.mkfifo(pipe)
    arguments = ("import", "-", "--db", tmp_path / "m.db", "-q")
    with stderr_on_terminal(*arguments, stdin=pipe) as (process, shown):
        with pipe.open("wb") as writer:
            writer.write(records(3))
            writer.flush()
            waited = process.poll()
        assert waited is None
        assert process.wait(PATIENCE) == 0
        assert not shown("\x1b")


@posix
def test_stdin_that_is_a_terminal_is_named(tmp_path: Path) -> None:
    with watched("import", "-", "--db", tmp_path / "m.db", columns=100) as terminal:
        stderr = terminal.process.stderr
        assert stderr is not None
        terminal.press('{"name": "typed"}\n\x04')
        assert terminal.process.wait(PATIENCE) == 0
        assert b"reading" not in stderr.read()  # stderr is no terminal here
    with watched("import", "-", "--db", tmp_path / "n.db", on_stderr=True) as terminal:
        raw = terminal.read_until(lambda raw: b"Ctrl-D ends them" in raw)
        assert "note: reading models from this terminal" in STYLES.sub("", raw.decode())
        terminal.press('{"name": "typed"}\n\x04')
        assert terminal.process.wait(PATIENCE) == 0
    assert modelstore("list", "--db", tmp_path / "n.db", "--count").out == "1\n"


@posix
def test_one_end_of_file_ends_an_empty_stdin_on_a_terminal(tmp_path: Path) -> None:
    with watched("import", "-", "--db", tmp_path / "m.db", on_stderr=True) as terminal:
        terminal.read_until(lambda raw: b"Ctrl-D ends them" in raw)
        terminal.press("\x04")
        assert terminal.process.wait(PATIENCE) == 6
        terminal.read_until(lambda raw: b"stdin holds no model" in raw)


def test_without_a_terminal_there_is_none(tmp_path: Path) -> None:
    result = modelstore("import", "-", "--db", tmp_path / "m.db", stdin=records(3000))
    assert "\x1b" not in result.err
    assert "merging" not in result.err
