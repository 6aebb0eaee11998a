"""Runs of a program in children of a server that has it loaded, each with a trap or a log."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cli.program import ROOT, environment
from tests.torture import shim
from tests.waiting import PATIENCE

HANGS = -1000
"""The code of a run that did not end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run said; a negative code is the signal that ended it."""

    code: int
    out: str
    err: str

    @property
    def was_killed(self) -> bool:
        """Whether the trap killed it."""
        return self.code == -signal.SIGKILL

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a run finds around it."""

    stdin: Path | None = None
    stdout: Path | None = None
    control: shim.Control | None = None
    log: shim.Log | None = None
    step: int = 0  # its number in the log
    user: int | None = None
    limits: Mapping[str, int] | None = None
    variables: Mapping[str, str] | None = None
    when_stopped: Callable[[], object] | None = None


class Server:
    """A loaded program. `place` is a directory of its own, for scratch files and streams."""

    def __init__(self, place: Path, program: str = "modelstore") -> None:
        self.place = place
        self.scratch = place / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.scratch.chmod(0o777)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        variables = environment(
            {
                "LD_PRELOAD": str(shim.compiled()),
                "TMPDIR": str(self.scratch),
                "HOME": str(self.scratch),
                "PYTHONPATH": str(ROOT),
            }
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.server", str(theirs.fileno()), program],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=variables,
                cwd=place,
            )
        self._channel.settimeout(PATIENCE)
        assert self._channel.recv(64) == b"ready", "the server did not start"

    def run(self, arguments: Sequence[str | Path], setting: Setting | None = None) -> Outcome:
        """Run the program once."""
        setting = setting or Setting()
        out, err = setting.stdout or self.place / "out", self.place / "err"
        request = {
            "arguments": [str(argument) for argument in arguments],
            "stdin": str(setting.stdin or os.devnull),
            "stdout": str(out),
            "stderr": str(err),
            "directory": str(self.place),
            "environment": dict(setting.variables or {}),
            "control": str(setting.control.path) if setting.control else None,
            "log": str(setting.log.path) if setting.log else None,
            "step": setting.step,
            "user": setting.user,
            "limits": dict(setting.limits or {}),
        }
        self._channel.send(json.dumps(request).encode())
        code = self._await(setting)
        said = "" if setting.stdout else out.read_text(errors="surrogateescape")
        return Outcome(code, said, err.read_text(errors="surrogateescape"))

    def _await(self, setting: Setting) -> int:
        child = int(json.loads(self._channel.recv(256))["pid"])
        while True:
            try:
                status = json.loads(self._channel.recv(256))
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                self._channel.recv(256)
                return HANGS
            if not status["stopped"]:
                return int(status["code"])
            if setting.when_stopped is not None:
                setting.when_stopped()
            self._channel.send(b"go on")

    def close(self) -> None:
        """End the server."""
        self._channel.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
