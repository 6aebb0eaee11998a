"""Write the generated parts of the documents, the completions and man pages, or check them.

``python -m tests.generate`` writes; ``python -m tests.generate --check`` exits 1 where something
is out of date. What the sessions show is made anew by the first, and compared by
``tests/test_readme.py``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from modelstore.cli.terms import aliases
from modelstore.errors import ExitCode
from modelstore.sources.base import Context
from modelstore.sources.kinds import KINDS, usual_places
from modelstore.topics import topic_titles
from tests.manpages import pages
from tests.sessions import DOCUMENTS, refreshed

ROOT = Path(__file__).resolve().parent.parent
MANUAL = ROOT / "modelstore" / "man"
COMPLETIONS = {
    "bash": "modelstore.bash",
    "zsh": "_modelstore",
    "fish": "modelstore.fish",
    "powershell": "modelstore.ps1",
}
_stale: list[Path] = []
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
    """Return the text of one generated block."""
    if name == "exit codes":
        rows = "".join(f"| {code.value} | {code.text} |\n" for code in ExitCode)
        return f"| code | meaning |\n|---|---|\n{rows}"
    if name == "kinds":
        return _kinds()
    if name == "aliases":
        return "| short | column |\n|---|---|\n" + "".join(
            f"| `{alias}` | `{column}` |\n" for alias, column in sorted(aliases().items())
        )
    if name == "topics":
        return "".join(f"- `{topic}`: {title}\n" for topic, title in topic_titles().items())
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


def document_text(path: Path) -> str:
    """Return a document with its generated blocks made anew."""

    def replace(match: re.Match[str]) -> str:
        return match[1] + generated(match[2]) + match[3]

    return _BLOCK.sub(replace, path.read_text("utf-8"))


def completion_text(shell: str) -> str:
    """Return the completion script of one shell, as the program itself prints it."""
    return run_program("--show-completion", shell)


def made() -> dict[Path, str]:
    """Return every file that is wholly generated, with the text that it should hold."""
    files = {MANUAL / name: text for name, text in pages().items()}
    for shell, name in COMPLETIONS.items():
        files[ROOT / "completions" / name] = completion_text(shell)
    return files


def main() -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    is_check = parser.parse_args().check
    for path in DOCUMENTS:  # the pages are made of them
        text = document_text(path)
        _put(path, text if is_check else refreshed(text), is_check=is_check)
    files = made()
    for path, text in files.items():
        _put(path, text, is_check=is_check)
    for path in set(MANUAL.iterdir()) - set(files):
        _stale.append(path)
        if not is_check:
            path.unlink()
    for path in _stale:
        verb = "out of date" if is_check else "written"
        print(f"{verb}: {path.relative_to(ROOT)}")
    if is_check and _stale:
        print("run python -m tests.generate")
    return 1 if is_check and _stale else 0


def _put(path: Path, text: str, *, is_check: bool) -> None:
    """Note a file that does not hold `text`; write it unless this is a check."""
    if path.exists() and path.read_text("utf-8") == text:
        return
    _stale.append(path)
    if not is_check:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
