"""The drill: what it tells where all is well, where it is not, and that it leaves nothing."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from modelstore.finding import Finding
from modelstore.verify.drill.acts import Step
from modelstore.verify.drill.run import run_drill, scratch_directory
from modelstore.verify.signals import one_interruption, signals_held
from tests.cli.program import modelstore, records
from tests.waiting import PATIENCE

WORLDS = Path(__file__).with_name("worlds.py")
posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")


class Drill(NamedTuple):
    """The findings of a drill, and its story."""

    findings: list[Finding]
    steps: list[Step]


def drill(directory: Path, world: str | None = None, limit: float = PATIENCE) -> Drill:
    command = [sys.executable, str(WORLDS), world] if world else None
    steps: list[Step] = []
    return Drill(run_drill(str(directory), tell=steps.append, limit=limit, command=command), steps)


def outcomes(result: Drill) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in result.findings]


def tree(directory: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(directory)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Drill, list[int]]:
    """A drill beside a catalogue, and the modes of its scratch directory at each step."""
    home = tmp_path_factory.mktemp("volume")
    modelstore("import", "-", "--db", home / "models.db", stdin=records(3))
    before = tree(home)
    modes: list[int] = []
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in home.iterdir() if path.is_dir())

    findings = run_drill(str(home), tell=tell)
    assert tree(home) == before
    return home, Drill(findings, steps), modes


def test_three_questions_have_a_good_answer_here(
    beside: tuple[Path, Drill, list[int]],
) -> None:
    home, result, _ = beside
    assert outcomes(result) == [
        ("drill.deletion", "pass"),
        ("drill.kill", "pass"),
        ("drill.reader", "pass"),
    ]
    deletion, kill, reader = (finding.data for finding in result.findings)
    assert deletion["found"] == 2
    assert (kill["main_file_alone"], kill["recovered"], kill["found"]) == (2, 4, 4)
    assert isinstance(kill["frames"], int)
    assert kill["frames"] > 0
    assert (reader["import_exit"], reader["main_file_alone"], reader["found"]) == (4, 2, 4)
    assert reader["left"] == kill["frames"]
    assert all(finding.where == str(home) for finding in result.findings)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names the holders")
def test_the_reader_in_the_way_is_named(beside: tuple[Path, Drill, list[int]]) -> None:
    assert beside[1].findings[2].data["reader_named"] is True


def test_the_story_can_be_followed(beside: tuple[Path, Drill, list[int]]) -> None:
    lines = [str(step) for step in beside[1].steps]
    story = "\n".join(lines)
    questions = [line for line in lines if re.match(r"\d\. ", line)]
    assert [line[:2] for line in questions] == ["1.", "2.", "3."]
    assert re.search(r"pid \d+ imported Model-Test-1 and Model-Test-2, folded \d+ frames", story)
    assert re.search(r"killed after its commit and before any checkpoint, with \d+ frames", story)
    assert "ended with exit 4 (busy)" in story
    assert story.count("ok: a new process counts 4 of 4 models in the main file alone") == 2
    assert "FAILED" not in story
    assert lines[-1] == "the scratch files are removed; no other file was touched"
    pids = re.findall(r"pid (\d+) imported", story)
    assert len({*pids, str(os.getpid())}) == 4


@posix
def test_the_scratch_directory_is_private_and_gone_afterwards(
    beside: tuple[Path, Drill, list[int]],
) -> None:
    home, _, modes = beside
    assert set(modes) == {0o700}
    assert [path.name for path in home.iterdir()] == ["models.db"]


@posix
@pytest.mark.parametrize(
    ("world", "expected", "said"),
    [
        (
            "forgetful",
            [("drill.deletion", "fail"), ("drill.untried", "note")],
            "a new process counts 1 of 2 models",
        ),
        (
            "swapping",
            [("drill.deletion", "fail"), ("drill.untried", "note")],
            "other models than the imported are found: ['Model-Test-1', 'Other']",
        ),
        (
            "amnesic",
            [("drill.deletion", "pass"), ("drill.kill", "fail"), ("drill.reader", "fail")],
            "recovery brings back 2 of 4 models",
        ),
        (
            "walless",
            [("drill.deletion", "pass"), ("drill.untried", "warn")],
            "WAL mode does not work here",
        ),
        (
            "unwilling",
            [("drill.deletion", "fail"), ("drill.untried", "note")],
            "an import of two models fails: exit 3, the disk is full",
        ),
        (
            "mumbling",
            [("drill.deletion", "fail"), ("drill.untried", "note")],
            "the models cannot be counted: exit 0",
        ),
    ],
)
def test_where_the_promise_does_not_hold_the_step_is_named(
    world: str, expected: list[tuple[str, str]], said: str, tmp_path: Path
) -> None:
    result = drill(tmp_path, world)
    assert outcomes(result) == expected
    told = [step for step in result.steps if said in step.text]
    assert [step.kind for step in told] == ["bad"]
    assert all(finding.advice for finding in result.findings if finding.severity == "fail")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_hangs_is_given_up(tmp_path: Path) -> None:
    result = drill(tmp_path, "frozen", limit=1)
    assert outcomes(result) == [("drill.deletion", "fail"), ("drill.untried", "note")]
    assert "did not end within" in result.findings[0].measured
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_files_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "absent", tmp_path / "file"):
        result = drill(place)
        assert outcomes(result) == [("drill.place", "fail")]
        assert "no scratch directory can be made" in result.steps[-1].text


_NO_LOCKS = """
    #include <fcntl.h>
    int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
    #include <stdarg.h>
    #include <unistd.h>
    #include <sys/syscall.h>
    int fcntl(int fd, int command, ...) {
        va_list list; va_start(list, command); long argument = va_arg(list, long); va_end(list);
        if (command == F_SETLK || command == F_SETLKW) return 0;
        return syscall(SYS_fcntl, fd, command, argument);
    }
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="wants a C compiler"
)
def test_a_place_where_locks_do_nothing_is_found_out(tmp_path: Path) -> None:
    source, library, place = tmp_path / "locks.c", tmp_path / "locks.so", tmp_path / "place"
    source.write_text(_NO_LOCKS)
    place.mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    try:
        ctypes.CDLL(str(library))  # for itself: nothing here calls it
    except OSError:
        pytest.skip("cc makes libraries that this Python cannot load")
    result = modelstore(
        *("verify", "--drill", "--db", place, "--json"), env={"LD_PRELOAD": str(library)}
    )
    assert result.code == 5, result.err
    found = {finding["code"]: finding["result"] for finding in result.json["findings"]}
    assert (found["drill.deletion"], found["drill.reader"]) == ("pass", "fail")
    assert "no catalogue can be kept here until that is mended" in result.err
    assert list(place.iterdir()) == []


_MOUNT = """
    mkdir "$1/small" && mount -t tmpfs -o size=24k none "$1/small" || exit 77
    "$2" -m modelstore verify --drill "$1/small" --json; code=$?
    ls -A "$1/small"; exit $code
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no mount namespaces here")
def test_a_full_disk_is_told_and_left_as_it_was(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", _MOUNT, "sh", str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode in (1, 77):
        pytest.skip(f"no mount namespace can be made: {done.stderr}")
    assert done.returncode == 5
    assert done.stdout.endswith("}\n"), "the scratch directory is still there"
    assert "FAILED: an import of two models fails" in done.stderr


HOSTILE_SETTINGS = {
    "MODELSTORE_DB": "elsewhere.db",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONSTARTUP": "/nonexistent",
    "PYTHONOPTIMIZE": "2",
    "FORCE_COLOR": "1",
    "GITHUB_ACTIONS": "true",
    "TMPDIR": "/nonexistent",
}


def test_settings_and_files_of_the_caller_do_not_reach_the_children(tmp_path: Path) -> None:
    """A directory of modules that shadow the real ones must not be imported from either."""
    trap, place = tmp_path / "trap", tmp_path / "place"
    (trap / "modelstore").mkdir(parents=True)
    place.mkdir()
    for name in ("modelstore/__init__.py", "json.py", "sqlite3.py"):
        (trap / name).write_text("raise SystemExit('trapped')")
    code = (
        "import os, sys; from modelstore.verify.drill.run import run_drill; "
        f"os.environ.update({HOSTILE_SETTINGS!r}); os.chdir({str(trap)!r}); "
        f"result = run_drill({str(place)!r}, tell=lambda step: print(step)); "
        "sys.exit(sum(finding.severity != 'pass' for finding in result))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert list(place.iterdir()) == []
    assert sorted(path.name for path in trap.iterdir()) == ["json.py", "modelstore", "sqlite3.py"]


def descendants_of(directory: Path) -> list[str]:
    """Return the command lines of processes that work in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(directory) in str((process / "cwd").readlink()):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@posix
@pytest.mark.parametrize(
    ("moment", "signals", "code"),
    [
        ("a drill in", [signal.SIGINT], 130),
        ("2. What", [signal.SIGTERM], 143),
        ("was killed after", [signal.SIGINT] * 2, 130),
        ("does not let go", [signal.SIGHUP], 143),
        ("the reader lets go", [signal.SIGTERM] * 3, 143),
    ],
)
def test_a_signal_at_any_moment_leaves_nothing_behind(
    moment: str, signals: list[signal.Signals], code: int, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modelstore", "verify", "--drill", "--db", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            break
    for number in signals:
        process.send_signal(number)
    process.stderr.read()
    assert process.wait(PATIENCE) == code
    assert list(tmp_path.iterdir()) == []
    if sys.platform.startswith("linux"):
        assert descendants_of(tmp_path) == []


@pytest.fixture(name="interruptible")
def _interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where whoever started pytest had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.usefixtures("interruptible")
def test_a_signal_waits_until_what_must_not_be_disturbed_is_done() -> None:
    done = []

    def work() -> None:
        with signals_held():
            signal.raise_signal(signal.SIGINT)
            done.append("still here")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["still here"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
@pytest.mark.usefixtures("interruptible")
def test_impatience_does_not_keep_the_scratch_files_from_being_removed(tmp_path: Path) -> None:
    seen: list[str] = []

    def work() -> None:
        with one_interruption(), scratch_directory(str(tmp_path)):
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                seen.append("unwound")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == ["unwound"]
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_scratch_directory_goes_in_any_thread_and_with_any_error(tmp_path: Path) -> None:
    seen: list[str] = []

    def work() -> None:
        with suppress(ZeroDivisionError), scratch_directory(str(tmp_path)) as path:
            seen.append(path)
            seen.append(str(1 // 0))

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(set(seen)) == 2
    assert list(tmp_path.iterdir()) == []
