from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelstore.wal import locks
from modelstore.wal.format import LOCK_NAMES
from modelstore.wal.index import WalIndex, read_index
from modelstore.wal.locks import (
    LockHolder,
    LockReport,
    attached_processes,
    blockers,
    read_lock_table,
    read_locks,
)
from modelstore.wal.processes import describe_process
from tests.waiting import wait_until
from tests.wal.children import ask, running, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux names lock holders")

INSERT = "INSERT INTO t VALUES (randomblob(3000))"
SNAPSHOT = ("BEGIN", "SELECT count(*) FROM t")

LOCKER = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
command, kind, start, length = (int(word) for word in sys.argv[2:6])
if command == fcntl.F_SETLKW:
    print("ready", flush=True)
fcntl.fcntl(fd, command, struct.pack("@hhqqi4x", kind, 0, start, length, 0))
print("ready", flush=True)
sys.stdin.read()
"""
OFD_SETLK = 37

REPORTER = """
import dataclasses, json, sys
from modelstore.wal.locks import read_locks
report = read_locks(int(sys.argv[1]))
print("ready", json.dumps(dataclasses.asdict(report)), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests themselves run in a container, which makes every report incomplete."""
    monkeypatch.setattr(locks, "sees_all_processes", lambda: True)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    ask(path, "CREATE TABLE t(x)")
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file on which no SQLite has locks: `LOCKER` stands in for it."""
    path = tmp_path / "plain"
    path.write_bytes(bytes(32768))
    return path


@contextlib.contextmanager
def opened(path: object) -> Iterator[int]:
    fd = os.open(str(path), os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def look(path: object) -> tuple[LockReport, WalIndex | None]:
    with opened(path) as fd:
        return read_locks(fd), read_index(fd)


def pids(report: LockReport, lock: str) -> set[int | None]:
    return {holder.pid for holder in report.of(lock)}


def test_several_readers_on_one_mark_are_all_shown(database: Path) -> None:
    with (
        sqlite(database, INSERT) as writer,
        sqlite(database, *SNAPSHOT) as one,
        sqlite(database, *SNAPSHOT) as two,
        sqlite(database, *SNAPSHOT) as three,
    ):
        report, index = look(f"{database}-shm")
        readers = {one.pid, two.pid, three.pid}
        assert report.complete
        assert report.note is None
        assert pids(report, "READ1") == readers
        assert {holder.pid for holder in report.attached} == {writer.pid, *readers}
        with opened(f"{database}-shm") as fd:
            assert attached_processes(fd) == report.attached
        assert not any(holder.exclusive or holder.waiting for holder in report.holders)
        assert index is not None
        found = blockers(index, report)
        assert {(b.pid, b.mark, b.frame, b.blocks) for b in found} == {
            (pid, 1, index.max_frame, ("reset", "truncate")) for pid in readers
        }


def test_a_pinned_frame_is_where_the_checkpoint_stops(database: Path) -> None:
    with sqlite(database, INSERT), sqlite(database, *SNAPSHOT) as reader:
        pinned = look(f"{database}-shm")[1]
        with sqlite(database, INSERT, INSERT):
            report, index = look(f"{database}-shm")
            assert pinned is not None
            assert index is not None
            (blocker,) = blockers(index, report)
            assert blocker.pid == reader.pid
            assert blocker.frame == pinned.max_frame < index.max_frame
            assert blocker.blocks == ("backfill", "reset", "truncate")
            assert "SELECT count(*)" in blocker.command
            answer = ask(database, "PRAGMA wal_checkpoint(PASSIVE)")
            assert answer == f"[(0, {index.max_frame}, {blocker.frame})]"
            answer = ask(database, "PRAGMA wal_checkpoint(TRUNCATE)")
            assert answer == f"[(1, {index.max_frame}, {blocker.frame})]"


def test_a_writer_blocks_writers(database: Path) -> None:
    with sqlite(database, "BEGIN IMMEDIATE", INSERT) as writer:
        report, index = look(f"{database}-shm")
        (held,) = report.of("WRITE")
        assert (held.pid, held.exclusive, held.kind) == (writer.pid, True, "POSIX")
        blocked = {b.lock: b.blocks for b in blockers(index, report)}
        assert blocked["WRITE"] == ("writers", "reset", "truncate")


def test_a_reader_of_the_database_alone_stops_all_backfill(database: Path) -> None:
    with (
        sqlite(database, INSERT, "PRAGMA wal_checkpoint(TRUNCATE)"),
        sqlite(database, *SNAPSHOT) as reader,
    ):
        report, index = look(f"{database}-shm")
        assert pids(report, "READ0") == {reader.pid}
        assert blockers(index, report) == ()  # nothing is pending: it stops nobody
        (unknown,) = blockers(None, report)
        assert unknown.blocks == ("backfill", "reset", "truncate")
        with sqlite(database, INSERT):
            report, index = look(f"{database}-shm")
            (blocker,) = blockers(index, report)
            assert (blocker.pid, blocker.mark, blocker.frame) == (reader.pid, 0, 0)
            assert blocker.blocks == ("backfill", "reset", "truncate")
            assert index is not None
            answer = ask(database, "PRAGMA wal_checkpoint(PASSIVE)")
            assert answer == f"[(0, {index.max_frame}, 0)]"


def test_what_is_known_of_a_process(database: Path) -> None:
    before = time.time()
    with sqlite(database, *SNAPSHOT) as reader:
        holder = next(h for h in look(f"{database}-shm")[0].holders if h.pid == reader.pid)
        theirs = psutil.Process(reader.pid)
        assert holder.since == pytest.approx(theirs.create_time(), abs=1)
        assert before - 2 <= (holder.since or 0) <= time.time() + 2
        assert holder.user == theirs.uids().real
        assert holder.command == " ".join(theirs.cmdline())
        assert not holder.is_own


def test_a_hostile_command_line_is_bounded_and_raw(plain: Path) -> None:
    import fcntl

    evil = "\x1b[31mred\udcff" + "x" * 100_000
    with running(LOCKER, str(plain), str(fcntl.F_SETLK), "1", "120", "1", evil) as child:
        (held,) = look(plain)[0].of("WRITE")
        assert held.pid == child.pid
        assert len(held.command) == 4096


def test_a_process_without_a_command_line_or_none_at_all() -> None:
    kernel = [p for p in psutil.process_iter() if p.ppid() == 2]
    if kernel:  # a container shows none
        assert describe_process(kernel[0].pid).command == f"[{kernel[0].name()}]"
    gone = describe_process(2**22 + 1)  # beyond the largest pid that Linux gives
    assert (gone.command, gone.since, gone.user) == ("process that has ended", None, None)


def test_own_locks_are_seen_and_left_out_of_blockers(database: Path) -> None:
    code = """
import json, os, sqlite3, sys
from modelstore.wal.index import read_index
from modelstore.wal.locks import blockers, read_locks
fd = os.open(sys.argv[1] + "-shm", os.O_RDWR | os.O_CREAT)
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE")
report, index = read_locks(fd), read_index(fd)
own = [h.lock for h in report.holders if h.is_own]
print("ready", json.dumps([own, [b.lock for b in blockers(index, report)],
    [b.lock for b in blockers(index, report, include_own=True)]]), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(database)], capture_output=True, text=True, check=True
    )
    own, others, everyone = json.loads(done.stdout.removeprefix("ready "))
    assert {"WRITE", "DMS"} <= set(own)
    assert others == []
    assert "WRITE" in everyone


# -- locks that no POSIX process holds ---------------------------------------------------------


def test_a_lock_of_a_file_description_is_traced_to_its_process(plain: Path) -> None:
    with running(LOCKER, str(plain), str(OFD_SETLK), "1", "120", "2") as child:
        report = look(plain)[0]
        assert {(h.lock, h.pid, h.exclusive, h.kind) for h in report.holders} == {
            ("WRITE", child.pid, True, "OFDLCK"),
            ("CHECKPOINT", child.pid, True, "OFDLCK"),
        }
        assert report.complete


def test_who_waits_is_told_from_who_holds(plain: Path) -> None:
    import fcntl

    with (
        running(LOCKER, str(plain), str(fcntl.F_SETLK), "1", "120", "1") as holding,
        running(LOCKER, str(plain), str(fcntl.F_SETLKW), "1", "120", "1") as waiting,
    ):
        wait_until(lambda: len(look(plain)[0].holders) == 2, holding, waiting)
        report = look(plain)[0]
        assert {(h.pid, h.waiting) for h in report.holders} == {
            (holding.pid, False),
            (waiting.pid, True),
        }
        assert pids(report, "WRITE") == {holding.pid}
        assert [b.pid for b in blockers(None, report)] == [holding.pid]


def test_a_lock_to_the_end_of_the_file_covers_every_byte(plain: Path) -> None:
    import fcntl

    with running(LOCKER, str(plain), str(fcntl.F_SETLK), "0", "121", "0"):
        report = look(plain)[0]
        assert [h.lock for h in report.holders] == list(LOCK_NAMES[1:])
        assert not any(h.exclusive for h in report.holders)


def test_locks_of_another_file_are_not_ours(plain: Path, tmp_path: Path) -> None:
    import fcntl

    other = tmp_path / "other"
    other.write_bytes(b"x")
    with running(LOCKER, str(other), str(fcntl.F_SETLK), "1", "120", "9"):
        assert look(plain)[0] == LockReport((), complete=True)


def as_root(reason: str) -> None:
    if os.geteuid() != 0:
        pytest.skip(f"{reason} takes root")


def test_the_owner_hidden_from_this_user_is_unknown_not_left_out(plain: Path) -> None:
    as_root("becoming another user")
    import pwd

    nobody = pwd.getpwnam("nobody").pw_uid
    # The modules first: this user may not be able to read them.
    dropping = REPORTER.replace("report =", f"import fcntl, os; os.setuid({nobody})\nreport =")
    with (
        running(LOCKER, str(plain), str(OFD_SETLK), "1", "120", "1"),
        opened(plain) as fd,
        running(dropping, str(fd), fds=[fd], wait=False) as child,
    ):
        assert child.stdout is not None
        report = json.loads(child.stdout.readline().removeprefix("ready "))
        (held,) = report["holders"]
        assert (held["pid"], held["lock"]) == (None, "WRITE")
        assert "unknown" in held["command"]
        assert not report["complete"]
        assert report["note"]


def unshare() -> list[str]:
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("there is no unshare")
    prefix = [program, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no new PID namespace may be made here")
    return prefix


def test_a_process_outside_this_container_is_unknown_not_left_out(plain: Path) -> None:
    import fcntl

    prefix = unshare()
    with (
        running(LOCKER, str(plain), str(fcntl.F_SETLK), "1", "120", "1"),
        opened(plain) as fd,
        running(REPORTER, str(fd), prefix=prefix, fds=[fd], wait=False) as child,
    ):
        assert child.stdout is not None
        report = json.loads(child.stdout.readline().removeprefix("ready "))
        assert [(held["lock"], held["pid"]) for held in report["holders"]] == [("WRITE", None)]
        assert not report["complete"]
        assert "container" in report["note"]


def test_a_process_in_a_container_is_seen_from_outside(plain: Path) -> None:
    import fcntl

    arguments = [str(plain), str(fcntl.F_SETLK), "1", "120", "1"]
    with running(LOCKER, *arguments, prefix=unshare()) as child:
        (held,) = look(plain)[0].of("WRITE")
        assert held.pid in {p.pid for p in psutil.Process(child.pid).children(recursive=True)}
        assert str(plain) in held.command
        child.kill()
        for descendant in psutil.Process(child.pid).children(recursive=True):
            descendant.kill()


def test_below_an_overlay_the_lock_is_found(tmp_path: Path) -> None:
    import fcntl

    as_root("mounting")
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "plain").write_bytes(bytes(32768))
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(tmp_path / "merged")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no overlay may be mounted here")
    try:
        path = tmp_path / "merged" / "plain"
        with running(LOCKER, str(path), str(fcntl.F_SETLK), "1", "120", "1") as child:
            assert pids(look(path)[0], "WRITE") == {child.pid}
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "merged")], check=True)


# -- where less can be known -------------------------------------------------------------------


def test_an_inode_of_another_device_counts_only_if_the_kernel_confirms(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    with running(LOCKER, str(plain), str(fcntl.F_SETLK), "1", "120", "1") as child:
        with opened(plain) as fd:
            table = read_lock_table(fd)
        assert table is not None
        (entry,) = [lock for lock in table if lock.pid == child.pid]  # inodes of other devices too
        assert entry.on_device
        elsewhere = f"1: POSIX  ADVISORY  WRITE 77 7f:7f:{plain.stat().st_ino} 120 120\n"
        (tmp_path / "locks").write_text(elsewhere)
        read = read_lock_table
        monkeypatch.setattr(locks, "read_lock_table", lambda fd: read(fd, str(tmp_path / "locks")))
        assert pids(look(plain)[0], "WRITE") == {77, child.pid}
    assert look(plain)[0].holders == ()


def test_without_the_table_one_holder_is_still_found(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(locks, "read_lock_table", lambda _: None)
    with running(LOCKER, str(plain), str(fcntl.F_SETLK), "1", "120", "1") as child:
        report = look(plain)[0]
        assert pids(report, "WRITE") == {child.pid}
        assert not report.complete
        assert "/proc/locks" in (report.note or "")


def test_without_the_table_our_own_lock_is_still_found(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(locks, "read_lock_table", lambda _: None)
    with open(plain, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 120)
        (held,) = read_locks(file.fileno()).of("WRITE")
    assert (held.pid, held.is_own) == (os.getpid(), True)


def test_an_unreadable_table_is_none(plain: Path) -> None:
    with opened(plain) as fd:
        assert read_lock_table(fd, "/nonexistent") is None


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_say_that_they_do_not_know(
    database: Path, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite(database, *SNAPSHOT):
        monkeypatch.setattr(sys, "platform", platform)
        report, _ = look(f"{database}-shm")
        assert (report.holders, report.complete) == ((), False)
        assert "does not tell" in (report.note or "")


def test_recovery_and_checkpoint_block(plain: Path) -> None:
    report = LockReport(
        (
            LockHolder("CHECKPOINT", 1, "a", exclusive=True),
            LockHolder("RECOVER", 2, "b", exclusive=True),
            LockHolder("READ2", 3, "c", exclusive=True),
            LockHolder("DMS", 4, "d", exclusive=False),
            LockHolder("WRITE", None, "unknown", exclusive=True),
        ),
        complete=False,
    )
    assert [(b.lock, b.pid, b.blocks) for b in blockers(None, report)] == [
        ("CHECKPOINT", 1, ("checkpoint",)),
        ("RECOVER", 2, ("writers", "checkpoint")),
        ("WRITE", None, ("writers", "reset", "truncate")),
    ]
    assert json.dumps([asdict(blocker) for blocker in blockers(None, report)])
