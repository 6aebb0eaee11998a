"""Mend a frame that has one wrong byte: its checksum says which one, and by how much.

The checksum is linear: if one 32-bit word is wrong, the differences in both halves are that word's
error times two known factors. More damage can look like one wrong word: 50 equal errors in a row
do, exactly. Such a word differs in all its bytes, so only one wrong byte counts as an explanation.
https://www.sqlite.org/fileformat2.html#checksum_algorithm
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from modelstore.wal.format import FRAME_HEADER, FRAME_HEADER_SIZE, checksum, weights

_MASK = 0xFFFFFFFF
_CHECKED_HEADER = 8  # bytes of a frame's header that its checksum covers


def frame_checksum(frame: bytes, before: tuple[int, int], *, big_endian: bool) -> tuple[int, int]:
    """Return the checksum of a whole frame that follows a frame with the checksum `before`."""
    state = checksum(frame[:_CHECKED_HEADER], *before, big_endian=big_endian)
    return checksum(frame[FRAME_HEADER_SIZE:], *state, big_endian=big_endian)


@dataclass(frozen=True, slots=True)
class Mend:
    """One way to put a frame right: the four bytes that belong at offset `at`, one of them new."""

    at: int
    word: bytes

    def apply(self, frame: bytes) -> bytes:
        """Return the frame with its wrong byte replaced."""
        return frame[: self.at] + self.word + frame[self.at + 4 :]


def possible_mends(frame: bytes, before: tuple[int, int], *, big_endian: bool) -> list[Mend]:
    """Return each single byte whose change makes the checksum of a frame right.

    `before` is the checksum of the frame before. The checksum stored in `frame` must be right; the
    next frame proves that if it follows from it. An error in the highest byte of a word has several
    explanations, because the factors repeat modulo small powers of two.
    """
    stored = FRAME_HEADER.unpack_from(frame)[4:6]
    found = frame_checksum(frame, before, big_endian=big_endian)
    wrong0, wrong1 = (stored[0] - found[0]) & _MASK, (stored[1] - found[1]) & _MASK
    size = _CHECKED_HEADER + len(frame) - FRAME_HEADER_SIZE
    number = struct.Struct(">I" if big_endian else "<I")
    mends = []
    for word, (in_s0, in_s1, inverse, uses_s0) in enumerate(_solvers(size)):
        delta = (wrong0 if uses_s0 else wrong1) * inverse & _MASK
        if delta and in_s0 * delta & _MASK == wrong0 and in_s1 * delta & _MASK == wrong1:
            at = 4 * word if word < 2 else FRAME_HEADER_SIZE + 4 * (word - 2)
            value = (number.unpack_from(frame, at)[0] + delta) & _MASK
            mend = Mend(at, number.pack(value))
            if sum(a != b for a, b in zip(mend.word, frame[at : at + 4], strict=True)) == 1:
                mends.append(mend)
    return mends


@lru_cache(maxsize=4)
def _solvers(size: int) -> tuple[tuple[int, int, int, bool], ...]:
    """Return for each word its two factors, the inverse of an odd one, and which one that is.

    Neighbours in the Fibonacci sequence are never both even.
    """
    return tuple(
        (in_s0, in_s1, pow(in_s0 if in_s0 & 1 else in_s1, -1, 1 << 32), bool(in_s0 & 1))
        for in_s0, in_s1 in zip(*weights(size), strict=True)
    )
