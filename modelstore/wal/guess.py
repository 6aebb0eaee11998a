"""Finding out how frames are laid out behind a log header that lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.wal.checksum import checksum
from modelstore.wal.chunk import Geometry, examine
from modelstore.wal.files import read_at
from modelstore.wal.frames import COMMIT, INTACT
from modelstore.wal.layout import (
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    PAGE_SIZES,
    WAL_HEADER,
    WAL_HEADER_SIZE,
    frame_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.header import WalHeader

_FRAMES_TRIED = 64

Checksum = tuple[int, int]


def guess_geometry(fd: int, header: WalHeader) -> tuple[Geometry, Checksum] | None:
    """Return the geometry with which frames hang together, if any do, and the header's checksum.

    Two neighbours with the same salts, of which the second follows from the first, prove
    themselves; so does a first frame that follows from the header, or from what the checksum of
    its fields would be. Only the first frames are tried.
    """
    for page_size in PAGE_SIZES:
        for number, starts in _candidates(fd, page_size, header):
            offset = WAL_HEADER_SIZE + number * frame_size(page_size)
            frame = bytearray(read_at(fd, frame_size(page_size), offset))
            if len(frame) < frame_size(page_size):
                break
            salt = FRAME_HEADER.unpack_from(frame)[2:4]
            for big_endian in (False, True):
                geometry = Geometry(page_size, big_endian, salt)
                for start in starts:
                    if examine(frame, 1, geometry, start).marks[0] & ~COMMIT == INTACT:
                        return geometry, header.checksum if number else start
    return None


def _candidates(
    fd: int, page_size: int, header: WalHeader
) -> Iterator[tuple[int, tuple[Checksum, ...]]]:
    """Yield which frames, from 0, are worth a checksum, and from which ones they may follow."""
    last: tuple[int, ...] = ()
    for number in range(_FRAMES_TRIED):
        offset = WAL_HEADER_SIZE + number * frame_size(page_size)
        raw = read_at(fd, FRAME_HEADER_SIZE, offset)
        if len(raw) < FRAME_HEADER_SIZE:
            return
        fields = FRAME_HEADER.unpack(raw)
        if number == 0:
            yield number, (header.checksum, *_recomputed(header))
        elif fields[0] and fields[2:4] == last[2:4] and any(fields[2:4]):
            yield number, ((last[4], last[5]),)
        last = fields


def _recomputed(header: WalHeader) -> Iterator[Checksum]:
    """Yield what the header's checksum should be: it may itself be what is wrong."""
    raw = WAL_HEADER.pack(
        header.magic,
        header.version,
        header.page_size,
        header.sequence,
        *header.salt,
        *header.checksum,
    )
    for big_endian in (False, True):
        yield checksum(raw[:-8], big_endian=big_endian)
