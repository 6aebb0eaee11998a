from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.wal import vector
from modelstore.wal.checksum import carry, checksum, fingerprint, fingerprints, weights
from tests.wal.logfiles import naive_checksum

WORD = st.integers(0, 2**32 - 1)
WORDS = st.integers(1, 64).flatmap(lambda pairs: st.binary(min_size=8 * pairs, max_size=8 * pairs))


@given(WORDS, WORD, WORD, st.booleans())
def test_checksum_is_the_definition(data: bytes, s0: int, s1: int, big_endian: bool) -> None:
    expected = naive_checksum(data, (s0, s1), big_endian=big_endian)
    assert checksum(data, s0, s1, big_endian=big_endian) == expected


@given(WORDS, WORD, WORD, st.booleans())
def test_state_and_words_add_up(data: bytes, s0: int, s1: int, big_endian: bool) -> None:
    carried = carry(s0, s1, len(data))
    own = checksum(data, big_endian=big_endian)
    total = tuple((one + other) % 2**32 for one, other in zip(carried, own, strict=True))
    assert total == naive_checksum(data, (s0, s1), big_endian=big_endian)


@given(WORDS)
def test_weights_are_how_often_each_word_counts(data: bytes) -> None:
    words = memoryview(data).cast("I")
    in_s0, in_s1 = weights(len(data))
    sums = tuple(
        sum(word * weight for word, weight in zip(words, column, strict=True)) % 2**32
        for column in (in_s0, in_s1)
    )
    assert sums == checksum(data, big_endian=sys.byteorder == "big")


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("big_endian", [False, True])
@given(data=st.data())
def test_numpy_and_plain_fingerprints_agree(
    page_size: int, big_endian: bool, data: st.DataObject
) -> None:
    seed = data.draw(st.binary(min_size=16, max_size=64))
    count = data.draw(st.integers(1, 3))
    buffer = bytearray((seed * (count * page_size // len(seed) + 1))[: count * page_size])
    plain = fingerprints(buffer, count, page_size, big_endian=big_endian)
    fast = vector.fingerprints(bytearray(buffer), count, page_size, big_endian=big_endian)
    assert list(plain) == list(fast)
    s0, s1 = naive_checksum(bytes(buffer[:page_size]), (0, 0), big_endian=big_endian)
    assert plain[0] == (s0 << 32) + s1


def test_equal_fingerprints_do_not_prove_equal_pages() -> None:
    page = bytearray(4096)
    page[3], page[3 + 4 * 192] = 127, 1
    assert fingerprint(page, big_endian=False) == fingerprint(bytes(4096), big_endian=False)
