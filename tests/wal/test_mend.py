"""One wrong byte in a frame is found and mended; more damage never looks like it."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelstore.wal.mend import frame_checksum, possible_mends
from tests.wal.logfiles import LogBuilder

SIZE = 512


def frame_of(page: bytes, *, big_endian: bool) -> tuple[bytes, tuple[int, int]]:
    log = LogBuilder(SIZE, big_endian=big_endian)
    before = log.state
    log.frame(3, page, commit=7)
    return bytes(log.raw[32:]), before


@given(
    page=st.binary(min_size=SIZE, max_size=SIZE),
    at=st.integers(0, 8 + SIZE - 1),
    change=st.integers(1, 255),
    big_endian=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_true_frame_is_among_the_mends(
    page: bytes, at: int, change: int, big_endian: bool
) -> None:
    frame, before = frame_of(page, big_endian=big_endian)
    damaged = bytearray(frame)
    damaged[at if at < 8 else at + 16] ^= change
    mends = possible_mends(bytes(damaged), before, big_endian=big_endian)
    assert frame in [mend.apply(bytes(damaged)) for mend in mends]
    stored = frame_checksum(frame, before, big_endian=big_endian)
    for mend in mends:
        mended = mend.apply(bytes(damaged))
        assert frame_checksum(mended, before, big_endian=big_endian) == stored
        assert sum(a != b for a, b in zip(mended, damaged, strict=True)) == 1


@given(page=st.binary(min_size=SIZE, max_size=SIZE), big_endian=st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_sound_frame_needs_no_mend(page: bytes, big_endian: bool) -> None:
    frame, before = frame_of(page, big_endian=big_endian)
    assert possible_mends(frame, before, big_endian=big_endian) == []


def test_a_run_of_equal_errors_is_no_single_wrong_byte() -> None:
    frame, before = frame_of(bytes(SIZE), big_endian=False)
    damaged = bytearray(frame)
    for at in range(124, 324):  # 50 words: to the checksum it is one word with a large error
        damaged[at] ^= 0x5A
    assert possible_mends(bytes(damaged), before, big_endian=False) == []


@given(at=st.integers(0, SIZE - 64), noise=st.binary(min_size=24, max_size=64))
@settings(max_examples=100, deadline=None)
def test_a_stretch_of_noise_is_never_mended(at: int, noise: bytes) -> None:
    assume(len(set(noise)) > 8)  # equal errors side by side can add up to one
    frame, before = frame_of(bytes(range(256)) * 2, big_endian=False)
    damaged = bytearray(frame)
    damaged[24 + at : 24 + at + len(noise)] = noise
    mends = possible_mends(bytes(damaged), before, big_endian=False)
    assert bytes(damaged) == frame or len(mends) != 1
