"""Plays a history in a child process, and records the files after each step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cli.program import ROOT
from tests.truth.histories import History, Step, Verb

SUFFIXES = ("", "-wal", "-shm", "-journal")

Files = dict[str, bytes]
"""The content of a database's files by suffix; an absent file has no entry."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The files after a step."""

    step: Step
    files: Files


def read_files(path: str) -> Files:
    """Read the files of a database. Only a process without SQLite may do that to a live one."""
    files: Files = {}
    for suffix in SUFFIXES:
        try:
            files[suffix] = Path(path + suffix).read_bytes()
        except FileNotFoundError:
            continue
    return files


def write_files(path: str, files: Files) -> None:
    """Write the files of a database, and remove those that it does not have."""
    for suffix in SUFFIXES:
        if suffix in files:
            Path(path + suffix).write_bytes(files[suffix])
        else:
            Path(path + suffix).unlink(missing_ok=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory, in memory where the system has such a place; it is deleted at the end."""
    root = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="truth-", dir=root, ignore_cleanup_errors=True) as name:
        yield Path(name)


class Child:
    """A child process that answers each line of JSON with one."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer. Raises `EOFError` if the child died."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EOFError(f"{self._command[2]} does not run")
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise EOFError(f"{self._command[2]} ended with {process.wait()}")
        return json.loads(line)

    def restart(self) -> None:
        """Start it, or kill it and start it anew."""
        self.stop()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"},
            text=True,
        )

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def live(history: History, player: Child, place: Path) -> list[Moment]:
    """Play a history in the directory `place`, which is emptied, and return its moments."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path, generation = str(place / "0.db"), 0
    moments: list[Moment] = []
    for step in history.steps:
        if step.verb is Verb.CRASH:
            generation += 1
            files = {suffix: data for suffix, data in read_files(path).items() if suffix != "-shm"}
            _tell(player, Step(Verb.CLOSE), "end", path, history)
            path = str(place / f"{generation}.db")
            write_files(path, files)
            _tell(player, Step(Verb.OPEN), "open", path, history)
            _tell(player, Step(Verb.SQL, "PRAGMA wal_autocheckpoint=0"), "sql", path, history)
        else:
            _tell(player, step, step.verb.value, path, history)
        files = read_files(path)
        if not moments or files != moments[-1].files:
            moments.append(Moment(step, files))
    _tell(player, Step(Verb.CLOSE), "end", path, history)
    return moments


def _tell(player: Child, step: Step, verb: str, path: str, history: History) -> None:
    player.ask(verb=verb, on=step.on, text=step.text, path=path, parameters=history.parameters)
