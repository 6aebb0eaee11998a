"""Processes that use a database, for tests that look at them from outside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SQL = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
c.execute("PRAGMA journal_mode=WAL")
c.execute("PRAGMA wal_autocheckpoint=0")
for statement in sys.argv[2:]:
    rows = c.execute(statement).fetchall()
print("ready", rows, flush=True)
sys.stdin.read()
"""

# Small cache, rollbacks, restarts: the log changes in every way in which it can.
WRITER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=WAL")
c.execute("PRAGMA wal_autocheckpoint=40")
c.execute("PRAGMA synchronous=OFF")
c.execute("PRAGMA cache_size=2")
c.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x)")
print("ready", flush=True)
n = 0
while True:
    n += 1
    c.execute("BEGIN")
    for i in range(n % 13 + 1):
        c.execute("REPLACE INTO t VALUES (?, randomblob(3000))", [(n * 7 + i * 31) % 50])
    c.execute("ROLLBACK" if n % 3 == 0 else "COMMIT")
"""


@contextlib.contextmanager
def running(
    code: str,
    *arguments: str,
    prefix: Sequence[str] = (),
    fds: Sequence[int] = (),
    wait: bool = True,
) -> Iterator[subprocess.Popen[str]]:
    """Run Python `code` until the block ends; wait until it prints 'ready'."""
    command = [*prefix, sys.executable, "-c", code, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=fds
    ) as process:
        assert process.stdout is not None
        try:
            if wait:
                line = process.stdout.readline()
                assert line.startswith("ready"), line
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def sqlite(path: object, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Run statements on the database at `path` and stay connected until the block ends."""
    with running(SQL, str(path), *(statements or ("SELECT 1",))) as process:
        yield process


@contextlib.contextmanager
def writing(path: object) -> Iterator[subprocess.Popen[str]]:
    """Write to the database at `path` as fast as possible until the block ends."""
    with running(WRITER, str(path)) as process:
        yield process


def ask(path: object, *statements: str) -> str:
    """Return the rows of the last statement, run in a process of its own, as Python shows them."""
    command = [sys.executable, "-c", SQL, str(path), *statements]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.removeprefix("ready ").strip()


HOLDER = """
import fcntl, sys
f = open(sys.argv[1], "r+b")
fcntl.lockf(f, fcntl.LOCK_SH, 1, 128)
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holding_index(database: str) -> Iterator[None]:
    """Hold the wal-index of a copied database as an attached process does, until the block ends."""
    with running(HOLDER, database + "-shm"):
        yield
