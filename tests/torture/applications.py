"""Live applications, thousands of them: each a process of its own that does as it is told.

A nursery has SQLite loaded, in three libraries, and forks an application for each request: a start
costs two milliseconds. The `sqlite3` shell and Node are applications in other languages. A killed
application has ended, with its locks, when `end` returns.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self
from urllib.parse import quote

from tests.cli.program import ROOT, environment
from tests.waiting import PATIENCE

LIBRARIES = ("sqlite3", "pysqlite3", "apsw")
SHELL = "shell"
NODE = "node"
COUNT = "SELECT count(*) FROM t"
_NEW_NAMESPACE = 0x20000  # CLONE_NEWNS of unshare(2)
_PRIVATE, _RECURSIVE, _BIND = 1 << 18, 1 << 14, 1 << 12  # flags of mount(2)


class App(Protocol):
    """An application with a connection, as the attacks use it."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    def run(self, *statements: str) -> int:
        """Run statements; return how many succeeded."""
        ...

    def count(self) -> int | None:
        """Return how many rows it sees, or None if it cannot read."""
        ...

    def stop(self) -> None:
        """Stop it where it is, until it is ended."""
        ...

    def end(self, how: str) -> None:
        """End it: ``close`` closes its connection first, ``crash`` closes nothing."""
        ...


class _Process:
    """A process that is waited for to its very end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.watch = os.pidfd_open(pid)

    def stop(self) -> None:
        signal.pidfd_send_signal(self.watch, signal.SIGSTOP)

    def kill(self) -> None:
        if self.watch < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.watch, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        select.select([self.watch], [], [], PATIENCE)
        os.close(self.watch)
        self.watch = -1


class Python:
    """An application in Python. It may open further connections, each with a name of its own."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._process = _Process(pid)
        self._channel = channel
        self._children: list[int] = []

    def tell(self, verb: str, *arguments: object) -> Any:
        """Return what came of a verb of `_Work`; raises `OSError` if it failed."""
        self._channel.send(json.dumps([verb, *arguments]).encode())
        ok, value = json.loads(self._channel.recv(1 << 16) or b'[false, "it is gone"]')
        if not ok:
            raise OSError(value)
        return value

    def try_to(self, verb: str, *arguments: object) -> bool:
        """Tell whether a verb succeeded."""
        try:
            self.tell(verb, *arguments)
        except OSError:
            return False
        return True

    def run(self, *statements: str) -> int:
        return sum(self.try_to("run", "main", statement) for statement in statements)

    def count(self) -> int | None:
        try:
            return int(self.tell("run", "main", COUNT))
        except OSError:
            return None

    def fork(self) -> None:
        """Let it have a child that inherits its descriptors, and sleeps."""
        self._children.append(self.tell("fork"))

    def stop(self) -> None:
        self._process.stop()

    def end(self, how: str) -> None:
        for child in self._children:
            _Process(child).kill()
        self._children.clear()
        if how == "close" and self._process.watch >= 0:
            signal.pidfd_send_signal(self._process.watch, signal.SIGCONT)
            with suppress(OSError):
                self.tell("close", "main")
        self._process.kill()
        self._channel.close()


class Shell:
    """The `sqlite3` shell as an application."""

    def __init__(self, path: Path, parameters: str, setup: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            ["sqlite3", "-batch", uri(path, parameters)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        if self.run(*setup) < len(setup):
            self.end("crash")
            raise OSError("the shell did not start")

    def _ask(self, statement: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{statement};\n.print done\n")
        self._process.stdin.flush()
        said = []
        while (line := self._process.stdout.readline()) not in {"done\n", ""}:
            said.append(line.strip())
        return said

    def run(self, *statements: str) -> int:
        return sum(not any("rror" in line for line in self._ask(one)) for one in statements)

    def count(self) -> int | None:
        said = self._ask(COUNT)
        return int(said[-1]) if said and said[-1].isdigit() else None

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def end(self, how: str) -> None:
        if how == "crash":
            self._process.kill()
        else:
            self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=PATIENCE)


class Node:
    """An application in Node, with the SQLite of better-sqlite3."""

    def __init__(self, path: Path, setup: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            ["node", "-e", _NODE, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.pid = self._process.pid
        if self.run(*setup) < len(setup):
            self.end("crash")
            raise OSError("node did not start")

    def _ask(self, statement: str) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(statement) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return [False]
        answer: list[Any] = json.loads(self._process.stdout.readline() or "[false]")
        return answer

    def run(self, *statements: str) -> int:
        return sum(bool(self._ask(one)[0]) for one in statements)

    def count(self) -> int | None:
        ok, *values = self._ask(COUNT)
        return int(values[0]) if ok else None

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def end(self, how: str) -> None:
        if how == "crash":
            self._process.kill()
        else:
            self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=PATIENCE)


_NODE = """
const Database = require("better-sqlite3");
const db = new Database(process.argv[1], { timeout: 60 });
const run = (sql) => {
  const statement = db.prepare(sql);
  if (!statement.reader) { statement.run(); return null; }
  const rows = statement.raw().all();
  return rows.length ? rows[rows.length - 1][0] : null;
};
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (line) => {
  let answer;
  try { answer = [true, run(JSON.parse(line))]; } catch (error) { answer = [false, String(error)]; }
  console.log(JSON.stringify(answer));
});
lines.on("close", () => db.close());
"""


@functools.cache
def has_node() -> bool:
    """Tell whether Node finds better-sqlite3; NODE_PATH names where that is installed."""
    if shutil.which("node") is None:
        return False
    tried = subprocess.run(
        ["node", "-e", "require('better-sqlite3')"], capture_output=True, check=False
    )
    return tried.returncode == 0


def uri(path: Path, parameters: str) -> str:
    """Return the URI of a database."""
    return f"file:{quote(str(path))}" + (f"?{parameters}" if parameters else "")


class Nursery:
    """Starts applications."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.applications", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment({"PYTHONPATH": str(ROOT)}),
                cwd="/",
            )
        self._channel.settimeout(PATIENCE)
        assert self._channel.recv(64) == b"ready", "the nursery did not start"

    def start(
        self, library: str, path: Path, setup: Sequence[str], parameters: str = ""
    ) -> Python | Shell | Node:
        """Start an application that has a database open. Raises `OSError` if it cannot."""
        if library == SHELL:
            return Shell(path, parameters, setup)
        if library == NODE:
            return Node(path, setup)
        app = self.start_idle()
        try:
            app.tell("open", "main", library, uri(path, parameters), list(setup))
        except OSError:
            app.end("crash")
            raise
        return app

    def start_idle(self) -> Python:
        """Start an application that has nothing open yet."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        with theirs:
            socket.send_fds(self._channel, [b"app"], [theirs.fileno()])
        return Python(int(self._channel.recv(64)), ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()
        self._process.wait(PATIENCE)


def why_not() -> str | None:
    """Return why no applications can be had here; None where they can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    return None if shutil.which("sqlite3") else "needs the sqlite3 shell"


def can_mount() -> bool:
    """Tell whether a process here may have a mount namespace of its own."""
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return tried.returncode == 0


# -- the nursery's side ------------------------------------------------------------------------


class _Work:
    """The verbs of an application."""

    def __init__(self) -> None:
        self._connections: dict[str, Any] = {}
        self._kept: list[Any] = []

    def open(self, name: str, library: str, address: str, setup: Sequence[str]) -> None:
        if library == "apsw":
            import apsw

            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
            connection: Any = apsw.Connection(address, flags=flags)
        elif library == "pysqlite3":
            from modelstore.database.sqlite import sqlite3 as shipped

            connection = shipped.connect(address, uri=True, isolation_level=None)
        else:
            import sqlite3

            connection = sqlite3.connect(address, uri=True, isolation_level=None)
        self._connections[name] = connection
        for statement in ("PRAGMA busy_timeout=60", *setup):
            self.run(name, statement)

    def run(self, name: str, statement: str) -> Any:
        """Run a statement to its end; return the first value of its last row."""
        rows = self._connections[name].execute(statement).fetchall()
        return rows[-1][0] if rows else None

    def close(self, name: str) -> None:
        self._connections.pop(name).close()

    def touch(self, *names: str) -> None:
        """Open and close files, as a careless backup in the process does."""
        for name in names:
            os.close(os.open(name, os.O_RDONLY))

    def keep(self, *names: str) -> None:
        """Have files open to read, as a backup from outside does."""
        self._kept += [open(name, "rb") for name in names]

    def mount(self, source: str, target: str) -> None:
        """Mount a file or directory at another place, for this process alone."""
        libc = ctypes.CDLL(None, use_errno=True)
        steps: tuple[Callable[[], int], ...] = (
            lambda: libc.unshare(_NEW_NAMESPACE),
            lambda: libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None),
            lambda: libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND, None),
        )
        for step in steps:
            if step():
                raise OSError(ctypes.get_errno(), "the mount failed")

    def fork(self) -> int:
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        return child


def _be_an_app(descriptor: int) -> NoReturn:
    work = _Work()
    channel = socket.socket(fileno=descriptor)
    while request := channel.recv(1 << 16):
        verb, *arguments = json.loads(request)
        try:
            answer = [True, getattr(work, verb)(*arguments)]
        except Exception as error:  # noqa: BLE001  # of any of three libraries
            answer = [False, f"{type(error).__name__}: {error}"]
        channel.send(json.dumps(answer).encode())
    os._exit(0)


def main(descriptor: int) -> None:
    """Fork an application for each request, until the other side hangs up."""
    import sqlite3  # noqa: F401 - loaded once, for all

    import apsw  # noqa: F401

    from modelstore.database.sqlite import sqlite3 as shipped  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody else reaps them
    channel = socket.socket(fileno=descriptor)
    channel.send(b"ready")
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, 64, 1)
        if not request:
            return
        child = os.fork()
        if not child:
            channel.close()
            _be_an_app(descriptors[0])
        os.close(descriptors[0])
        channel.send(b"%d" % child)


if __name__ == "__main__":
    main(int(sys.argv[1]))
