"""The README's command blocks, run as a reader would run them.

* A ``console`` block is a session: each line after ``$ `` is typed (``> `` continues it), and what
  follows is what a terminal of 80 columns shows. All sessions below one ``##`` heading of
  the README, and all of a topic, are one story: one shell, one scratch directory that holds
  ``tests`` and the files of all documents.
* ``<!-- file: NAME -->`` before a block makes it a file of that name in every scratch directory.
* ``<!-- not run: REASON -->`` leaves a block out; its syntax is checked where we know how.

What differs from run to run (process ids, durations, ids of models, versions, free space) is
compared as if it were the same, and so is white space.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cli.program import ROOT, environment
from tests.waiting import wait_until

README = ROOT / "README.md"
TOPICS = sorted((ROOT / "modelstore" / "topics").glob("*.md"))
OTHERS = tuple(
    ROOT / folder / "README.md"
    for folder in ("tests/torture", "tests/bench", "completions", ".github/actions/verify")
)
DOCUMENTS = (README, *TOPICS, *OTHERS)
"""Every document whose examples are run. Files of the examples are shared by all of them."""

_BLOCK = re.compile(
    r"(?P<marks>(?:<!-- [^\n]* -->\n)*)```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_GENERATED = re.compile(r"<!-- generated: [^\n]* -->\n.*?<!-- end -->", re.DOTALL)
_MARK = re.compile(r"<!-- (file|run|not run): (.+) -->")
_COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)\n?", re.MULTILINE)
_STEP = "\x1e"
_PATH_LENGTH = 40  # of every scratch directory: rows hold paths, and fill pages by their length

_VARYING = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\bpid \d+", "pid N"),
    (r"(?m)^ *\d{2,8}(?= +(?:\S*/)?(?:python|modelstore|litestream))", " N"),
    (r"\b\d\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"\b\d\d-\d\d \d\d:\d\d:\d\d\b", "TIME"),
    (r"\b\d+(?:\.\d+)? (?:ms|s|min|h)\b(?: \d+ (?:s|min)\b)?", "DURATION"),
    (r'("\w*seconds"): [\d.e-]+', r"\1: DURATION"),
    (r'("pid"|"process_started"|"user"): [\d.]+', r"\1: N"),
    (r"(?<![\w.])[0-9a-f]{64}(?![\w.])|(?<![\w.])[0-9a-f]{16}(?![\w.])", "ID"),
    (r"(?<![\w.])[0-9a-f]{7,8}(?![\w.])", "ID"),
    (r"\b\d+\.\d+\.\d+\b", "VERSION"),
    (r"(SQLite VERSION,)\s+[\w.]+,\s+[\d.,]+\s+\w+\s+free", r"\1 FILESYSTEM"),
    # Only root sees the processes of all.
    (r"nobody\s+else\s+is\s+seen\s+to\s+have\s+it\s+open", "nobody else has it open"),
    (r"\bopen\s+in\s+at\s+least\b", "open in"),
    (
        "(?: (?:the open files of [0-9,]+ process(?:es)? may not be seen by this user"
        "(?:, only by root)?|processes outside this container may have it open)[;:])+"
        " a deleted log may still be open there".replace(" ", r"\s+"),
        "",
    ),
    (r'("(?:blockers|locks|processes)_complete"): \w+', r"\1: SEEN"),
    (r'("(?:blockers|locks|processes)_note"): (?:null|"[^"]*")', r"\1: SEEN"),
    (r"(\.modelstore-drill-)\w+", r"\1X"),
    (r"(a drill in \S+) \([\w.]+\)", r"\1 (FILESYSTEM)"),
)
_CONTAINED = "processes outside this container may hold locks that are not shown"


@dataclass(frozen=True, slots=True)
class Block:
    """One code block: where its text is in the README, and what its marks say."""

    section: str  # the ## heading above it
    language: str
    text: str
    start: int
    line: int
    marks: dict[str, str]
    generated: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a session, and what the README says that it shows."""

    command: str
    shown: str
    start: int  # of `shown` in the README
    line: int


def blocks(readme: str) -> list[Block]:
    """Return every code block, in order."""
    made = [match.span() for match in _GENERATED.finditer(readme)]
    mark = "##" if readme.startswith("# modelstore\n") else "#"
    headings = [(m.start(), m[1]) for m in re.finditer(rf"^{mark} (.+)$", readme, re.MULTILINE)]
    headings = headings if mark == "##" else headings[:1]
    return [
        Block(
            section=next((name for at, name in reversed(headings) if at < match.start()), ""),
            language=match["language"],
            text=match["text"],
            start=match.start("text"),
            line=readme.count("\n", 0, match.start("text")) + 1,
            marks=dict(_MARK.findall(match["marks"])),
            generated=any(start <= match.start() < end for start, end in made),
        )
        for match in _BLOCK.finditer(readme)
    ]


def steps(readme: str) -> dict[str, list[Step]]:
    """Return the steps of every section that has sessions."""
    found: dict[str, list[Step]] = {}
    for block in blocks(readme):
        if block.language != "console" or block.generated or "not run" in block.marks:
            continue
        matches = list(_COMMAND.finditer(block.text))
        ends = [match.start() for match in matches[1:]] + [len(block.text)]
        for match, end in zip(matches, ends, strict=True):
            found.setdefault(block.section, []).append(
                Step(
                    command=match[1].replace("\n> ", "\n"),
                    shown=block.text[match.end() : end],
                    start=block.start + match.end(),
                    line=readme.count("\n", 0, block.start + match.start()) + 1,
                )
            )
    return found


def normal(text: str) -> str:
    """Return `text` as it is compared."""
    for pattern, replacement in _VARYING:
        text = re.sub(pattern, replacement, text)
    text = " ".join(text.split())
    for note in (f"note: {_CONTAINED}", _CONTAINED):  # where the test itself runs in a container
        text = text.replace(note, "")
    return " ".join(text.split())


def play(readme: str, section: str) -> list[tuple[Step, str]]:
    """Run a section's sessions in a scratch directory; return each step and what it showed."""
    story = steps(readme)[section]
    with _scratch(readme) as (directory, tools):
        script = "".join(_typed(step.command) for step in story)
        shown = _on_terminal(["bash", "-c", script], directory, tools)
        shown = shown.replace(str(directory), "/home/me")
    outputs = shown.split(_STEP)
    assert len(outputs) == len(story) + 1, shown[-2000:]
    return list(zip(story, [_tidy(output) for output in outputs[:-1]], strict=True))


def refreshed(readme: str) -> str:
    """Return the README with what its sessions really show, where that is something else."""
    changes = [
        (step, shown)
        for section in steps(readme)
        for step, shown in play(readme, section)
        if normal(step.shown) != normal(shown)
    ]
    for step, shown in sorted(changes, key=lambda change: -change[0].start):
        readme = readme[: step.start] + shown + readme[step.start + len(step.shown) :]
    return readme


def _typed(command: str) -> str:
    """Return a command as the shell runs it; one in the background is awaited until it speaks."""
    end = "printf '\\036'\n"
    if not command.endswith(" &"):
        return f"{command}\n{end}"
    return (
        f": >.background\n{command[:-2]} >.background 2>&1 &\ndisown\n"
        "until [ -s .background ] || ! kill -0 $!; do sleep 0.02; done\n"
        f"cat .background\n{end}"
    )


def _tidy(output: str) -> str:
    lines = [line.rstrip() for line in output.replace("\r\n", "\n").split("\n")]
    return "\n".join(lines).rstrip("\n") + "\n" if any(lines) else ""


@contextmanager
def _scratch(readme: str) -> Iterator[tuple[Path, Path]]:
    """Yield a directory to run in, with a path of a known length, and one with the programs."""
    outer = Path(tempfile.mkdtemp(dir="/tmp")).resolve()
    try:
        home = outer / "home"
        tools = outer / "bin"
        here = outer / "x".ljust(_PATH_LENGTH - len(str(outer)) - 1, "x")
        for directory in (home, tools, here):
            directory.mkdir()
        shutil.copytree(ROOT / "tests" / "data" / "models", here / "tests" / "data" / "models")
        (tools / "python3").symlink_to(Path(sys.executable).resolve())
        program = tools / "modelstore"
        program.write_text(
            f"#!{sys.executable}\n"
            "import sys, modelstore.text\n"
            "modelstore.text.host_name = lambda: 'workshop'\n"  # its length is part of each locator
            "from modelstore.__main__ import main\n"
            "sys.exit(main())\n"
        )
        program.chmod(0o755)
        for text in (*(path.read_text("utf-8") for path in DOCUMENTS), readme):
            for block in blocks(text):
                if "file" in block.marks:
                    (here / block.marks["file"]).write_text(block.text)
        yield here, tools
    finally:
        wait_until(lambda: _removed(outer))  # what was killed may still be writing


def _removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _on_terminal(command: list[str], directory: Path, tools: Path) -> str:
    """Run a command with a terminal of 80 columns as stdout and stderr; return what it wrote."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    with subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(
            {
                "PATH": f"{tools}:{os.environ['PATH']}",
                "HOME": str(tools.parent / "home"),
                "TERM": "dumb",
                "LC_ALL": "C.UTF-8",
            }
        ),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # nobody has the other side open any more
                break
            if not chunk:
                break
            written += chunk
        with suppress(ProcessLookupError):  # what a session left running
            os.killpg(process.pid, signal.SIGKILL)
    os.close(ours)
    return written.decode("utf-8", "replace")
