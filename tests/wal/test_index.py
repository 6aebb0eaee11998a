from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelstore.wal import index as index_module
from modelstore.wal.index import ReadMark, WalIndex, read_index
from modelstore.wal.scan import scan_wal
from tests.wal.children import sqlite, writing
from tests.wal.logfiles import PAGE_SIZES, simple_log, sqlite_log

if TYPE_CHECKING:
    from collections.abc import Iterator


def index_of(path: Path) -> WalIndex | None:
    with open(f"{path}-shm", "rb") as file:
        return read_index(file.fileno())


@pytest.fixture
def raw(tmp_path: Path) -> bytes:
    """A wal-index of SQLite's: 3 frames, none of them folded."""
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite_log(path, 4096)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES (1)")
        return Path(f"{path}-shm").read_bytes()


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_index_is_that_of_the_log(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite_log(path, page_size)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        index, log = index_of(path), scan_wal(f"{path}-wal")
        assert index is not None
        assert log.header is not None
        assert (index.is_settled, index.is_init, index.version) == (True, True, 3007000)
        assert index.page_size == page_size
        assert (index.max_frame, index.page_count) == (log.max_frame, log.page_count)
        assert (index.salt, index.big_endian) == (log.header.salt, log.header.big_endian)
        last = log.offset(log.max_frame) - 8
        stored = Path(f"{path}-wal").read_bytes()[last : last + 8]
        assert index.frame_checksum == struct.unpack(">2I", stored)
        assert (index.backfill, index.pending) == (0, log.max_frame)
        before = index.change_counter
        connection.execute("INSERT INTO t VALUES (1)")
        changed = index_of(path)
        assert changed is not None
        assert changed.change_counter == before + 1


def test_backfill_and_marks_of_a_pinned_log(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path)) as first:
        first.execute("PRAGMA journal_mode=WAL")
    insert = "INSERT INTO t VALUES (randomblob(3000))"
    with (
        sqlite(path, "CREATE TABLE t(x)", insert) as _,
        sqlite(path, "BEGIN", "SELECT * FROM t") as _,
    ):
        pinned = scan_wal(f"{path}-wal").max_frame
        with sqlite(path, insert, insert, "PRAGMA wal_checkpoint(PASSIVE)"):
            index = index_of(path)
            assert index is not None
            assert index.max_frame == scan_wal(f"{path}-wal").max_frame > pinned
            assert (index.backfill, index.backfill_attempted) == (pinned, pinned)
            assert index.pending == index.max_frame - pinned
            assert index.read_marks[0] == ReadMark(0, 0)
            assert pinned in {mark.frame for mark in index.read_marks}
            assert ReadMark(4, None) in index.read_marks


@pytest.mark.parametrize("content", [b"", b"\0\0\0", bytes(136), bytes(32768), b"x" * 135])
def test_no_index_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db-shm").write_bytes(content)
    assert index_of(tmp_path / "a.db") is None


def test_parse_wants_it_all(raw: bytes) -> None:
    assert WalIndex.parse(raw[:136]).is_settled
    with pytest.raises(ValueError, match="136"):
        WalIndex.parse(raw[:135])


@pytest.mark.parametrize("at", range(96))
def test_any_changed_byte_of_the_copies_unsettles(raw: bytes, at: int) -> None:
    changed = bytearray(raw[:136])
    changed[at] ^= 1
    assert not WalIndex.parse(bytes(changed)).is_settled


def test_both_copies_changed_alike_unsettle_by_their_checksum(raw: bytes) -> None:
    changed = bytearray(raw[:136])
    changed[16] ^= 1
    changed[64] ^= 1
    assert not WalIndex.parse(bytes(changed)).is_settled


def test_an_index_under_change_is_read_again(
    tmp_path: Path, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = bytearray(raw)
    torn[0:48] = bytes(48)
    answers: Iterator[bytes] = iter([bytes(torn), bytes(torn), raw])
    monkeypatch.setattr(index_module, "read_at", lambda *_: next(answers)[:136])
    index = read_index(0)
    assert index is not None
    assert index.is_settled
    assert index.max_frame == 3


def test_an_index_that_never_settles_says_so(tmp_path: Path, raw: bytes) -> None:
    torn = bytearray(raw)
    torn[16] ^= 1
    (tmp_path / "a.db-shm").write_bytes(torn)
    index = index_of(tmp_path / "a.db")
    assert index is not None
    assert not index.is_settled


def test_garbage_is_no_settled_index(tmp_path: Path) -> None:
    (tmp_path / "a.db-shm").write_bytes(os.urandom(32768))
    index = index_of(tmp_path / "a.db")
    assert index is not None
    assert not index.is_settled


# -- damage as the attached processes see it ------------------------------------------


def test_frames_beyond_max_frame_are_no_damage_to_attached_processes(
    tmp_path: Path, raw: bytes
) -> None:
    log = simple_log(4096, 9)
    log[32 + 4 * 4120 + 100] ^= 1
    (tmp_path / "a").write_bytes(log)
    found = scan_wal(str(tmp_path / "a"))
    assert found.header is not None
    index = WalIndex.parse(raw)._replace(salt=found.header.salt, max_frame=4)
    assert (found.valid, found.is_damaged) == (4, True)
    assert found.is_damaged_for(None)
    assert not found.is_damaged_for(index)  # the rest was never committed
    assert found.is_damaged_for(index._replace(max_frame=5))
    assert found.is_damaged_for(index._replace(max_frame=18))
    assert found.is_damaged_for(index._replace(is_settled=False))
    # The log is about to start anew: its frames count for nobody.
    assert not found.is_damaged_for(index._replace(salt=(1, 2), max_frame=0))
    assert found.is_damaged_for(index._replace(salt=(1, 2), max_frame=5))


def test_frames_that_attached_processes_committed_and_the_log_lacks_are_damage(
    tmp_path: Path, raw: bytes
) -> None:
    log = simple_log(4096, 2)
    (tmp_path / "a").write_bytes(log[:-1])  # cut, or torn: without the index no damage
    found = scan_wal(str(tmp_path / "a"))
    assert found.header is not None
    index = WalIndex.parse(raw)._replace(salt=found.header.salt, max_frame=4)
    assert not found.is_damaged
    assert found.is_damaged_for(index)
    assert not found.is_damaged_for(index._replace(max_frame=2))


def test_a_live_log_is_never_damaged_for_its_processes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with writing(path), open(f"{path}-shm", "rb") as file:
        for _ in range(100):
            index = read_index(file.fileno())
            found = scan_wal(f"{path}-wal")
            assert index is not None
            assert found.changed_while_reading or not found.is_damaged_for(index)


@pytest.mark.parametrize("rows", [1, 4061, 4062, 4063, 9000])
def test_the_pages_that_a_checkpoint_copies_are_counted_over_all_blocks(
    tmp_path: Path, rows: int
) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite_log(path, 512)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("BEGIN")
        for n in range(rows):  # a page each, and the frame of a change to it now and then
            connection.execute("INSERT INTO t VALUES (zeroblob(400))")
            if n % 50 == 0:
                connection.execute("COMMIT")
                connection.execute("BEGIN")
        connection.execute("COMMIT")
        scan = scan_wal(f"{path}-wal")
        copy = tmp_path / "copied"  # closing the -shm itself would drop the connection's locks
        copy.write_bytes(Path(f"{path}-shm").read_bytes())
    with open(copy, "rb") as file:
        index = read_index(file.fileno())
        assert index is not None
        assert index.max_frame == scan.max_frame >= rows
        for backfill in (0, 1, 4062, scan.max_frame):
            part = index._replace(backfill=min(backfill, scan.max_frame))
            wanted = len(set(scan.page_numbers[part.backfill : scan.max_frame]))
            assert index_module.pages_to_copy(file.fileno(), part) == wanted
