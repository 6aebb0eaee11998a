"""Scans against SQLite's own recovery: frames, damage and headers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.wal.format import WalFault, WalHeader, WalHeaderError
from modelstore.wal.frames import (
    FrameState,
    StopReason,
)
from modelstore.wal.scan import scan_wal
from tests.wal.logfiles import (
    MAGIC,
    PAGE_SIZES,
    SALT,
    LogBuilder,
    page,
    rechain,
    simple_log,
)
from tests.wal.scanning import (
    FRAME,
    KINDS,
    P,
    Samples,
    agree_with_sqlite,
    choose,
    flip,
    look,
    raw_header,
)

# -- against SQLite's own recovery -------------------------------------------------------------


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


# -- damage and harmless tails -----------------------------------------------------------------


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
    assert [(f.number, f.page_number, f.page_count) for f in found.frames()] == [
        (1, 1, 1),
        (2, 2, 0),
        (3, 9, 9),
        (4, 2, 0),
    ]
    assert [f.number for f in found.frames(2, 3)] == [2, 3]
    assert (found.max_frame, found.page_count, found.uncommitted) == (3, 9, 1)
    assert found.latest() == {1: 1, 2: 2, 9: 3}
    assert found.latest(1) == {1: 1}
    for frame in found.frames():
        assert log.raw[frame.offset : frame.offset + P] == page(P)


# -- the header --------------------------------------------------------------------------------


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
        assert not fault.is_damage
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


@pytest.mark.parametrize("tail", [0, 3, 40])
def test_each_written_frame_is_counted_once(tmp_path: Path, tail: int) -> None:
    log = LogBuilder(512)
    for number in range(1, 8):
        log.frame(number, page(512, number), number if number % 3 == 0 else 0)
    path = tmp_path / "a.db-wal"
    path.write_bytes(log.raw + bytes(tail * (512 + 24)))
    found = scan_wal(str(path))
    assert found.written == 7
    assert found.written == found.max_frame + found.uncommitted
    assert found.blank == tail
