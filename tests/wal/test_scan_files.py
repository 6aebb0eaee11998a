"""Scans of files that are no log, that change while they are read, or that are huge."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import tracemalloc
from array import array
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import modelstore.wal.scan as scanning
from modelstore.errors import RefusedError
from modelstore.wal.files import read_into
from modelstore.wal.frames import (
    COMMIT,
    INTACT,
    StopReason,
    WalScan,
)
from modelstore.wal.scan import scan_wal
from tests.waiting import wait_until
from tests.wal.children import writing
from tests.wal.logfiles import (
    LogBuilder,
    Sample,
    page,
    simple_log,
    sqlite_log,
    take,
)
from tests.wal.scanning import (
    FRAME,
    P,
    agree_with_sqlite,
    flip,
    look,
    raw_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


# -- commits that look alike ---------------------------------------------------------------------


@pytest.mark.parametrize("commits", [1, 2, 3, 8])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_copies_that_fill_up_a_sector_are_no_commits(
    tmp_path: Path, page_size: int, commits: int
) -> None:
    """https://www.sqlite.org/psow.html"""
    path = f"file:{tmp_path / 'app.db'}?psow=0"
    with contextlib.closing(sqlite3.connect(path, uri=True, isolation_level=None)) as app:
        app.execute(f"PRAGMA page_size={page_size}")
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("PRAGMA synchronous=FULL")
        app.execute("CREATE TABLE t (a)")
        for number in range(commits - 1):
            app.execute("INSERT INTO t VALUES (?)", (number,))
        found = scan_wal(f"{tmp_path / 'app.db'}-wal")
        assert found.commit_count == commits
        assert found.max_frame == app.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]


def test_commits_that_write_the_same_page_again_count(tmp_path: Path) -> None:
    """An application that sets ``user_version`` at each start writes page 1 as it was."""
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("PRAGMA user_version=5")
        app.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for _ in range(3):
            app.execute("PRAGMA user_version=5")
        assert scan_wal(f"{path}-wal").commit_count == 3


# -- files of other kinds-------------------------------------------------------------------------


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RefusedError, match="not a file"):
        scan_wal(str(tmp_path / "fifo"))


def test_directory_link_socket_and_strange_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match="is a directory"):
        scan_wal(str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(RefusedError, match="symbolic link"):
        scan_wal(str(tmp_path / "link"))
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        server.bind("socket")
        with pytest.raises(RefusedError):
            scan_wal(str(tmp_path / "socket"))
    with pytest.raises(RefusedError) as caught:
        scan_wal(str(tmp_path / "a\x1b[31m\0b"))
    assert "\x1b" not in caught.value.message
    with pytest.raises(RefusedError):
        scan_wal(str(tmp_path / ("x" * 5000)))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for raw in (b"", b"x", raw_header(), bytes(simple_log(P, 2)), flip(simple_log(P, 2), 0)):
        look(tmp_path, raw)
    with pytest.raises(RefusedError):
        scan_wal(str(tmp_path))
    after = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert before == after


def test_a_descriptor_is_read_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(simple_log(P, 2))
    with open(path, "rb") as file:
        assert scan_wal(file.fileno()).max_frame == 4
        assert scan_wal(file.fileno()).max_frame == 4
    read, write = os.pipe()
    try:
        with pytest.raises(RefusedError, match="not a file"):
            scan_wal(read)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="this system cannot find holes")
def test_a_terabyte_of_nothing_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(simple_log(P, 2))
    os.truncate(path, 1 << 40)
    found = scan_wal(str(path))
    assert (found.max_frame, found.is_damaged, found.unexamined) == (4, False, 0)
    assert found.blank == found.frame_slots - 4
    assert found.frame_slots == ((1 << 40) - 32) // FRAME
    assert found.stop_reason is StopReason.SALT
    with open(path, "r+b") as file:
        file.seek(1 << 39)
        file.write(b"x" * 5000)
    found = scan_wal(str(path))
    assert (found.max_frame, found.is_damaged) == (4, False)
    assert found.unexamined > 0


def test_a_small_hole_is_kept_and_what_follows_is_seen(tmp_path: Path, engine: str) -> None:
    log = simple_log(P, 3)
    hole = bytearray(log)
    hole[32 + 2 * FRAME : 32 + 4 * FRAME] = bytes(2 * FRAME)
    found = look(tmp_path, hole)
    assert (found.max_frame, found.damaged, found.blank) == (2, 3, 0)
    assert (found.ignored_frames, found.later_commits, found.is_damaged) == (1, 1, True)


def test_a_hole_of_whole_chunks_is_kept(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_CHUNK_SIZE", FRAME)
    log = simple_log(P, 30)
    hole = bytearray(log)
    hole[32 + 2 * FRAME : 32 + 50 * FRAME] = bytes(48 * FRAME)
    found = look(tmp_path, hole)
    assert (found.max_frame, found.damaged, found.ignored_frames) == (2, 49, 9)
    assert len(found.page_numbers) == len(found.commit_sizes) == len(found.marks) == 60


# -- a log that changes under the reader -------------------------------------------------------


class Meddler:
    """Stands in for `read_into` and changes the file just before it is read."""

    def __init__(self, path: Path, *changes: bytes | None) -> None:
        self.path = path
        self.changes: Iterator[bytes | None] = iter(changes)

    def __call__(self, fd: int, view: memoryview, offset: int) -> int:
        change = next(self.changes, None)
        if change is not None:
            with open(self.path, "r+b") as file:
                file.write(change)
                file.truncate()
        return read_into(fd, view, offset)


def test_a_log_that_shrinks_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db-wal"
    path.write_bytes(simple_log(P, 9))
    monkeypatch.setattr(scanning, "read_into", Meddler(path, bytes(simple_log(P, 2))))
    found = scan_wal(str(path))
    assert (found.max_frame, found.frame_slots, found.changed_while_reading) == (4, 4, False)


def test_a_log_that_shrinks_behind_the_reader_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db-wal"
    path.write_bytes(simple_log(P, 9))

    def cut(fd: int, view: memoryview, offset: int) -> int:
        got = read_into(fd, view, offset)
        os.truncate(path, 32 + 4 * FRAME)
        return got

    monkeypatch.setattr(scanning, "read_into", cut)
    found = scan_wal(str(path))
    assert (found.max_frame, found.frame_slots, found.changed_while_reading) == (4, 4, False)


def test_a_log_that_never_stands_still_is_said_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db-wal"
    path.write_bytes(simple_log(P, 9))
    logs = [bytes(LogBuilder(P, salt=(salt, 1)).frame(2, page(P), 2).raw) * 2 for salt in range(20)]
    monkeypatch.setattr(scanning, "read_into", Meddler(path, *logs))
    assert scan_wal(str(path)).changed_while_reading


def test_damage_is_believed_only_when_it_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db-wal"
    good = bytes(simple_log(P, 9))
    path.write_bytes(flip(good, 32 + 100))
    monkeypatch.setattr(scanning, "read_into", Meddler(path, None, good))
    found = scan_wal(str(path))
    assert (found.max_frame, found.is_damaged, found.changed_while_reading) == (18, False, False)


def test_a_replaced_log_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db-wal"
    path.write_bytes(simple_log(P, 2))
    (tmp_path / "new").write_bytes(simple_log(P, 5))

    def replace(fd: int, view: memoryview, offset: int) -> int:
        if (tmp_path / "new").exists():
            (tmp_path / "new").rename(path)
        return read_into(fd, view, offset)

    monkeypatch.setattr(scanning, "read_into", replace)
    found = scan_wal(str(path))
    assert (found.max_frame, found.changed_while_reading) == (10, False)


def test_a_live_writer_never_looks_like_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    salts: set[tuple[int, int]] = set()
    commits: Counter[int] = Counter()

    def look() -> bool:
        found = scan_wal(f"{path}-wal")
        assert found.changed_while_reading or not found.is_damaged
        salts.update([found.header.salt] if found.header else [])
        commits[found.commit_count] += 1
        return commits.total() >= 60 and len(salts) > 1 and max(commits) > 1

    with writing(path) as process:
        wait_until(look, process)


def test_a_killed_writer_leaves_what_sqlite_recovers(tmp_path: Path) -> None:
    for attempt in range(12):
        path = tmp_path / f"{attempt}.db"
        with writing(path) as process:
            for _ in range(attempt):
                scan_wal(f"{path}-wal")
            process.kill()
            process.wait()
        database, log = take(path)
        sample = Sample("killed", 4096, database, log, {})
        agree_with_sqlite(tmp_path, sample, log)


# -- budgets -----------------------------------------------------------------------------------


CHILD = """
import sys
from modelstore.wal.scan import scan_wal
found = scan_wal(sys.argv[1])
peak = 0
if sys.platform == "linux":  # not ru_maxrss, which a child inherits from its parent
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print(found.max_frame, "numpy" in sys.modules, peak)
"""


def in_child(path: Path) -> tuple[int, bool, int]:
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    committed, numpy, peak = done.stdout.split()
    return int(committed), numpy == "True", int(peak)


def test_a_small_log_does_not_load_numpy(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(simple_log(4096, 5))
    assert in_child(path)[:2] == (10, False)


def test_a_large_log_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite_log(path, 4096)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(?))", [200_000_000])
        committed, numpy, peak = in_child(Path(f"{path}-wal"))
        assert (committed, numpy) == (Path(f"{path}-wal").stat().st_size // 4120, True)
    assert peak < 100_000  # KiB


def test_frames_are_made_one_at_a_time() -> None:
    count = 50_000
    found = WalScan(
        size=0,
        fault=None,
        page_size=512,
        frame_slots=count,
        valid=count,
        max_frame=count,
        damage_end=count,
        page_numbers=array("I", bytes(4 * count)),
        commit_sizes=array("I", [1]) * count,
        marks=bytes([INTACT | COMMIT]) * count,
    )
    tracemalloc.start()
    try:
        assert sum(1 for _ in found.frames()) == count
        assert sum(1 for _ in found.transactions()) == count
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
