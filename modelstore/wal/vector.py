"""Checking a run of frames with numpy: the work of `chunk.examine`, at gigabytes a second.

Imported only for logs of some megabytes, as numpy takes longer to load than those to check.
"""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modelstore.wal.checksum import carry_factors, weights
from modelstore.wal.chunk import Chunk, Geometry
from modelstore.wal.frames import BLANK, BROKEN, COMMIT, FOREIGN, INTACT, PAGE_ZERO, PENDING
from modelstore.wal.layout import FRAME_HEADER_SIZE, frame_size

Words = npt.NDArray[np.uint32]

_HEADER_WORDS = FRAME_HEADER_SIZE // 4


@lru_cache(maxsize=8)
def _weights(page_size: int) -> tuple[Words, Words]:
    in_s0, in_s1 = weights(page_size)
    return np.array(in_s0, np.uint32), np.array(in_s1, np.uint32)


def _sums(pages: Words) -> tuple[Words, Words]:
    """Return the checksum from (0, 0) of each row, a page of words in the checksum's order."""
    in_s0, in_s1 = _weights(pages.shape[1] * 4)
    # einsum sums in 32 bits, without the temporary array of a product; `@` is 3 to 4 × slower.
    return np.einsum("ij,j->i", pages, in_s0), np.einsum("ij,j->i", pages, in_s1)


def _column(values: npt.NDArray[np.generic], code: str) -> array[int]:
    column = array(code)
    column.frombytes(values.tobytes())
    return column


def fingerprints(buffer: bytearray, count: int, page_size: int, *, big_endian: bool) -> array[int]:
    """Return the fingerprints of `count` pages in `buffer`, whose bytes may get swapped."""
    words = np.frombuffer(buffer, np.uint32, count * page_size // 4).reshape(count, page_size // 4)
    if big_endian != (sys.byteorder == "big"):
        words.byteswap(inplace=True)
    s0, s1 = _sums(words)
    return _column(_joined(s0, s1), "Q")


def _joined(s0: Words, s1: Words) -> npt.NDArray[np.uint64]:
    return s0.astype(np.uint64) << np.uint64(32) | s1


def examine(buffer: bytearray, count: int, geometry: Geometry, last: tuple[int, int]) -> Chunk:
    """Do what `chunk.examine` does; the bytes in `buffer` may be swapped on return."""
    stride = frame_size(geometry.page_size) // 4
    words = np.frombuffer(buffer, np.uint32, count * stride).reshape(count, stride)
    headers = words[:, :_HEADER_WORDS].copy()
    if sys.byteorder == "little":
        headers.byteswap(inplace=True)
    if geometry.big_endian != (sys.byteorder == "big"):
        words.byteswap(inplace=True)
    own0, own1 = _sums(words[:, _HEADER_WORDS:])
    stored = headers[:, 4:6]
    before = np.concatenate([np.array([last], np.uint32), stored[:-1]])
    state0 = before[:, 0] + words[:, 0] + before[:, 1]
    state1 = before[:, 1] + words[:, 1] + state0
    low, middle, high = (np.uint32(factor) for factor in carry_factors(geometry.page_size))
    follows = (low * state0 + middle * state1 + own0 == stored[:, 0]) & (
        middle * state0 + high * state1 + own1 == stored[:, 1]
    )
    return Chunk(
        _column(headers[:, 0], "I"),
        _column(headers[:, 1], "I"),
        _column(_joined(own0, own1), "Q"),
        _marks(headers, follows, geometry.salt),
        (int(stored[-1, 0]), int(stored[-1, 1])),
    )


def _marks(headers: Words, follows: npt.NDArray[np.bool_], salt: tuple[int, int]) -> bytes:
    number, commit = headers[:, 0], headers[:, 1]
    mine = (headers[:, 2] == salt[0]) & (headers[:, 3] == salt[1])
    own = np.where(number == 0, PAGE_ZERO, np.where(follows, INTACT, BROKEN))
    unset = np.where(headers[:, :2].any(axis=1), PENDING, BLANK)
    other = np.where(headers[:, 2:].any(axis=1), FOREIGN, unset)
    marks = np.where(mine, own, other) | np.where(commit != 0, COMMIT, 0)
    return marks.astype(np.uint8).tobytes()
