"""The processes of a drill: the real program, and a reader, both without the caller's settings.

Run as a module with the path of a database, this is the reader: it prints the number of models
that it sees and keeps that snapshot until its stdin ends, as it does if its parent is gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from modelstore.database.handle import connect
from modelstore.text import human_seconds
from modelstore.verify.signals import signals_held

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 30.0  # seconds that one process may take
_LEFT_OUT = ("MODELSTORE_", "_MODELSTORE_", "PYTHON", "GITHUB_")
_TEMPORARY = ("TMPDIR", "TEMP", "TMP", "SQLITE_TMPDIR")
_HANGS = "something here hangs: look for a network share that does not answer, or a full machine"


class DrillFailure(Exception):  # noqa: N818  # a result of the drill, not an error of ours
    """A promise that does not hold here, and its meaning for a database in this place."""

    def __init__(self, text: str, meaning: str) -> None:
        super().__init__(text)
        self.text = text
        self.meaning = meaning


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a process; `answer` is its JSON, or None."""

    pid: int
    code: int  # as the shell sees it
    answer: Any
    error: str  # the first error on its stderr
    seconds: float

    def get(self, *keys: str) -> Any:  # noqa: ANN401  # whatever JSON holds
        """Return the answer's value under nested keys; None if there is none."""
        value = self.answer
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


class Child:
    """One process; its streams are pipes."""

    def __init__(self, process: subprocess.Popen[str], what: str) -> None:
        self.what = what
        self.pid = process.pid
        self.process = process
        self._started = time.monotonic()

    @property
    def ended(self) -> bool:
        """True if it is gone already."""
        return self.process.poll() is not None

    def first_line(self, patience: float) -> str:
        """Return its first line of output; "" if none comes within `patience` seconds."""
        lines: list[str] = []
        stream = self.process.stdout
        if stream is None:
            return ""
        thread = threading.Thread(target=lambda: lines.append(stream.readline()), daemon=True)
        thread.start()
        thread.join(patience)
        return lines[0].strip() if lines else ""

    def outcome(self, patience: float) -> Outcome:
        """Wait until it ends. Raises `DrillFailure` after `patience` seconds."""
        try:
            out, err = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            text = f"{self.what} did not end within {human_seconds(patience)}"
            raise DrillFailure(text, _HANGS) from None
        try:
            answer = json.loads(out)
        except ValueError:
            answer = None
        errors = [line.removeprefix("error: ") for line in err.splitlines() if "rror: " in line]
        return Outcome(
            pid=self.pid,
            code=self.process.returncode,
            answer=answer,
            error=errors[0][:300] if errors else "",
            seconds=time.monotonic() - self._started,
        )

    def close_stdin(self) -> None:
        """Let it read the end of its input."""
        stream, self.process.stdin = self.process.stdin, None
        if stream is not None:
            with suppress(OSError):
                stream.close()

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, or TerminateProcess on Windows."""
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)


class Program:
    """Starts processes, and lets none of them outlive the drill.

    They find the modules that this process finds, but have none of its settings. Their temporary
    files lie where the drill is, so that it tries this place alone.
    """

    def __init__(self, command: Sequence[str] | None, directory: str, *, deadline: float) -> None:
        self._command = command or (*_python(), "modelstore")
        self._directory = directory
        self._deadline = deadline  # of time.monotonic()
        self._children: list[Child] = []

    def start(self, what: str, arguments: Sequence[str], stdin: str = "") -> Child:
        """Start the program; `what` names it in the story. Small inputs only."""
        child = self._spawn(what, [*self._command, *arguments])
        if child.process.stdin is not None:
            with suppress(OSError):
                child.process.stdin.write(stdin)
        child.close_stdin()
        return child

    def run(self, what: str, *arguments: str, stdin: str = "") -> Outcome:
        """Run the program to its end."""
        return self.start(what, arguments, stdin).outcome(self.patience())

    def start_reader(self, database: str) -> Child:
        """Start a process that reads a database; it holds its snapshot when this returns."""
        command = [*_python(), "modelstore.verify.drill.processes", database]
        child = self._spawn("a reader", command)
        if not child.first_line(self.patience()):
            child.kill()
            error = child.outcome(self.patience()).error
            raise DrillFailure(
                f"a second process could not read the catalogue: {error or 'no answer'}",
                "processes cannot share a database here: keep it on a local disk",
            )
        return child

    def patience(self) -> float:
        """Return the seconds that the next process may take. Raises `DrillFailure` at the end."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DrillFailure("the time for the drill is over", _HANGS)
        return min(left, _LONGEST)

    def _spawn(self, what: str, command: Sequence[str]) -> Child:
        with signals_held():
            process = subprocess.Popen(  # noqa: S603  # this very program
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                cwd=self._directory,
                env=_environment(self._directory),
                start_new_session=os.name != "nt",  # Ctrl-C is for us, and we end them
            )
            child = Child(process, what)
            self._children.append(child)
        return child

    def __enter__(self) -> Self:
        """Return the program itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Kill whatever still runs."""
        with signals_held():
            for child in self._children:
                child.kill()
                for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
                    if stream is not None:
                        with suppress(OSError):
                            stream.close()


def _python() -> tuple[str, ...]:
    """Return this interpreter, about to run a module that is not in the current directory."""
    return (sys.executable, "-P", "-m")


def _environment(directory: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_LEFT_OUT) or name == "PYTHONHOME"
    }
    paths = [os.path.abspath(path) for path in sys.path if os.pathsep not in path]
    return {
        **kept,
        **dict.fromkeys(_TEMPORARY, directory),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def hold_reader(database: str) -> None:
    """Hold a read transaction on a database until stdin ends."""
    with closing(connect(database, "ro")) as db:
        db.execute("PRAGMA busy_timeout = 5000")  # plain SQL: sqlite-utils sets no pragma
        db.begin()
        sys.stdout.write(f"{db.table('models').count}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    hold_reader(sys.argv[1])
