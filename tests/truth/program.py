"""The program under test in a child process that keeps it loaded: ``… program [--alone] [TWIN]``.

A run costs a few milliseconds of processor time so, instead of a tenth of a second. The child has
no SQLite open between two runs, and each run has streams of its own.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.truth.life import Child, serve


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run came to."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def name(self) -> str:
        """The command with its options, without paths."""
        return " ".join(word for word in self.arguments if "/" not in word and word != "0")

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on stdout; empty if there is none."""
        try:
            found = json.loads(self.out)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def first_line(self) -> str:
        """The first line that it wrote, for a complaint."""
        return ((self.out + self.err).strip().splitlines() or [""])[0][:200]


def run(program: Child, *arguments: str) -> Ran:
    """Run the program in its child; a run that kills the child has code 1."""
    try:
        told = program.ask(arguments=arguments)
    except EOFError as error:
        program.restart()
        return Ran(arguments, 1, "", str(error))
    return Ran(arguments, told["code"], told["out"], told["err"])


def _run(arguments: Sequence[str]) -> dict[str, Any]:
    from modelstore.cli import output
    from modelstore.cli.main import run as run_program

    output._current = None
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        code = run_program(arguments)
    texts = []
    for stream in streams:
        stream.flush()
        raw = stream.buffer
        assert isinstance(raw, io.BytesIO)
        texts.append(raw.getvalue().decode("utf-8"))
    return {"code": code, "out": texts[0], "err": texts[1]}


def _keep_loaded() -> None:
    """Build the commands once, and look at no other process: nobody else has these files open."""
    from modelstore.cli import app
    from modelstore.database import holders
    from modelstore.wal import processes

    for name in ("command_tree", "load_command"):
        setattr(app, name, cache(getattr(app, name)))
    for module in (holders, processes):
        vars(module)["process_ids"] = list
    gc.freeze()


def main() -> None:
    """Run the program until the parent ends; ``--alone`` if no other process has its databases."""
    arguments = [word for word in sys.argv[1:] if word != "--alone"]
    if arguments:
        from tests.truth.twins import TWINS

        TWINS[arguments[0]]()
    if "--alone" in sys.argv:
        _keep_loaded()
    for name in [name for name in os.environ if name.startswith(("MODELSTORE", "GITHUB_"))]:
        del os.environ[name]
    serve(lambda request: _run(request["arguments"]))


if __name__ == "__main__":
    main()
