"""A good guest: evidence that cannot be read now is exit 4, and no application waits for us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from modelstore.database.files import copy_to
from modelstore.errors import ExitCode
from modelstore.recovery import evidence
from modelstore.recovery.recover import Request, recover
from tests.database.outside import IS_ROOT, NOBODY, run
from tests.recovery.victims import INSERT, TABLE, WAL, commits, content, make, rows, writer

# The modules are loaded before the rights are given up: the interpreter may be root's alone.
RECOVER_AS_NOBODY = f"""
import shutil, tempfile
from modelstore.recovery.recover import Request, recover
if {IS_ROOT}:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
done = recover(Request(path, sys.argv[2]))
say(int(done.exit_code), done.unread, {{table.name: table.rows for table in done.tables}})
"""


@pytest.mark.parametrize(("closed", "left"), [("-wal", 3), ("", 8)])
def test_a_file_that_may_not_be_read_is_exit_4(open_dir: Path, closed: str, left: int) -> None:
    open_dir.chmod(0o777)
    path = make(open_dir / "app.db", TABLE, *commits(3))
    make(path, *WAL, (INSERT, rows(100, 5)), crash=True)
    for suffix in ("", "-wal"):
        os.chmod(f"{path}{suffix}", 0o644)
    os.chmod(f"{path}{closed}", 0)
    ((code, unread, tables),) = run(RECOVER_AS_NOBODY, path, open_dir / "new.db")
    assert len(unread) == 1
    assert f"app.db{closed}:" in unread[0]
    assert (code, sum(tables.values())) == (int(ExitCode.BUSY), left)


def test_a_file_that_changes_whenever_it_is_copied_is_exit_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    path = tmp_path / "app.db"
    with writer(path, "python") as application:
        application.write(5)
        held = os.open(path, os.O_RDWR)
        os.unlink(f"{path}-wal")

        def raced(source: int, target: str) -> None:
            copy_to(source, target)
            os.utime(held, ns=(0, os.fstat(held).st_mtime_ns + 1))  # as if a checkpoint wrote

        monkeypatch.setattr(evidence, "copy_to", raced)
        done = recover(Request(str(path), str(tmp_path / "new.db")))
        os.close(held)
    assert done.is_raced
    assert done.exit_code is ExitCode.BUSY
    assert len(content(tmp_path / "new.db")) == 5


# -- an application that commits as fast as it can -------------------------------------------------

_APPLICATION = """
import json, os, select, sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
conn.execute("PRAGMA journal_mode = WAL")
conn.execute("PRAGMA synchronous = OFF")
conn.execute("PRAGMA wal_autocheckpoint = 0")
conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
conn.execute("INSERT INTO t (name) VALUES ('first')")
print(os.getpid(), flush=True)
sys.stdin.readline()
done, refused = 0, []
while not select.select([sys.stdin], [], [], 0 if done < 3000 else 0.002)[0]:
    try:
        conn.execute("INSERT INTO t (name) VALUES ('row')")
        done += 1
    except sqlite3.OperationalError as error:
        refused.append(error.sqlite_errorname)
print(json.dumps([done, refused[:9], conn.execute("PRAGMA integrity_check").fetchone()[0]]))
"""


class Locks:
    """Polls the kernel's table of locks: the processes that ever held one on these inodes."""

    def __init__(self, inodes: set[int]) -> None:
        self.inodes = inodes
        self.pids: set[int] = set()
        self.polls = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.wait(0.001):  # each reading keeps all locks of the machine waiting
            for line in Path("/proc/locks").read_text().splitlines():
                # "1: POSIX  ADVISORY  READ  4711 08:01:12345 124 124"; a waiting one has "->"
                words = line.replace("-> ", "").split()
                if int(words[5].rpartition(":")[2]) in self.inodes:
                    self.pids.add(int(words[4]))
            self.polls += 1


def played(path: Path, gone: tuple[str, ...], *, recovers: bool) -> list[Any]:
    """Let an application commit, with a recovery or without; return its word."""
    application = subprocess.Popen(
        [sys.executable, "-c", _APPLICATION, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert application.stdin is not None
    assert application.stdout is not None
    pid = int(application.stdout.readline())
    inodes = {os.stat(f"{path}{suffix}").st_ino for suffix in ("", "-wal", "-shm")}
    for suffix in gone:
        os.unlink(f"{path}{suffix}")
    with Locks(inodes) as locks:
        application.stdin.write("go\n")
        application.stdin.flush()
        arguments = ["recover", str(path), "--into", str(path.with_name("new.db"))]
        command = [sys.executable, "-m", "modelstore", *(arguments if recovers else ["--help"])]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as ours:
            assert ours.wait() == 0
        said, _ = application.communicate("stop\n")
    assert pid in locks.pids  # the poll sees locks
    assert ours.pid not in locks.pids
    found: list[Any] = json.loads(said)
    return found


@pytest.mark.parametrize("gone", [(), ("-wal", "-shm"), ("", "-wal", "-shm")])
def test_recover_holds_no_lock_and_no_commit_is_refused(
    tmp_path: Path, gone: tuple[str, ...]
) -> None:
    if not os.path.exists("/proc/locks"):
        pytest.skip("needs /proc")
    (tmp_path / "control").mkdir()
    _, refused, _ = played(tmp_path / "control" / "app.db", gone, recovers=False)
    assert not refused
    done, refused, sound = played(tmp_path / "app.db", gone, recovers=True)
    assert (refused, sound) == ([], "ok")
    assert done  # it went on while recover ran
    assert content(tmp_path / "new.db", "SELECT count(*) FROM t")[0][0] >= 1
