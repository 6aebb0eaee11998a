from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tracemalloc
from array import array
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import modelstore.wal.scan as scanning
from modelstore.errors import RefusedError
from modelstore.wal import vector
from modelstore.wal.files import read_into
from modelstore.wal.frames import COMMIT, INTACT, Geometry, check_frames
from modelstore.wal.scan import (
    FrameState,
    StopReason,
    WalFault,
    WalHeader,
    WalHeaderError,
    WalScan,
    scan_wal,
)
from tests.waiting import wait_until
from tests.wal.children import writing
from tests.wal.logfiles import (
    MAGIC,
    PAGE_SIZES,
    SALT,
    LogBuilder,
    Sample,
    make_sample,
    page,
    rechain,
    recover,
    simple_log,
    sqlite_log,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("plain", "stale", "open")
P = 512
FRAME = 24 + P


class Samples:
    """SQLite's own logs by kind and page size; no dict, whose bytes a failure would print."""

    def __init__(self, directory: Path) -> None:
        self._made = {
            (kind, size): make_sample(directory, size, kind)
            for kind in KINDS
            for size in PAGE_SIZES
        }

    def __getitem__(self, key: tuple[str, int]) -> Sample:
        return self._made[key]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return Samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(params=["plain", "numpy", "numpy, reading ahead"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose(str(request.param), monkeypatch)
    return str(request.param)


def choose(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_PLAIN_LIMIT", 1 << 40 if engine == "plain" else 0)
    monkeypatch.setattr(scanning, "_LARGE", 0 if engine == "numpy, reading ahead" else 1 << 40)


def look(tmp_path: Path, raw: bytes | bytearray) -> WalScan:
    path = tmp_path / "a.db-wal"
    path.write_bytes(raw)
    return scan_wal(str(path))


def flip(raw: bytes | bytearray, at: int, bits: int = 4) -> bytearray:
    out = bytearray(raw)
    out[at] ^= bits
    return out


# -- against SQLite's own recovery -------------------------------------------------------------


def agree_with_sqlite(
    tmp_path: Path, sample: Sample, log: bytes | bytearray, *, is_forged: bool = False
) -> WalScan:
    """Return the scan of `log`, having compared it with what SQLite recovers from it.

    In a forged log lies have right checksums, so that its commits may not be those of `sample`.
    """
    found = look(tmp_path, log)
    recovered = recover(tmp_path / "recovered", sample.database, bytes(log))
    if found.fault is WalFault.NEWER_VERSION:
        assert recovered.max_frame is None
        return found
    assert found.max_frame == recovered.max_frame
    if found.max_frame:
        assert found.page_count == recovered.page_count
    assert not found.changed_while_reading
    states = [frame.state for frame in found.frames()]
    assert states.count(FrameState.COMMITTED) == found.max_frame
    assert states.count(FrameState.UNCOMMITTED) == found.uncommitted
    assert states.count(FrameState.IGNORED) == found.ignored_frames
    assert states.count(FrameState.DAMAGED) == found.damaged
    assert states.count(FrameState.TORN) == found.torn
    assert states.count(FrameState.STALE) == found.stale
    if not found.is_damaged:
        assert (found.damaged, found.ignored_frames, found.ignored_commits) == (0, 0, 0)
    assert len(states) == found.frame_slots - found.blank + states.count(FrameState.BLANK)
    commits = [t for t in found.transactions() if t.state is FrameState.COMMITTED]
    assert len(commits) == found.commit_count
    assert sum(t.frames for t in commits) == found.max_frame
    if recovered.rows is not None and not is_forged:
        assert recovered.rows == sample.rows.get(found.commit_count, recovered.rows)
        on_disk = len(sample.database) // sample.page_size
        assert recovered.counted == (found.page_count if found.max_frame else on_disk)
    return found


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_page_size_and_byte_order(
    samples: Samples,
    tmp_path: Path,
    engine: str,
    kind: str,
    page_size: int,
    big_endian: bool,
) -> None:
    sample = samples[kind, page_size]
    log = rechain(sample.log, big_endian=True) if big_endian else sample.log
    if kind == "open" and big_endian:
        log = sample.log  # its tail is not of one chain, so that rechaining would make it one
    found = agree_with_sqlite(tmp_path, sample, log)
    assert found.fault is None
    assert not found.is_damaged
    assert found.page_size == page_size
    assert found.commit_count == max(sample.rows)
    assert found.frame_slots == (len(log) - 32) // (page_size + 24)
    assert (found.stale > 0) == (kind == "stale")
    if kind == "open":
        assert found.uncommitted + found.torn > 0
    else:
        assert (found.uncommitted, found.torn) == (0, 0)
        assert found.stop_reason is (StopReason.SALT if kind == "stale" else StopReason.EOF)
    assert found.latest() == {
        number: max(f.number for f in found.frames(1, found.max_frame) if f.page_number == number)
        for number in set(found.page_numbers[: found.max_frame])
    }


MUTATION = st.tuples(
    st.sampled_from(["flip", "cut", "zero", "field", "header"]), st.integers(0, 2**32 - 1)
)


def mutate(raw: bytes | bytearray, mutations: list[tuple[str, int]], page_size: int) -> bytearray:
    """Return `raw` with bits flipped, cut off, zeroed, or fields replaced by lies."""
    out = bytearray(raw)
    for kind, seed in mutations:
        if not out:
            break
        at = seed % len(out)
        frames = max(1, (len(out) - 32) // (page_size + 24))
        start = 32 + at % frames * (page_size + 24)
        if kind == "flip":
            out[at] ^= 1 << seed % 8
        elif kind == "cut":
            del out[at:]
        elif kind == "zero":
            length = min(len(out) - at, seed // 7 % 5000)
            out[at : at + length] = bytes(length)
        elif kind == "field" and start + 24 <= len(out):
            struct.pack_into(">I", out, start + 4 * (seed % 6), (0, 1, 2, seed)[seed // 6 % 4])
        elif kind == "header" and len(out) >= 32:
            lies = (0, 1, 512, 1024, 65536, 2**31, 3007001, seed)
            struct.pack_into(">I", out, 4 * (seed % 8), lies[seed // 8 % 8])
    return out


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(KINDS),
    page_size=st.sampled_from(PAGE_SIZES[:5]),
    big_endian=st.booleans(),
    mutations=st.lists(MUTATION, min_size=1, max_size=3),
    repair=st.booleans(),
    plain=st.booleans(),
)
def test_mutated_logs_are_read_as_sqlite_recovers_them(
    samples: Samples,
    tmp_path: Path,
    kind: str,
    page_size: int,
    big_endian: bool,
    mutations: list[tuple[str, int]],
    repair: bool,
    plain: bool,
) -> None:
    sample = samples[kind, page_size]
    log = rechain(sample.log, big_endian=True) if big_endian else sample.log
    mutated = mutate(log, mutations, page_size)
    if repair and len(mutated) >= 32 and mutated[8:12] == log[8:12]:
        mutated = rechain(mutated)  # the lie is now covered by right checksums
    with pytest.MonkeyPatch.context() as patch:
        choose("plain" if plain else "numpy, reading ahead", patch)
        agree_with_sqlite(tmp_path, sample, mutated, is_forged=repair)


@pytest.mark.parametrize("page_size", [512, 4096])
def test_truncated_at_any_byte(samples: Samples, tmp_path: Path, page_size: int) -> None:
    sample = samples["plain", page_size]
    frame = page_size + 24
    ends = {0, 1, 31, 32, 33, *range(40, len(sample.log), len(sample.log) // 60)}
    ends |= {
        32 + n * frame + d for n in range(1, (len(sample.log) - 32) // frame) for d in (-1, 0, 23)
    }
    whole = look(tmp_path, sample.log)
    for end in sorted(ends):
        found = agree_with_sqlite(tmp_path, sample, sample.log[:end])
        assert found.size == end
        assert not found.is_damaged
        if end > 32:
            assert (found.frame_slots, found.tail_bytes) == divmod(end - 32, frame)
            assert found.valid == found.frame_slots
            assert found.marks == whole.marks[: found.valid]
        elif end < 32:
            assert found.fault is (WalFault.SHORT if end else WalFault.EMPTY)


def test_flipping_any_bit_of_the_header_hides_everything(
    samples: Samples, tmp_path: Path, engine: str
) -> None:
    sample = samples["plain", 512]
    whole = look(tmp_path, sample.log)
    for bit in range(32 * 8):
        log = flip(sample.log, bit // 8, 1 << bit % 8)
        found = agree_with_sqlite(tmp_path, sample, log) if bit % 8 == 0 else look(tmp_path, log)
        assert found.fault is not None
        assert found.fault.is_damage
        assert found.is_damaged
        assert found.page_size == 512
        assert found.ignored_commits == whole.commit_count
        assert found.ignored_frames == whole.valid
        assert (found.valid, found.max_frame, found.commit_count) == (0, 0, 0)
        assert {frame.state for frame in found.frames()} == {FrameState.IGNORED}


def test_flipping_a_bit_anywhere_in_a_frame_hides_what_follows(
    samples: Samples, tmp_path: Path, engine: str
) -> None:
    sample = samples["plain", 512]
    whole = look(tmp_path, sample.log)
    for at in [*range(24), 24, 300, 535]:
        found = agree_with_sqlite(tmp_path, sample, flip(sample.log, 32 + 3 * FRAME + at))
        assert found.valid == 3
        assert found.is_damaged
        assert found.state(4) is FrameState.DAMAGED
        in_checksum = 16 <= at < 24  # then the frame behind it does not follow either
        assert found.damaged == (2 if in_checksum else 1)
        assert found.ignored_frames == whole.valid - 3 - found.damaged
        assert found.later_commits == sum(t.last > 4 for t in whole.transactions())
        salt = 8 <= at < 16
        assert found.stop_reason is (StopReason.SALT if salt else StopReason.CHECKSUM)


# -- what is damage and what is not ------------------------------------------------------------


def test_thirty_commits_with_frame_six_flipped(tmp_path: Path, engine: str) -> None:
    log = LogBuilder(P)
    for commit in range(1, 31):
        log.frame(2, page(P, commit), 2)
    found = look(tmp_path, flip(log.raw, 32 + 5 * FRAME + 100))
    assert (found.valid, found.max_frame, found.damaged) == (5, 5, 1)
    assert (found.ignored_frames, found.ignored_commits, found.later_commits) == (24, 24, 24)
    assert found.is_damaged


@pytest.mark.parametrize("garbage", [b"", bytes(FRAME), b"\xa5" * FRAME, b"\xa5" * (FRAME // 2)])
def test_an_invalid_tail_without_commits_is_no_damage(
    tmp_path: Path, engine: str, garbage: bytes
) -> None:
    found = look(tmp_path, simple_log(P, 3) + garbage)
    assert (found.max_frame, found.commit_count, found.is_damaged) == (6, 3, False)
    whole = len(garbage) == FRAME
    zeros = not any(garbage)
    assert found.blank == (1 if whole and zeros else 0)
    assert found.stale == (1 if whole and not zeros else 0)
    assert found.tail_bytes == len(garbage) % FRAME
    assert found.stop_reason is (StopReason.SALT if whole else StopReason.EOF)


def test_the_last_commit_torn_is_no_damage(tmp_path: Path, engine: str) -> None:
    raw = simple_log(P, 3)
    found = look(tmp_path, flip(raw, len(raw) - 1))
    assert (found.valid, found.max_frame, found.uncommitted, found.torn) == (5, 4, 1, 1)
    assert len(list(found.transactions())) == 2
    assert not found.is_damaged


def test_a_commit_after_an_invalid_frame_is_damage_even_in_one_transaction(
    tmp_path: Path, engine: str
) -> None:
    raw = simple_log(P, 3)
    found = look(tmp_path, flip(raw, len(raw) - FRAME - 1))
    assert (found.max_frame, found.later_commits, found.is_damaged) == (4, 1, True)


def test_a_hidden_commit_counts_even_if_its_own_checksum_is_lost(
    tmp_path: Path, engine: str
) -> None:
    raw = simple_log(P, 2)
    found = look(tmp_path, flip(raw, 32 + 2 * FRAME + 20))  # frame 3's stored checksum
    assert (found.ignored_commits, found.later_commits, found.is_damaged) == (0, 1, True)


def test_frames_whose_checksum_is_still_to_come_are_torn_not_stale(
    tmp_path: Path, engine: str
) -> None:
    log = LogBuilder(P).frame(2, page(P), 2)
    for commit in (0, 3):  # as SQLite writes them after it changed a frame of the transaction
        log.raw += struct.pack(">6I", 3, commit, 0, 0, 0, 0) + page(P)
    found = look(tmp_path, log.raw)
    assert (found.max_frame, found.torn, found.stale, found.is_damaged) == (1, 2, 0, False)


def test_what_a_rolled_back_transaction_leaves_is_no_damage(tmp_path: Path, engine: str) -> None:
    log = LogBuilder(P).frame(2, page(P, 1), 3)
    state = log.state
    log.frame(2, page(P, 2)).frame(3, page(P, 3)).frame(4, page(P, 4))
    short = LogBuilder(P)
    short.state, short.raw = state, bytearray(log.raw[: 32 + FRAME])
    short.frame(3, page(P, 5), 3)
    found = look(tmp_path, short.raw + log.raw[len(short.raw) :])
    assert (found.max_frame, found.torn, found.ignored_frames) == (2, 2, 0)
    assert (found.later_commits, found.is_damaged) == (0, False)


def test_page_zero_ends_the_log(tmp_path: Path, engine: str) -> None:
    log = LogBuilder(P).frame(2, page(P), 2).frame(0, page(P), 2).frame(2, page(P), 2)
    found = look(tmp_path, log.raw)
    assert (found.valid, found.stop_reason) == (1, StopReason.PAGE_ZERO)
    assert (found.damaged, found.ignored_commits, found.is_damaged) == (1, 1, True)


def test_a_frame_with_other_salts_between_ours_is_damage_not_stale(
    tmp_path: Path, engine: str
) -> None:
    log = LogBuilder(P).frame(2, page(P), 2).frame(2, page(P), 2, salt=(1, 2))
    log.frame(2, page(P), 2).frame(2, page(P), 2, salt=(1, 2))
    found = look(tmp_path, log.raw)
    assert [frame.state for frame in found.frames()] == [
        FrameState.COMMITTED,
        FrameState.DAMAGED,
        FrameState.IGNORED,
        FrameState.STALE,
    ]
    assert (found.damaged, found.stale, found.is_damaged) == (1, 1, True)


def test_transactions_and_frames(tmp_path: Path, engine: str) -> None:
    log = LogBuilder(P).frame(1, page(P), 1).frame(2, page(P)).frame(9, page(P), 9)
    log.frame(2, page(P))
    found = look(tmp_path, log.raw)
    assert [(t.number, t.first, t.last, t.page_count, t.frames) for t in found.transactions()] == [
        (1, 1, 1, 1, 1),
        (2, 2, 3, 9, 2),
    ]
    assert [(f.number, f.page_number, f.page_count, f.is_commit) for f in found.frames()] == [
        (1, 1, 1, True),
        (2, 2, 0, False),
        (3, 9, 9, True),
        (4, 2, 0, False),
    ]
    assert [f.number for f in found.frames(2, 3)] == [2, 3]
    assert (found.max_frame, found.page_count, found.uncommitted) == (3, 9, 1)
    assert found.latest() == {1: 1, 2: 2, 9: 3}
    assert found.latest(1) == {1: 1}
    for frame in found.frames():
        assert log.raw[frame.offset : frame.offset + P] == page(P)


# -- the header --------------------------------------------------------------------------------


def raw_header(*, page_size: int = 4096, version: int = 3007000, big_endian: bool = False) -> bytes:
    return bytes(LogBuilder(page_size, version=version, big_endian=big_endian, sequence=7).raw)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_header_fields(page_size: int, big_endian: bool) -> None:
    header = WalHeader.parse(raw_header(page_size=page_size, big_endian=big_endian))
    assert (header.page_size, header.sequence, header.salt) == (page_size, 7, SALT)
    assert (header.magic, header.version) == (MAGIC[big_endian], 3007000)
    assert (header.big_endian, header.fault) == (big_endian, None)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", WalFault.EMPTY),
        (raw_header()[:31], WalFault.SHORT),
        (flip(raw_header(), 0), WalFault.BAD_MAGIC),
        (raw_header(page_size=131072), WalFault.BAD_PAGE_SIZE),
        (raw_header(page_size=256), WalFault.BAD_PAGE_SIZE),
        (raw_header(page_size=1000), WalFault.BAD_PAGE_SIZE),
        (raw_header(page_size=0), WalFault.BAD_PAGE_SIZE),
        (flip(raw_header(), 20), WalFault.BAD_CHECKSUM),
        (flip(raw_header(), 31), WalFault.BAD_CHECKSUM),
        (flip(raw_header(), 3, 1), WalFault.BAD_CHECKSUM),  # the other byte order
        (raw_header(version=3007001), WalFault.NEWER_VERSION),
    ],
)
def test_each_fault_has_its_name(raw: bytes, fault: WalFault) -> None:
    with pytest.raises(WalHeaderError) as caught:
        WalHeader.parse(bytes(raw))
    assert caught.value.fault is fault
    assert caught.value.message == fault.value


def test_faults_of_files(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db-wal")
    assert scan_wal(path).fault is WalFault.ABSENT
    assert scan_wal(path).fault is not WalFault.EMPTY
    assert look(tmp_path, b"").fault is WalFault.EMPTY
    assert look(tmp_path, b"x" * 31).fault is WalFault.SHORT
    for fault in (WalFault.ABSENT, WalFault.EMPTY):
        assert fault.is_normal
    newer = LogBuilder(P, version=3007001).frame(2, page(P), 2).raw
    found = look(tmp_path, newer)
    assert (found.fault, found.frame_slots, found.is_damaged) == (
        WalFault.NEWER_VERSION,
        0,
        False,
    )
    assert found.header is not None
    assert found.header.version == 3007001


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("at", [0, 8, 10, 20, 24])
def test_behind_a_lying_header_even_a_single_commit_is_seen(
    tmp_path: Path, page_size: int, big_endian: bool, at: int
) -> None:
    log = LogBuilder(page_size, big_endian=big_endian).frame(1, page(page_size), 1)
    found = look(tmp_path, flip(log.raw, at))
    assert found.fault is not None
    assert (found.page_size, found.later_commits, found.is_damaged) == (page_size, 1, True)


def test_a_lying_header_with_garbage_behind_hides_nothing(tmp_path: Path) -> None:
    found = look(tmp_path, b"\x5a" * 300_000)
    assert (found.fault, found.is_damaged, found.frame_slots) == (WalFault.BAD_MAGIC, False, 0)


def test_a_header_without_frames_hides_nothing(tmp_path: Path) -> None:
    found = look(tmp_path, flip(raw_header(), 20))
    assert (found.fault, found.is_damaged) == (WalFault.BAD_CHECKSUM, False)


# -- what is no log ----------------------------------------------------------------------------


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


# -- plain Python and numpy --------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    page_size=st.sampled_from(PAGE_SIZES[:3]),
    big_endian=st.booleans(),
    frames=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 2**32 - 1]),
            st.sampled_from([0, 0, 1, 2**32 - 1]),
            st.sampled_from([SALT, SALT, SALT, (0, 0), (1, SALT[1]), (SALT[0], 1)]),
            st.sampled_from(["good", "good", "flip", "blank"]),
        ),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(1, 2**32 - 1),
)
def test_both_engines_say_the_same(
    page_size: int,
    big_endian: bool,
    frames: list[tuple[int, int, tuple[int, int], str]],
    seed: int,
) -> None:
    log = LogBuilder(page_size, big_endian=big_endian)
    start = log.state
    expected = []
    for number, commit, salt, fate in frames:
        log.frame(number, page(page_size, seed), commit, salt)
        if fate == "flip":
            log.raw[-1 - seed % page_size] ^= 1
        elif fate == "blank":
            log.raw[-page_size - 24 :] = bytes(page_size + 24)
            log.state = (0, 0)
        good = fate == "good" and salt == SALT and number
        expected.append(bool(good))
    frames_raw = log.raw[32:]
    geometry = Geometry(page_size, big_endian, SALT)
    plain = check_frames(bytearray(frames_raw), len(frames), geometry, start)
    fast = vector.check_frames(bytearray(frames_raw), len(frames), geometry, start)
    assert plain == fast
    assert [mark & ~COMMIT == INTACT for mark in plain.marks] == expected


@pytest.mark.parametrize("chunk", [1, 3 * FRAME, 1 << 20])
def test_the_size_of_a_chunk_makes_no_difference(
    samples: Samples,
    tmp_path: Path,
    engine: str,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = look(tmp_path, samples["open", 512].log)
    monkeypatch.setattr(scanning, "_CHUNK_SIZE", chunk)
    assert look(tmp_path, samples["open", 512].log) == whole


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
