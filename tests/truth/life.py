"""A life: a history that a child process played, with the files after each step."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.cli.program import ROOT
from tests.truth.histories import History, Step

_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
SUFFIXES = ("", "-wal", "-shm", "-journal")

Files = dict[str, bytes]
"""The content of a database's files by suffix; an absent file has no entry."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The files after a step."""

    step: Step
    files: Files


def read_files(path: str) -> Files:
    """Read the files of a database.

    If it is live, this drops the locks that this process has on it. No other process may use it.
    """
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
    with tempfile.TemporaryDirectory(prefix="truth-", dir=_MEMORY, ignore_cleanup_errors=True) as n:
        yield Path(n)


class Child:
    """A child process that answers each pickled request; see `serve`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer. Raises `EOFError` if the child died."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EOFError(f"{self._command[2]} does not run")
        try:
            _send(process.stdin, request)
            return pickle.load(process.stdout)
        except (EOFError, OSError) as error:
            raise EOFError(f"{self._command[2]} ended with {process.wait()}") from error

    def restart(self) -> None:
        """Start it, or kill it and start it anew."""
        self.stop()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONUTF8": "1",
                "TMPDIR": _MEMORY or tempfile.gettempdir(),
            },
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


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer the requests of the parent until it closes the pipe. Nothing else writes to stdout."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        _send(answers, answer(request))


def _send(stream: IO[bytes], message: object) -> None:
    stream.write(pickle.dumps(message))
    stream.flush()


def live(history: History, player: Child, place: Path) -> list[Moment]:
    """Let a child play a history in the directory `place`, which is emptied; return its moments."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    found = player.ask(history=history, place=str(place))
    return [Moment(history.steps[at], files) for at, files in found]
