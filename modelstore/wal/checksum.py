"""SQLite's cumulative checksum, step by step and as linear algebra.

Over pairs of 32-bit words, ``s0 += x0 + s1; s1 += x1 + s0`` modulo 2^32. That is linear, so a
frame's checksum is the sum of two parts: the state carried in, multiplied by a power of
``[[1, 1], [1, 2]]``, whose entries are Fibonacci numbers, and the checksum of the frame's own
words from (0, 0). A frame can thus be checked against the *stored* checksum of the one before it,
without any scan across frames, and the checksum of the page image alone falls out on the way.

https://www.sqlite.org/fileformat2.html#checksum_algorithm
"""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache

_MASK = 0xFFFFFFFF
_PAIRS = {False: struct.Struct("<II"), True: struct.Struct(">II")}


def checksum(
    data: bytes | bytearray | memoryview, s0: int = 0, s1: int = 0, *, big_endian: bool
) -> tuple[int, int]:
    """Return the checksum of `data`, a multiple of 8 bytes, carried on from (`s0`, `s1`)."""
    for even, odd in _PAIRS[big_endian].iter_unpack(data):
        s0 = (s0 + even + s1) & _MASK
        s1 = (s1 + odd + s0) & _MASK
    return s0, s1


def carry(s0: int, s1: int, size: int) -> tuple[int, int]:
    """Return what the state (`s0`, `s1`) adds to the checksum of the `size` bytes after it."""
    low, middle, high = carry_factors(size)
    return (low * s0 + middle * s1) & _MASK, (middle * s0 + high * s1) & _MASK


@lru_cache(maxsize=32)
def carry_factors(size: int) -> tuple[int, int, int]:
    """Return F(2n-1), F(2n), F(2n+1) modulo 2^32 for the n pairs in `size` bytes."""
    middle, high = 0, 1
    for _ in range(size // 4):
        middle, high = high, (middle + high) & _MASK
    return (high - middle) & _MASK, middle, high


@lru_cache(maxsize=8)
def weights(size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return by what each 32-bit word of `size` bytes counts in s0 and in s1, modulo 2^32.

    Of W words, the one at index w counts F(W-w-1) times in s0 and F(W-w) times in s1.
    """
    fibonacci = [0, 1]
    for _ in range(size // 4 - 1):
        fibonacci.append((fibonacci[-1] + fibonacci[-2]) & _MASK)
    return tuple(fibonacci[-2::-1]), tuple(fibonacci[:0:-1])


def fingerprint(page: bytes | bytearray | memoryview, *, big_endian: bool) -> int:
    """Return the checksum of `page` from (0, 0) as one number, s0 in its upper 32 bits.

    Different fingerprints prove different pages. Equal ones do **not** prove equal pages: the
    checksum is linear, and changes in the upper bits of two words some hundred bytes apart cancel
    out far more often than once in 2^64. Compare the bytes where it matters.
    """
    s0, s1 = checksum(page, big_endian=big_endian)
    return s0 << 32 | s1


def fingerprints(buffer: bytearray, count: int, page_size: int, *, big_endian: bool) -> array[int]:
    """Return the fingerprints of the first `count` pages in `buffer`."""
    view = memoryview(buffer)
    pages = (view[number * page_size : (number + 1) * page_size] for number in range(count))
    return array("Q", (fingerprint(page, big_endian=big_endian) for page in pages))
