"""The command line run thousands of times: a server that has it loaded, and forks for each run.

A run sees what a process of its own would: its arguments, environment, directory, streams and
limits. Starting Python anew would cost ten times as much. ``python -m tests.forkserver DIRECTORY``
is the server, with the files of the streams in DIRECTORY; `ForkServer` starts one and talks to it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.cli.program import ROOT, environment
from tests.waiting import PATIENCE

MEMORY = 512 << 20  # bytes of address space; a healthy run with everything loaded needs 190 MB
PROGRAM = "modelstore.__main__:main"
_MOST_OUTPUT = 64 << 20


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run came to. `peak` is the resident memory in bytes."""

    code: int  # negative: the signal that ended it
    out: bytes
    err: bytes
    seconds: float
    peak: int
    timed_out: bool

    @property
    def said(self) -> str:
        return self.err.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class ForkServer:
    """One server of the package in `place`; one run at a time."""

    def __init__(self, place: Path = ROOT) -> None:
        variables = {
            **environment(),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (place, ROOT))),
        }
        self._streams = tempfile.mkdtemp(prefix="modelstore-forkserver-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver", self._streams],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=place,
            env=variables,
            text=True,
        )
        self.umask = 0o022

    def run(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        memory: int | None = MEMORY,
        patience: float = PATIENCE,
        program: str = PROGRAM,
        terminal: Mapping[int, str] | None = None,
    ) -> Ran:
        """Run `program` (``module:function``) and return what came of it.

        Without `memory` the run is as free as any process in what it takes and writes. `terminal`
        is a device for some of the streams 0 to 2; what is written to it is not in the answer.
        """
        names = [os.path.join(self._streams, name) for name in ("in", "out", "err")]
        for name in names[1:]:
            Path(name).write_bytes(b"")
        Path(names[0]).write_bytes(stdin)
        request = {
            "argv": ["modelstore", *map(str, arguments)],
            "streams": [(terminal or {}).get(number, name) for number, name in enumerate(names)],
            "env": environment(env),
            "cwd": str(cwd),
            "memory": memory,
            "patience": patience,
            "program": program,
            "umask": self.umask,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except BaseException:  # a test's time is up: the next one must not get this answer
            self._process.kill()
            shutil.rmtree(self._streams, ignore_errors=True)
            fork_server.cache_clear()
            raise
        out, err = (Path(name).read_bytes() for name in names[1:])
        return Ran(out=out, err=err, **answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


@cache
def fork_server() -> ForkServer:
    """Return the server of this process; it ends with it."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def preload() -> None:
    """Import all that a run may import, so that a child has it."""
    import modelstore

    names = [module.name for module in pkgutil.walk_packages(modelstore.__path__, "modelstore.")]
    names += ["pysqlite3", "sqlite_utils", "typer", "yaml", "urllib3", "numpy", "http.client"]
    names += ["rich.table", "rich.console", "platformdirs", "csv", "traceback", "encodings.idna"]
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main() -> None:
    """Serve until stdin ends, if only because whoever asked was killed; leave nothing then."""
    preload()
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    for line in os.fdopen(requests, encoding="utf-8"):
        request = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            _become(request)
        watch = os.pidfd_open(pid)
        ended, _, _ = select.select([watch], [], [], request["patience"])
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        os.close(watch)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - began,
            "peak": usage.ru_maxrss * 1024,
            "timed_out": not ended,
        }
        os.write(answers, (json.dumps(answer) + "\n").encode())
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def _become(request: Mapping[str, Any]) -> NoReturn:
    """Be the program that was asked for, to its end."""
    code = 70
    try:
        os.setpgid(0, 0)
        _redirect(request["streams"])
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        if request["memory"] is not None:
            resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_OUTPUT, _MOST_OUTPUT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = list(request["argv"])
        os.umask(request["umask"])
        code = _run(request["program"])
    except BaseException:  # noqa: BLE001  # the process must not go on as a server
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):  # a program may have put None there
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)


def _run(program: str) -> int:
    try:
        _function(program)()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _redirect(names: Sequence[str]) -> None:
    """Put files in the place of the standard streams, as Python has them in UTF-8 mode."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for descriptor, name in enumerate(names):
        opened = os.open(name, os.O_NOCTTY | (flags if descriptor else os.O_RDONLY), 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    raw = io.FileIO(2, "w", closefd=False)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), "utf-8", "backslashreplace", write_through=True
    )


if __name__ == "__main__":
    main()
