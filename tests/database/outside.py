"""Other processes on a database: crashed applications, readers, writers, an unprivileged user.

What this process must not do itself: a second copy of SQLite, or a raw descriptor closed while
SQLite is at work, would drop the very locks that are tested.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

# `sql` is the SQLite that the package uses; `plain` the interpreter's own, another copy of it.
_PRELUDE = """
import fcntl, json, os, signal, struct, sys, time
import sqlite3 as plain
try:
    from pysqlite3 import dbapi2 as sql
except ImportError:
    sql = plain
path = sys.argv[1]
def connect(**options):
    conn = sql.connect(path, isolation_level=None, **options)
    conn.execute('pragma wal_autocheckpoint = 0')
    return conn
def say(*values):
    print(json.dumps(values), flush=True)
def hear():
    return sys.stdin.readline()
"""

# The modules are loaded before the rights are given up: the interpreter may be root's alone.
_AS_NOBODY = f"""
import importlib, pkgutil, tempfile
import modelstore.database, modelstore.wal
for package in (modelstore.database, modelstore.wal):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):
        if not module.name.endswith('vector'):
            importlib.import_module(module.name)
from modelstore.database.open import Purpose, open_database
from modelstore.errors import ModelstoreError
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
"""

CRASHED_APP = """
conn = connect()
conn.execute('pragma synchronous = off')  # killed it is, but no power is cut
conn.execute('pragma journal_mode = wal')
conn.execute('create table t (id integer primary key, v text)')
conn.execute('pragma wal_checkpoint(truncate)')
for number in range(int(sys.argv[2])):
    conn.execute('insert into t (v) values (?)', (f'{number:04d}' * int(sys.argv[3]),))
os.kill(os.getpid(), signal.SIGKILL)
"""

CRASH_WITH_PAGE_1 = """
conn = connect()
conn.execute('create table y (v)')
os.kill(os.getpid(), signal.SIGKILL)
"""

READER = """
conn = connect()
conn.execute('begin')
say(conn.execute('select count(*) from t').fetchone()[0])
hear()
conn.execute('rollback')
conn.close()
"""

# Tries to write again and again, never waiting longer than it is told to.
IMPATIENT_WRITER = """
conn = connect(timeout=float(sys.argv[2]))
conn.execute('create table if not exists strangers (id integer primary key)')
say('ready')
os.set_blocking(0, False)
done = failed = 0
while not sys.stdin.buffer.raw.read(1):
    try:
        conn.execute('insert into strangers default values')
        done += 1
    except sql.OperationalError:
        failed += 1
    time.sleep(0.002)
say(done, failed)
conn.close()
"""

# Commits a row for each line that it hears, and never waits for a lock; says whether it could.
STRANGER_WITHOUT_PATIENCE = """
conn = connect(timeout=0)
conn.execute('create table if not exists strangers (id integer primary key)')
say('ready')
while hear():
    try:
        conn.execute('insert into strangers default values')
        say(True)
    except sql.OperationalError as error:
        say(repr(error))
"""

LOCK_HOLDER = """
shm = open(path + '-shm', 'rb+')
while True:
    try:
        fcntl.lockf(shm, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]), 0)
        break
    except BlockingIOError:
        time.sleep(0.001)
say('locked')
hear()
"""


class Child:
    """A process that says JSON lines and hears lines."""

    def __init__(self, code: str, path: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PRELUDE + code, str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> list[Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the child process ended early"
        result = json.loads(line)
        assert isinstance(result, list)
        return result

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Let it end by itself."""
        self.tell()
        assert self.process.wait(PATIENCE) == 0


@contextlib.contextmanager
def child(code: str, path: Path, *arguments: object) -> Iterator[Child]:
    process = Child(code, path, *arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


@contextlib.contextmanager
def reader(path: Path) -> Iterator[Child]:
    """Hold a snapshot of table t until told to end."""
    with child(READER, path) as process:
        process.hear()
        yield process


def run(code: str, path: Path, *arguments: object) -> list[list[Any]]:
    """Run code to its end and return what it said; a process that kills itself is fine."""
    process = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, str(path), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=REPOSITORY,
        check=False,
    )
    assert process.returncode in {0, -signal.SIGKILL}, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def run_as_nobody(code: str, path: Path, *arguments: object) -> list[list[Any]]:
    """Run code without root's rights; the floors that open a database are imported already."""
    loaded = _AS_NOBODY if IS_ROOT else _AS_NOBODY.split("os.setgroups", maxsplit=1)[0]
    return run(loaded + code, path, *arguments)


def crashed(path: Path, rows: int = 5, width: int = 1) -> Path:
    """Leave a database whose log holds one commit for each row, its program killed.

    Up to some 200 rows of width 1 (4 bytes each) share a page: one frame a commit.
    """
    run(CRASHED_APP, path, rows, width)
    return path


_COUNT_ALONE = """
import json, os, shutil, sqlite3, sys, tempfile
directory = tempfile.mkdtemp()
shutil.copyfile(sys.argv[1], os.path.join(directory, 'alone.db'))
try:
    conn = sqlite3.connect(os.path.join(directory, 'alone.db'))
    check = conn.execute("pragma integrity_check").fetchone()[0]
    count = conn.execute(f"select count(*) from {sys.argv[2]}").fetchone()[0]
    print(json.dumps(count if check == "ok" else check))
except sqlite3.DatabaseError as error:
    print(json.dumps(str(error)))
finally:
    shutil.rmtree(directory)
"""


def rows_in_main_alone(path: Path, table: str = "t") -> int | str:
    """Copy only the .db elsewhere and count there, with another copy of SQLite; or its error."""
    output = subprocess.run(
        [sys.executable, "-ISc", _COUNT_ALONE, str(path), table],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    result = json.loads(output)
    assert isinstance(result, int | str)
    return result


def wal_header(path: Path) -> tuple[int, ...]:
    """Magic, version, page size, sequence, salt-1, salt-2, checksum-1, checksum-2."""
    return struct.unpack(">8I", Path(f"{path}-wal").read_bytes()[:32])


def frames_in_log(path: Path) -> int:
    """Frames whose salts are the header's, counted by the file format document alone."""
    raw = Path(f"{path}-wal").read_bytes()
    if len(raw) < 32:
        return 0
    page_size, salts = struct.unpack(">I", raw[8:12])[0], raw[16:24]
    count = 0
    for start in range(32, len(raw) - page_size - 23, page_size + 24):
        if raw[start + 8 : start + 16] != salts:
            break
        count += 1
    return count


def flip(path: Path, frame: int) -> None:
    """Flip one bit in the page image of a frame of the log."""
    wal = Path(f"{path}-wal")
    raw = bytearray(wal.read_bytes())
    raw[32 + (frame - 1) * (wal_header(path)[2] + 24) + 24 + 1000] ^= 4
    wal.write_bytes(raw)


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of every file beside a database that this process does not have open."""
    return {
        name.name: name.read_bytes() for name in sorted(path.parent.iterdir()) if name.is_file()
    }
