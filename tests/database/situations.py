"""Live applications whose files were deleted, replaced, renamed, linked or robbed of their locks.

Each situation starts an application with rows in its log, does its mischief, and returns the path
that the program is then given. `HARMFUL` are those in which a fold would cost rows, or in which
nothing at the path shows what the application holds.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modelstore.database.holders import HolderProblem

PATIENCE = 30
ROWS = 30

_APP = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], uri=True, isolation_level=None)
def run(line):
    if line.startswith("py:"):
        exec(line[3:], globals())
    else:
        db.execute(line).fetchall()
for line in sys.argv[2:]:
    run(line)
print("ready", flush=True)
for line in sys.stdin:
    line = line.rstrip("\\n")
    if line == "crash":
        os._exit(9)
    if line == "close":
        db.close()
        break
    try:
        run(line)
    except sqlite3.Error as error:
        print("no", error, flush=True)
    else:
        print("ok", flush=True)
"""

WAL = ("PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0")
SETUP = (
    *WAL,
    "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)",
    f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    " INSERT INTO t (x) SELECT 'row ' || i FROM n",
)
INSERT = "INSERT INTO t (x) VALUES ('later')"


class LiveApp:
    """An application in a process of its own, with one connection; killed at the block's end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    @classmethod
    def start(
        cls, path: Path | str, *setup: str, parameters: str = "", prefix: tuple[str, ...] = ()
    ) -> Self:
        """Start it, and wait until it has run its setup."""
        uri = f"file:{path}" + (f"?{parameters}" if parameters else "")
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", _APP, uri, *(setup or SETUP)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        app = cls(process)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            app.kill()
            raise AssertionError("the application did not start")
        return app

    def do(self, line: str) -> bool:
        """Run a statement, or Python after ``py:``; return whether it succeeded."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return self.process.stdout.readline() == "ok\n"

    def end(self, how: str) -> None:
        """End it: ``crash`` closes nothing, ``close`` closes its connection first."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(how + "\n")
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """Kill it, and close the pipes."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass(frozen=True, slots=True)
class Situation:
    """A kind of trouble: how it comes about, and the codes of what must be seen."""

    name: str
    make: Callable[[Path], tuple[LiveApp, Path]]
    problems: frozenset[HolderProblem]
    needs: tuple[str, ...] = ()  # programs


def _after(
    mischief: Callable[[Path, LiveApp], Path | None], *setup: str, parameters: str = ""
) -> Callable[[Path], tuple[LiveApp, Path]]:
    def make(directory: Path) -> tuple[LiveApp, Path]:
        path = directory / "app.db"
        app = LiveApp.start(path, *setup, parameters=parameters)
        return app, mischief(path, app) or path

    return make


def _removing(*suffixes: str) -> Callable[[Path], tuple[LiveApp, Path]]:
    def mischief(path: Path, app: LiveApp) -> None:
        app.do(INSERT)
        for suffix in suffixes:
            os.remove(f"{path}{suffix}")

    return _after(mischief)


def _newcomer(path: Path, app: LiveApp) -> None:
    """Delete log and index; then another program makes new ones, and crashes."""
    app.do(INSERT)
    for suffix in ("-wal", "-shm"):
        os.remove(f"{path}{suffix}")
    # The main file is still without a table: the newcomer makes its own.
    with LiveApp.start(path, *WAL, "CREATE TABLE other (y)") as newcomer:
        newcomer.end("crash")


def _replace(path: Path, app: LiveApp) -> None:
    del app
    new = path.with_name("new.db")
    with closing(sqlite3.connect(new)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        db.execute("INSERT INTO t (x) VALUES ('restored')")
        db.commit()
    os.replace(new, path)


def _rename(path: Path, app: LiveApp) -> Path:
    del app
    new = path.with_name("renamed.db")
    os.rename(path, new)
    return new


def _link(path: Path, app: LiveApp) -> Path:
    del app
    new = path.with_name("linked.db")
    os.link(path, new)
    return new


def _replace_log(path: Path, app: LiveApp) -> None:
    """Restore the log from a copy: the same bytes, another file."""
    del app
    shutil.copyfile(f"{path}-wal", f"{path}.copy")
    os.replace(f"{path}.copy", f"{path}-wal")


def _drop_locks(path: Path, app: LiveApp) -> None:
    app.do(f"py:[open(name).close() for name in ({str(path)!r}, {str(path) + '-shm'!r})]")


def _nothing(path: Path, app: LiveApp) -> None:
    del path, app


def _mount_alone(directory: Path) -> tuple[LiveApp, Path]:
    outside, inside = directory / "host.db", directory / "container" / "app.db"
    inside.parent.mkdir()
    inside.touch()
    with closing(sqlite3.connect(outside, isolation_level=None)) as db:
        for statement in SETUP:
            db.execute(statement).fetchall()
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, "sh", str(outside), str(inside))
    return LiveApp.start(inside, WAL[1], INSERT, prefix=prefix), outside


# WAL cannot be had without locks; a journal then looks as if nobody would ever need it.
_SPILLED = (*SETUP[2:], "PRAGMA cache_size=1", "BEGIN", "UPDATE t SET x = hex(zeroblob(900))")
_EXCLUSIVE = ("PRAGMA locking_mode=EXCLUSIVE", *SETUP)

HARMFUL = (
    Situation("log and index deleted", _removing("-wal", "-shm"),
              frozenset({HolderProblem.OTHER_LOG, HolderProblem.OTHER_INDEX})),
    Situation("log deleted", _removing("-wal"), frozenset({HolderProblem.OTHER_LOG})),
    Situation("index deleted", _removing("-shm"), frozenset({HolderProblem.OTHER_INDEX})),
    Situation("all deleted", _removing("", "-wal", "-shm"),
              frozenset({HolderProblem.OTHER_DATABASE, HolderProblem.OTHER_LOG,
                         HolderProblem.OTHER_INDEX})),
    Situation("database replaced", _after(_replace), frozenset({HolderProblem.OTHER_DATABASE})),
    Situation("log replaced", _after(_replace_log), frozenset({HolderProblem.OTHER_LOG})),
    Situation("database renamed", _after(_rename),
              frozenset({HolderProblem.OTHER_LOG, HolderProblem.OTHER_INDEX})),
    Situation("database linked", _after(_link),
              frozenset({HolderProblem.OTHER_NAME, HolderProblem.OTHER_LOG,
                         HolderProblem.OTHER_INDEX})),
    Situation("database mounted alone", _mount_alone,
              frozenset({HolderProblem.OTHER_MOUNT, HolderProblem.OTHER_LOG,
                         HolderProblem.OTHER_INDEX}), ("unshare",)),
    Situation("locks dropped", _after(_drop_locks), frozenset({HolderProblem.NO_LOCKS})),
    Situation("unix-none", _after(_nothing, *_EXCLUSIVE, parameters="vfs=unix-none"),
              frozenset({HolderProblem.NO_LOCKS})),
    Situation("nolock", _after(_nothing, *_SPILLED, parameters="nolock=1"),
              frozenset({HolderProblem.NO_LOCKS})),
    Situation("unix-dotfile", _after(_nothing, *_EXCLUSIVE, parameters="vfs=unix-dotfile"),
              frozenset({HolderProblem.NO_LOCKS})),
    Situation("exclusive mode", _after(_nothing, *_EXCLUSIVE),
              frozenset({HolderProblem.EXCLUSIVE})),
    Situation("unix-excl", _after(_nothing, parameters="vfs=unix-excl"),
              frozenset({HolderProblem.EXCLUSIVE})),
    Situation("two generations", _after(_newcomer),
              frozenset({HolderProblem.OTHER_LOG, HolderProblem.OTHER_INDEX})),
)  # fmt: skip
