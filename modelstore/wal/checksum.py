"""SQLite's cumulative checksum, step by step and as linear algebra.

Over pairs of 32-bit words, ``s0 += x0 + s1; s1 += x1 + s0`` modulo 2^32. That is linear, so a
frame's checksum is the sum of two parts: the state carried in, multiplied by a power of
``[[1, 1], [1, 2]]``, whose entries are Fibonacci numbers, and the checksum of the frame's own
words from (0, 0). Frames can thus be checked side by side, each against the *stored* checksum of
the one before it: the leading run of good ones is the same.

https://www.sqlite.org/fileformat2.html#checksum_algorithm
"""

from __future__ import annotations

import struct
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


@lru_cache(maxsize=8)
def weights(size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return by what each 32-bit word of `size` bytes counts in s0 and in s1, modulo 2^32.

    Of W words, the one at index w counts F(W-w-1) times in s0 and F(W-w) times in s1. With a and
    b, the first of each, a state (s0, s1) before them adds a·s0 + b·s1 and b·s0 + (a + b)·s1.
    """
    fibonacci = [0, 1]
    for _ in range(size // 4 - 1):
        fibonacci.append((fibonacci[-1] + fibonacci[-2]) & _MASK)
    return tuple(fibonacci[-2::-1]), tuple(fibonacci[:0:-1])
