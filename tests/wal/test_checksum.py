from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from modelstore.wal.format import checksum, weights
from tests.wal.logfiles import naive_checksum

WORD = st.integers(0, 2**32 - 1)
WORDS = st.integers(1, 64).flatmap(lambda pairs: st.binary(min_size=8 * pairs, max_size=8 * pairs))


@given(WORDS, WORD, WORD, st.booleans())
def test_checksum_is_the_definition(data: bytes, s0: int, s1: int, big_endian: bool) -> None:
    expected = naive_checksum(data, (s0, s1), big_endian=big_endian)
    assert checksum(data, s0, s1, big_endian=big_endian) == expected


@given(WORDS, WORD, WORD, st.booleans())
def test_state_and_words_add_up(data: bytes, s0: int, s1: int, big_endian: bool) -> None:
    a, b = (column[0] for column in weights(len(data)))
    own0, own1 = checksum(data, big_endian=big_endian)
    total = (
        (a * s0 + b * s1 + own0) % 2**32,
        (b * s0 + (a + b) * s1 + own1) % 2**32,
    )
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
