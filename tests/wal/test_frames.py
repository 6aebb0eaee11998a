"""The check of frames in plain Python against the check with numpy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelstore.wal.scan as scanning
from modelstore.wal import vector
from modelstore.wal.frames import (
    COMMIT,
    INTACT,
    Geometry,
    check_frames,
)
from tests.wal.logfiles import (
    PAGE_SIZES,
    SALT,
    LogBuilder,
    page,
)
from tests.wal.scanning import (
    FRAME,
    Samples,
    look,
)


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
