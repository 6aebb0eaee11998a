"""``inspect-wal --watch`` on a whole terminal: keys, sizes, signals, and the way out."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.logs import killed_writer, state_of
from tests.cli.program import reader
from tests.cli.terminal import STYLES, Watched, watched
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    killed_writer(path, 7)
    return path


def has(*texts: str) -> Callable[[bytes], bool]:
    """Return a test for bytes from the terminal: do they show all of `texts`?"""

    def shown(raw: bytes) -> bool:
        plain = STYLES.sub("", raw.decode(errors="replace"))
        return all(text in plain for text in texts)

    return shown


def is_restored(terminal: Watched, raw: bytes) -> bool:
    last = raw.rfind(LEAVE)
    return (
        last > raw.rfind(ENTER)
        and SHOW_CURSOR in raw
        and terminal.current_settings() == terminal.settings
    )


@pytest.mark.parametrize(("columns", "rows"), [(40, 12), (80, 24), (120, 30), (200, 50)])
def test_the_screen_shows_the_log_and_q_ends_it(database: Path, columns: int, rows: int) -> None:
    before = state_of(database)
    with watched("inspect-wal", database, "--watch", "0.1", columns=columns, rows=rows) as terminal:
        raw = terminal.read_until(has("size", "left", "frames 1 to 7", "quit"))
        assert ENTER in raw
        assert terminal.current_settings() != terminal.settings  # keys need no Enter
        terminal.press("q")
        raw = terminal.read_until(lambda raw: LEAVE in raw)
        assert terminal.process.wait(PATIENCE) == 0
        assert is_restored(terminal, raw)
    assert state_of(database) == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_every_signal_gives_the_terminal_back(database: Path, number: int, code: int) -> None:
    with watched("inspect-wal", database, "--watch", "0.1") as terminal:
        terminal.read_until(has("frames 1 to 7"))
        terminal.process.send_signal(number)
        raw = terminal.read_until(lambda raw: LEAVE in raw)
        assert terminal.process.wait(PATIENCE) == code
        assert is_restored(terminal, raw)


def test_a_bug_gives_the_terminal_back_and_is_reported(database: Path, tmp_path: Path) -> None:
    """The program's own module is replaced by one that fails while it draws."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import modelstore.render.watch_view as view\n"
        "drawn = view.watch_lines\n"
        "calls = []\n"
        "def broken(state, look):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 3: raise AssertionError('drawn badly')\n"
        "    return drawn(state, look)\n"
        "view.watch_lines = broken\n"
    )
    paths = os.pathsep.join([str(site), str(Path(__file__).resolve().parents[2])])
    arguments = ("inspect-wal", database, "--watch", "0.1")
    with watched(*arguments, env={"PYTHONPATH": paths}) as terminal:
        raw = terminal.read_until(lambda raw: LEAVE in raw)
        assert terminal.process.wait(PATIENCE) == 1
        assert is_restored(terminal, raw)
        assert terminal.process.stderr is not None
        assert b"this is a bug" in terminal.process.stderr.read()


def test_ctrl_z_gives_the_terminal_back_until_the_process_goes_on(database: Path) -> None:
    with watched("inspect-wal", database, "--watch", "0.1") as terminal:
        process = terminal.process
        terminal.read_until(has("frames 1 to 7"))
        process.send_signal(signal.SIGTSTP)
        raw = terminal.read_until(lambda raw: LEAVE in raw)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        assert is_restored(terminal, raw)
        process.send_signal(signal.SIGCONT)
        raw = terminal.read_until(has("frames 1 to 7"))
        assert ENTER in raw
        assert terminal.current_settings() != terminal.settings
        terminal.press("q")
        terminal.read_until(lambda raw: LEAVE in raw)
        assert process.wait(PATIENCE) == 0


def test_a_new_size_is_drawn_at_once(database: Path) -> None:
    with watched("inspect-wal", database, "--watch", "30", columns=80) as terminal:
        terminal.read_until(has("every 30.0 s", "frames 1 to 7"))
        terminal.resize(40, 20)  # too narrow for the interval
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.read_until(has("\x1b[H"))
        raw = terminal.read_until(has("frames 1 to 7"))
        assert b"every" not in raw
        lines = STYLES.sub("", raw.decode()).partition("\x1b[H")[2].split("\n")
        assert max(len(line.rstrip("\r")) for line in lines) <= 40


def test_a_pause_looks_at_nothing_and_the_clock_goes_on(database: Path) -> None:
    with watched("inspect-wal", database, "--watch", "0.1") as terminal:
        terminal.read_until(has("frames 1 to 7"))
        terminal.press("p")
        terminal.read_until(has("PAUSED", "resume"))
        killed_writer(database, 9)
        for _ in range(2):
            raw = terminal.read_until(has("PAUSED", "frames 1 to"))
            assert has("frames 1 to 7")(raw)
        terminal.press("p")
        terminal.read_until(has("frames 1 to 9"))


@pytest.mark.skipif(sys.platform != "linux", reason="who holds locks is known on Linux alone")
def test_the_reader_in_the_way_is_named_while_it_is_there(database: Path) -> None:
    with watched("inspect-wal", database, "--watch", "0.1", columns=200) as terminal:
        terminal.read_until(has("nobody is seen in the way"))
        with reader(database) as process:
            terminal.read_until(has(f"pid {process.pid} (", "blocks"))
        terminal.read_until(has("nobody is seen in the way"))


def test_a_terminal_without_a_screen_gets_lines(database: Path) -> None:
    arguments = ("inspect-wal", database, "--watch", "0.1")
    with watched(*arguments, env={"TERM": "dumb"}) as terminal:
        raw = terminal.read_until(has("7 committed, 0 checkpointed, 7 left"))
        assert b"\x1b" not in raw
        assert terminal.current_settings() == terminal.settings


def test_files_that_vanish_are_waited_for(database: Path, tmp_path: Path) -> None:
    with watched("inspect-wal", database, "--watch", "0.1", columns=200) as terminal:
        terminal.read_until(has("frames 1 to 7"))
        away = tmp_path / "away"
        away.mkdir()
        names = ("app.db", "app.db-wal", "app.db-shm")
        for name in names:
            (tmp_path / name).rename(away / name)
        terminal.read_until(has("waiting for it"))
        for name in reversed(names):
            (away / name).rename(tmp_path / name)
        terminal.read_until(has("7 rows in 7 frames"))


def test_a_map_that_nothing_has_overtaken_is_not_called_old(database: Path) -> None:
    with watched("inspect-wal", database, "--watch", "0.1", columns=120) as terminal:
        for _ in range(15):
            raw = terminal.read_until(has("frames 1 to 7", "quit"))
            assert b" ago" not in raw
