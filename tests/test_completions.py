"""The completion scripts, in the shells that they are for: Tab is pressed on a real terminal.

In a scratch PATH, ``modelstore`` answers the shell's questions, and otherwise writes down the
words that it was called with: what a shell made of a line is what counts, not how it looks.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelstore.cli.completion.scripts import SCRIPTS, Shell
from tests.cli.program import environment, modelstore, python
from tests.cli.shelf import MODELS, fill
from tests.generate import COMPLETIONS, ROOT
from tests.waiting import PATIENCE

TYPED = [Shell.BASH, Shell.ZSH, Shell.FISH]
EVIL = ["$(touch pwned)", "`touch pwned`", "a;touch pwned", r"b\$(touch pwned)", "c'd\"e f", "x*y"]
HEAVY = {"rich", "numpy", "sqlite_utils", "yaml", "urllib3", "pysqlite3", "sqlite3"}

_STARTS = {
    Shell.BASH: ["bash", "--norc", "--noprofile", "-i"],
    Shell.ZSH: ["zsh", "-f", "-i"],
    Shell.FISH: ["fish", "--no-config", "-i"],
}
_BEGINNINGS = {
    Shell.BASH: "source '{}'",
    Shell.ZSH: "autoload -Uz compinit; compinit -u -D; source '{}'",
    Shell.FISH: "source '{}'",
}
_RECORDER = """#!/bin/sh
if [ -n "${{_MODELSTORE_COMPLETE}}" ]; then exec "{python}" -m modelstore "$@"; fi
printf '%s\\n' "$@" "--end--" >> "{record}"
"""


def type_into(shell: Shell, lines: Sequence[str], where: Path) -> list[list[str]]:
    """Type lines, each ended by Enter; return the words of every call of the program."""
    if shutil.which(shell.value) is None:
        pytest.skip(f"{shell.value} is not installed")
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    fcntl = pytest.importorskip("fcntl")
    termios = pytest.importorskip("termios")
    tools, record = where / ".bin", where / ".record"
    tools.mkdir()
    program = tools / "modelstore"
    program.write_text(_RECORDER.format(python=sys.executable, record=record))
    program.chmod(0o755)
    record.touch()
    script = ROOT / "completions" / COMPLETIONS[shell.value]
    typed = [_BEGINNINGS[shell].format(script), *lines, "exit"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        _STARTS[shell],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=where,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # no threads
        env=environment(
            {
                "PATH": f"{tools}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "HOME": str(where),
                "XDG_RUNTIME_DIR": str(where),  # fish would leave a directory in /tmp
                "TERM": "dumb" if shell is not Shell.FISH else "xterm",
            }
        ),
    )
    os.close(theirs)
    screen = _feed(ours, process, "".join(f"{line}\r" for line in typed).encode())
    os.close(ours)
    calls = record.read_text("utf-8").split("--end--\n")[:-1]
    assert len(calls) == len(lines), screen[-3000:]
    return [call.splitlines() for call in calls]


def _feed(descriptor: int, process: subprocess.Popen[bytes], keys: bytes) -> str:
    """Write keys as the terminal takes them, and read what it shows, until the shell ends."""
    screen = b""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        readable, writable, _ = select.select([descriptor], [descriptor] if keys else [], [], 0.1)
        if readable:
            try:
                screen += os.read(descriptor, 65536)
            except OSError:
                break
        elif writable and screen:  # the prompt is there
            keys = keys[os.write(descriptor, keys[:512]) :]
    if process.poll() is None:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return screen.decode("utf-8", "replace")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A directory with a catalogue, some files, and names that would do harm as code."""
    extra = [
        {"name": name, "locator": f"name:{number}"}
        for number, name in enumerate(["qwen3:8b", "org/repo@main", *EVIL])
    ]
    fill(tmp_path / "shelf.db", [*MODELS, *extra])
    (tmp_path / "weights").mkdir()
    (tmp_path / "notes.txt").touch()
    return tmp_path


@pytest.mark.parametrize("shell", TYPED)
def test_tab_completes(shell: Shell, shelf: Path) -> None:
    calls = type_into(
        shell,
        [
            "modelstore insp\t she\t",
            "modelstore list --arch=qwen3m\t --db shelf.db",  # the database is not yet known
            "modelstore --db she\t",  # no option of the program itself
            "modelstore list --db=she\t --arch qwen3m\t",
            "modelstore show --db shelf.db qwen3:\t",
            "modelstore show --db shelf.db org\t",
            "modelstore list --db shelf.db --columns name,file_s\t",
            "modelstore import --from llama-sw\t weig\t",
            "modelstore tag --db she\t Qwen3-30B-A3B-Instruct-2507-UD-Q8\t",
        ],
        shelf,
    )
    name = "Qwen3-30B-A3B-Instruct-2507-UD-Q8_0"
    assert calls[0] == ["inspect-wal", "shelf.db"]
    assert calls[1][1] in ("--arch=qwen3m", "--arch=qwen3moe")
    assert calls[3] == ["list", "--db=shelf.db", "--arch", "qwen3moe"]
    assert calls[4] == ["show", "--db", "shelf.db", "qwen3:8b"]
    assert calls[5] == ["show", "--db", "shelf.db", "org/repo@main"]
    assert calls[6][-1] == "name,file_size"
    assert [word.rstrip("/") for word in calls[7]] == ["import", "--from", "llama-swap", "weights"]
    assert calls[8] == ["tag", "--db", "shelf.db", name]


@pytest.mark.skipif(os.name == "nt", reason="no file can have such a name on Windows")
@pytest.mark.parametrize("shell", TYPED)
def test_no_name_is_ever_executed(shell: Shell, shelf: Path) -> None:
    for name in EVIL:
        (shelf / f"{name}.gguf").touch()
    begun = ["\\$", "\\`", "a", "b", "c", "x"]
    lines = [f"modelstore import {start}\t" for start in begun]
    lines += [f"modelstore show --db shelf.db {start}\t" for start in begun]
    calls = type_into(shell, lines, shelf)
    assert [call[-1] for call in calls[: len(EVIL)]] == [f"{name}.gguf" for name in EVIL]
    assert not list(shelf.rglob("pwned"))


@pytest.mark.parametrize("shell", TYPED)
def test_names_within_quotes(shell: Shell, shelf: Path) -> None:
    (shelf / "two words.gguf").touch()
    calls = type_into(shell, ['modelstore import "two w\t', "modelstore import two\\ w\t"], shelf)
    assert calls == [["import", "two words.gguf"]] * 2


def ask(shell: str, line: str, **environ: str) -> str:
    """Return the program's answer to a shell, which may not come with a word on stderr."""
    variables = {"_MODELSTORE_COMPLETE": shell, "_MODELSTORE_LINE": line, **environ}
    result = modelstore(env=variables)
    assert (result.code, result.err) == (0, "")
    return result.out


@pytest.mark.skipif(os.name == "nt", reason="no file can have such a name on Windows")
def test_powershell_is_told_quoted_words(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EVIL:
        (shelf / name).touch()
    monkeypatch.chdir(shelf)
    texts = [line.split("\t")[0] for line in ask("powershell", "modelstore\nimport\n").splitlines()]
    assert "'$(touch pwned)'" in texts
    assert "'c''d\"e f'" in texts
    assert "notes.txt" in texts
    assert "shelf.db" in ask("powershell", "modelstore\nlist\n--db\n'she")


@pytest.mark.parametrize("shell", [*Shell])
def test_a_script_is_what_the_program_shows(shell: Shell) -> None:
    result = modelstore("--show-completion", shell.value)
    assert (result.code, result.out, result.err) == (0, SCRIPTS[shell], "")
    assert (ROOT / "completions" / COMPLETIONS[shell.value]).read_text("utf-8") == result.out


@pytest.mark.parametrize("shell", [*Shell])
def test_installing(shell: Shell, tmp_path: Path) -> None:
    rc = tmp_path / {Shell.BASH: ".bashrc", Shell.ZSH: ".zshrc"}.get(shell, ".nothing")
    rc.write_bytes(b"export LATIN=\xe9")  # no newline, and no UTF-8
    scratch = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "ZDOTDIR": ""}
    scratch["USERPROFILE"] = str(tmp_path)
    for _ in range(2):
        result = modelstore("--install-completion", shell.value, env=scratch)
        assert (result.code, result.err) == (0, "")
    written = Path(result.out.splitlines()[0].removeprefix("written: "))
    assert written.read_text("utf-8") == SCRIPTS[shell]
    assert tmp_path in written.parents
    lines = rc.read_bytes().splitlines()
    assert lines[0] == b"export LATIN=\xe9"
    assert len(lines) == (2 if shell in (Shell.BASH, Shell.ZSH) else 1)
    if shell is Shell.BASH and shutil.which("bash") and os.name != "nt":
        shown = subprocess.run(
            ["bash", "--rcfile", str(rc), "-ic", "complete -p modelstore"],
            env={**os.environ, **scratch},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "_modelstore modelstore" in shown.stdout


def test_installing_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    home = {name: str(tmp_path / "home") for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME")}
    result = modelstore("--install-completion", "bash", env=home)
    assert result.code == 3
    assert "cannot be written" in result.err
    assert "hint: " in result.err


def test_a_shell_that_is_not_there() -> None:
    result = modelstore("--show-completion", "tcsh")
    assert (result.code, result.out) == (2, "")
    assert "hint: see modelstore --help" in result.err


@pytest.mark.parametrize(
    "line",
    [
        "modelstore ",
        "modelstore list --columns na",
        "modelstore import --from ",
        "modelstore list --format ",
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_nothing_heavy_is_loaded(shell: str, line: str) -> None:
    code = (
        "import sys; from modelstore.cli.main import run; code = run([]); "
        "print(*sys.modules, file=sys.__stderr__); sys.exit(code)"
    )
    typed = line.replace(" ", "\n") if shell == "powershell" else line
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({"_MODELSTORE_COMPLETE": shell, "_MODELSTORE_LINE": typed}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    assert not HEAVY & {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("fault", ["header", "wal", "schema", "directory", "fifo"])
def test_a_broken_database_is_silent(fault: str, shelf: Path) -> None:
    db = shelf / "shelf.db"
    if fault == "header":
        db.write_bytes(b"SQLite format 3\0" + bytes(8000))
    elif fault == "wal":
        Path(f"{db}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(9000))
    elif fault == "schema":
        raw = bytearray(db.read_bytes())
        raw[100:200] = bytes(100)
        db.write_bytes(raw)
    elif fault == "directory":
        db.unlink()
        db.mkdir()
    else:
        db.unlink()
        if not hasattr(os, "mkfifo"):
            pytest.skip("no FIFOs here")
        os.mkfifo(db)
    ask("bash", f"modelstore show --db {db} Q")
    ask("bash", f"modelstore list --db {shelf}/")


def test_unfinished_lines_are_no_failure() -> None:
    code = """
        import os, sys
        from modelstore.cli.app import command_tree
        from modelstore.cli.completion.shell import answer
        out = sys.stdout
        for line in sys.argv[1:]:
            for shell in ("bash", "zsh", "fish", "powershell", "tcsh"):
                os.environ.update(_MODELSTORE_COMPLETE=shell, _MODELSTORE_LINE=line)
                answer(command_tree())
        print("done")
    """
    lines = ["", "modelstore", "modelstore 'unclosed", "modelstore list --db", "modelstore \\"]
    lines += ["modelstore nosuch ", "modelstore list --limit x --", "modelstore show -- -"]
    with python(code, *lines) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "done\n"


def test_a_sort_key_may_begin_with_a_minus() -> None:
    env = {"_MODELSTORE_COMPLETE": "fish", "_MODELSTORE_LINE": "modelstore list -s -par"}
    assert modelstore(env=env).out.split() == ["-parameter_count", "-parameters"]


@pytest.mark.parametrize("shell", TYPED)
def test_tab_fits_the_option(shell: Shell, shelf: Path) -> None:
    calls = type_into(
        shell,
        [
            "modelstore list --timeout not\t",  # notes.txt is no duration
            "modelstore list -s -file_s\t",
            "modelstore tag --db shelf.db qwen3:8b --add fav\t",
            "modelstore import weig\t",
            "modelstore import ~/weig\t",
        ],
        shelf,
    )
    assert calls[0] == ["list", "--timeout", "not"]
    assert calls[1] == ["list", "-s", "-file_size"]
    assert calls[2][-2:] == ["--add", "favorite"]
    assert calls[3][1] in ("weights", "weights/")
    assert calls[4][1] in (f"{shelf}/weights", f"{shelf}/weights/")


def test_what_a_model_is_stands_beside_its_name_and_its_id(shelf: Path) -> None:
    by_name = ask(
        "fish", f"modelstore show --db {shelf}/shelf.db Qwen3-30B-A3B-Instruct-2507-UD-Q8"
    )
    assert by_name == "Qwen3-30B-A3B-Instruct-2507-UD-Q8_0\tqwen3moe Q8_0\n"
    listed = modelstore("list", "--db", shelf / "shelf.db", "-q", "qwen3:8b").out.strip()
    by_id = ask("zsh", f"modelstore show --db {shelf}/shelf.db {listed[:6]}")
    assert by_id == f"words\n{listed}:qwen3:8b\n"


@pytest.mark.parametrize("shell", TYPED)
def test_the_shell_that_calls_is_known(shell: Shell) -> None:
    if shutil.which(shell.value) is None:
        pytest.skip(f"{shell.value} is not installed")
    command = f"'{sys.executable}' -m modelstore --show-completion; true"
    done = subprocess.run(
        [shell.value, "-c", command],
        capture_output=True,
        cwd=ROOT,
        env=environment({"SHELL": "/bin/other"}),
        check=True,
    )
    assert done.stdout.decode() == SCRIPTS[shell]


def test_no_shell_at_all_is_a_usage_error() -> None:
    result = modelstore("--show-completion", env={"SHELL": ""})
    if result.code == 2:  # else the tests themselves were started by a shell, and it was found
        assert "bash, zsh, fish, powershell" in result.err


def test_bash_puts_the_slash_behind_a_directory_itself(tmp_path: Path) -> None:
    (tmp_path / "subdirectory").mkdir()
    env = {"_MODELSTORE_COMPLETE": "bash", "_MODELSTORE_LINE": "modelstore import sub"}
    assert modelstore(env=env, cwd=tmp_path).out == "files\nsubdirectory\n"
