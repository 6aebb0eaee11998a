"""A process that has the program loaded, and forks a child for each run of it.

A run then costs no start of an interpreter, and a kill never falls into one. The child does what
``modelstore`` does from there on: `modelstore.cli.main.run` with the arguments, then the end of
the interpreter. Started as ``python -m tests.torture.server DESCRIPTOR PROGRAM``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import resource
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tests.torture import shim

Program = Callable[[list[str]], int]

_WARMING = (
    ["import", "-", "--from", "jsonl"],
    ["import", "models.csv"],
    ["import", "."],
    ["list", "--json"],
    ["tag", "a", "--add", "t"],
    ["checkpoint"],
)


def serve(descriptor: int, name: str) -> int:
    """Answer requests until the other side hangs up."""
    channel = socket.socket(fileno=descriptor)
    program = _program(name)
    if name in {"modelstore", "sees-nobody"}:
        _warm(program)
    gc.freeze()
    channel.send(b"ready")
    while request := channel.recv(1 << 16):
        child = os.fork()
        if child == 0:
            _run(program, json.loads(request))
        _watch(channel, child)
    return 0


def _program(name: str) -> Program:
    if name == "modelstore":
        from modelstore.cli.main import run

        return run
    if name == "application":
        return _commit
    from tests.torture.twins import PROGRAMS

    return PROGRAMS[name]


def _commit(arguments: list[str]) -> int:
    """Be another application: commit a row of its own, fold nothing, and vanish."""
    from modelstore.database.sqlite import sqlite3

    conn = sqlite3.connect(arguments[0], isolation_level=None, timeout=1)
    conn.execute("PRAGMA synchronous = NORMAL")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute("CREATE TABLE IF NOT EXISTS notes (text)")
    conn.execute("INSERT INTO notes VALUES (?)", (arguments[1],))
    os._exit(0)


def _warm(program: Program) -> None:
    """Load what runs of the program load, but in a child, and what it left behind is not kept."""
    import modelstore

    for module in pkgutil.walk_packages(modelstore.__path__, "modelstore."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory, "modules")
        child = os.fork()
        if child == 0:
            _load_all(program, directory, found)
        os.waitpid(child, 0)
        for name in found.read_text().split():
            with suppress(ImportError):
                importlib.import_module(name)


def _load_all(program: Program, directory: str, found: Path) -> None:
    try:
        os.chdir(directory)
        Path("models.csv").write_text("name\na\n")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        for arguments in _WARMING:
            program([*arguments, "--db", "warm.db"])
        names = [name for name in sys.modules if not name.startswith(("__", "tests"))]
        found.write_text("\n".join(names))
    finally:
        os._exit(0)


def _run(program: Program, request: dict[str, Any]) -> NoReturn:
    code = 1  # what Python says of an exception that nobody caught
    try:
        code = _settle(program, request)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)  # the end of an interpreter that has loaded so much takes longer than a run


def _settle(program: Program, request: dict[str, Any]) -> int:
    for number, key in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(request[key], flags, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    os.chdir(request["directory"])
    if request["user"] is not None:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    if request["control"] is not None:
        shim.attach(request["control"], request["log"])
    for name, value in request["limits"].items():
        limit = getattr(resource, name)
        resource.setrlimit(limit, (value, value))
    code = program(request["arguments"])
    shim.note(request["step"], code)
    return code


def _watch(channel: socket.socket, child: int) -> None:
    """Tell what becomes of a child: it stopped (and goes on when told), or it ended."""
    channel.send(b'{"pid": %d}' % child)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        stopped = os.WIFSTOPPED(status)
        code = None if stopped else os.waitstatus_to_exitcode(status)
        channel.send(json.dumps({"stopped": stopped, "code": code}).encode())
        if not stopped:
            return
        if not channel.recv(64):
            sys.exit(0)
        os.kill(child, 18)  # SIGCONT


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1]), sys.argv[2]))
