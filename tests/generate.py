"""Write the generated parts of the README and the shell completions, or check them.

``python -m tests.generate`` writes; ``python -m tests.generate --check`` exits 1 where something
is out of date. What the README's sessions show is made anew by the first, and compared by
``tests/test_readme.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from modelstore.cli.app import COMMANDS
from modelstore.errors import ExitCode
from modelstore.sources.base import Context
from modelstore.sources.kinds import KINDS, usual_places
from tests.sessions import refreshed

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
COMPLETIONS = {
    "bash": "modelstore.bash",
    "zsh": "_modelstore",
    "fish": "modelstore.fish",
    "powershell": "modelstore.ps1",
}
_BLOCK = re.compile(r"(<!-- generated: ([a-z -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def run_program(*arguments: str) -> str:
    """Return what the program prints, at 80 columns and without the caller's settings."""
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "PYTHONUTF8": "1"}
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "MODELSTORE_DB"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "modelstore", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        encoding="utf-8",
    ).stdout


def generated(name: str) -> str:
    """Return the text of one generated block of the README."""
    if name == "exit codes":
        rows = "".join(f"| {code.value} | {code.text} |\n" for code in ExitCode)
        return f"| code | meaning |\n|---|---|\n{rows}"
    if name == "kinds":
        return _kinds()
    if name == "help":
        return _console("--help")
    if name.startswith("help ") and name[5:] in COMMANDS:
        return _console(name[5:], "--help")
    raise ValueError(name)


def _kinds() -> str:
    """Return the kinds of source, with their usual places where nothing says otherwise."""
    context = Context(host="host", now="", home="/home/me", timeout=1)
    rows = []
    for kind, info in KINDS.items():
        places = [
            place.replace(os.getcwd(), ".").replace(context.home, "~")
            for place in usual_places(kind, context)
        ]
        rows.append(f"| `{kind}` | {info.summary} | {', '.join(f'`{p}`' for p in places)} |\n")
    return "| kind | reads | usual place |\n|---|---|---|\n" + "".join(rows)


def _console(*arguments: str) -> str:
    shown = " ".join(("modelstore", *arguments))
    return f"```console\n$ {shown}\n{run_program(*arguments).rstrip()}\n```\n"


def readme_text() -> str:
    """Return the README with its generated blocks made anew."""

    def replace(match: re.Match[str]) -> str:
        return match[1] + generated(match[2]) + match[3]

    return _BLOCK.sub(replace, README.read_text("utf-8"))


def completion_text(shell: str) -> str:
    """Return the completion script of one shell, as the program itself prints it."""
    return run_program("--show-completion", shell)


def wanted() -> dict[Path, str]:
    """Return every generated file with the text that it should hold."""
    files = {README: readme_text()}
    for shell, name in COMPLETIONS.items():
        files[ROOT / "completions" / name] = completion_text(shell)
    return files


def main() -> int:
    """Write or check; return the exit code."""
    is_check = "--check" in sys.argv[1:]
    files = wanted()
    if not is_check:
        files[README] = refreshed(files[README])
    stale = [
        (path, text)
        for path, text in files.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    if is_check:
        for path, _ in stale:
            print(f"out of date: {path.relative_to(ROOT)}; run python -m tests.generate")
        return 1 if stale else 0
    for path, text in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
