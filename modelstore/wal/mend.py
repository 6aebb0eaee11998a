"""Mend a frame that has one wrong word: its 64-bit checksum says which word, and by how much.

The checksum is linear: if one 32-bit word is wrong, the differences in both halves are that word's
error times two known factors. A random match is less likely than one in four million.
https://www.sqlite.org/fileformat2.html#checksum_algorithm
"""

from __future__ import annotations

import struct
from functools import lru_cache

from modelstore.wal.format import FRAME_HEADER, FRAME_HEADER_SIZE, checksum, weights

_MASK = 0xFFFFFFFF
_CHECKED_HEADER = 8  # bytes of a frame's header that its checksum covers


def frame_checksum(frame: bytes, before: tuple[int, int], *, big_endian: bool) -> tuple[int, int]:
    """Return the checksum of a whole frame that follows a frame with the checksum `before`."""
    state = checksum(frame[:_CHECKED_HEADER], *before, big_endian=big_endian)
    return checksum(frame[FRAME_HEADER_SIZE:], *state, big_endian=big_endian)


def mend_frame(frame: bytes, before: tuple[int, int], *, big_endian: bool) -> bytes | None:
    """Return `frame` with its one wrong word put right; None if no single word explains it.

    `before` is the checksum of the frame before. The checksum stored in `frame` must be right, and
    the next frame proves that: it follows from it.
    """
    stored = FRAME_HEADER.unpack_from(frame)[4:6]
    found = frame_checksum(frame, before, big_endian=big_endian)
    wrong0, wrong1 = (stored[0] - found[0]) & _MASK, (stored[1] - found[1]) & _MASK
    size = _CHECKED_HEADER + len(frame) - FRAME_HEADER_SIZE
    fixes = [
        (word, delta)
        for word, (in_s0, in_s1, inverse, uses_s0) in enumerate(_solvers(size))
        if (delta := (wrong0 if uses_s0 else wrong1) * inverse & _MASK)
        and in_s0 * delta & _MASK == wrong0
        and in_s1 * delta & _MASK == wrong1
    ]
    if len(fixes) != 1:
        return None
    word, delta = fixes[0]
    at = 4 * word if word < 2 else FRAME_HEADER_SIZE + 4 * (word - 2)
    number = struct.Struct(">I" if big_endian else "<I")
    mended = bytearray(frame)
    number.pack_into(mended, at, (number.unpack_from(frame, at)[0] + delta) & _MASK)
    return bytes(mended)


@lru_cache(maxsize=4)
def _solvers(size: int) -> tuple[tuple[int, int, int, bool], ...]:
    """Return for each word its two factors, the inverse of an odd one, and which one that is.

    Neighbours in the Fibonacci sequence are never both even.
    """
    return tuple(
        (in_s0, in_s1, pow(in_s0 if in_s0 & 1 else in_s1, -1, 1 << 32), bool(in_s0 & 1))
        for in_s0, in_s1 in zip(*weights(size), strict=True)
    )
