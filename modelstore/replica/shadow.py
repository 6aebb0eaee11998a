"""The files that Litestream keeps beside a database: how far into the log its copy reaches.

``.DB-litestream/ltx/0`` has one file for each piece of the log that was copied. Its header names
the last transaction in it, the time, and the place in the log where the piece ends.
https://github.com/superfly/ltx
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass

from modelstore.errors import RefusedError
from modelstore.wal.files import open_or_refuse, read_at
from modelstore.wal.format import FRAME_HEADER_SIZE, INDEX_SIZE, WAL_HEADER_SIZE, WalHeader
from modelstore.wal.index import WalIndex

_NAME = re.compile(r"[0-9a-f]{16}-([0-9a-f]{16})\.ltx")
_HEADER = struct.Struct(">4s3I2QqQqqII")
"""magic, flags, page size, pages; first and last transaction, milliseconds since the epoch, a
checksum; where the piece begins in the log, its length, and the log's two salts."""
_MAGIC = b"LTX1"
_NEWEST = 200  # files that are looked at
_CLOCK = 1.0  # seconds between the time of a file and the moment when its frames were read, at most


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A moment in the life of a database: the end of its log, and the time.

    `end` is an offset in bytes and `salt` the log's; both are None where there is no log. `at` is
    in seconds since the epoch.
    """

    at: float
    end: int | None = None
    salt: tuple[int, int] | None = None

    @classmethod
    def of(cls, index: WalIndex | None, at: float) -> LogPosition:
        """Return the position at the end of the log that the wal-index shows."""
        if index is None:
            return cls(at)
        frame = index.page_size + FRAME_HEADER_SIZE
        return cls(at, WAL_HEADER_SIZE + index.max_frame * frame, index.salt)


def raw_position(database: str, at: float) -> LogPosition:
    """Return the position at the end of a log that no SQLite of this process has open.

    Without a wal-index in use, it is the end of the file, which may lie behind the log's.
    """
    header = _head(database + "-wal", WAL_HEADER_SIZE)
    if len(header) < WAL_HEADER_SIZE:
        return LogPosition(at)
    salt = WalHeader.unpack(header).salt
    raw = _head(database + "-shm", INDEX_SIZE)
    index = WalIndex.parse(raw) if len(raw) == INDEX_SIZE else None
    if index is not None and index.is_settled and index.salt == salt:
        return LogPosition.of(index, at)
    try:
        return LogPosition(at, os.stat(database + "-wal").st_size, salt)
    except OSError:
        return LogPosition(at)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the log that was copied: its last transaction, its time and where it ends."""

    txid: int
    at: float  # seconds since the epoch
    end: int
    salt: tuple[int, int]

    @classmethod
    def parse(cls, raw: bytes) -> Piece | None:
        """Return the piece whose header `raw` holds; None if it is none."""
        if len(raw) < _HEADER.size:
            return None
        magic, _, _, _, _, last, at, _, begin, length, *salt = _HEADER.unpack_from(raw)
        if magic != _MAGIC or begin < 0 or length < 0:
            return None
        return cls(last, at / 1000, begin + length, (salt[0], salt[1]))

    def reaches(self, position: LogPosition) -> bool:
        """Tell whether the frames before a position are in this piece or in an earlier one.

        A restart of the log adds 1 to the first salt (sqlite.org/fileformat.html#wal_file_format);
        a new log has other salts, and then the time tells.
        """
        if position.end is not None and position.salt is not None:
            if self.salt == position.salt:
                return self.end >= position.end
            if 0 < (self.salt[0] - position.salt[0]) % (1 << 32) < _RESTARTS:
                return True
        return self.at >= position.at + _CLOCK


_RESTARTS = 1 << 20  # of a log; a larger distance of two salts is chance


def shadow_directory(database: str) -> str:
    """Return the directory that Litestream keeps beside a database."""
    directory, name = os.path.split(database)
    return os.path.join(directory, f".{name}-litestream")


def copied_pieces(database: str) -> list[Piece]:
    """Return the newest pieces that Litestream copied, the newest first; none if they are hidden.

    A file that is no piece is left out.
    """
    directory = os.path.join(shadow_directory(database), "ltx", "0")
    try:
        names = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    except OSError:
        return []
    found = (_read(os.path.join(directory, name)) for name in names[: -_NEWEST - 1 : -1])
    return [piece for piece in found if piece is not None]


def has_copied(database: str, position: LogPosition, txid: int) -> bool:
    """Tell whether a replica that has transaction `txid` claims to hold a position of the log.

    False if the files beside the database do not tell.
    """
    return any(piece.txid <= txid and piece.reaches(position) for piece in copied_pieces(database))


def _read(path: str) -> Piece | None:
    return Piece.parse(_head(path, _HEADER.size))


def _head(path: str, size: int) -> bytes:
    """Return the first bytes of a file; none if it cannot be read."""
    try:
        descriptor = open_or_refuse(path)
    except (OSError, RefusedError):
        return b""
    try:
        return read_at(descriptor, size, 0)
    finally:
        os.close(descriptor)
