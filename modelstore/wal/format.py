"""The file formats of a database, its ``-wal`` and its ``-shm``: constants, headers, checksums.

https://www.sqlite.org/fileformat2.html, https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import struct
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from modelstore.errors import RefusedError

# -- the database file -------------------------------------------------------------------------

DATABASE_MAGIC = b"SQLite format 3\0"
DATABASE_HEADER_SIZE = 100
MIN_PAGE_SIZE = 512
MAX_PAGE_SIZE = 65536
PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))
MIN_USABLE_SIZE = 480
NEWEST_FILE_FORMAT = 2
FREELIST_TRUNK = 32  # offset of the number of the first trunk page
PAYLOAD_FRACTIONS = bytes((64, 32, 32))
PENDING_BYTE = 0x40000000
"""The first lock byte of the main file; the page that holds it never has content."""
RESERVED_BYTE = PENDING_BYTE + 1
"""The lock byte of a rollback-mode writer. https://www.sqlite.org/lockingv3.html"""
_DATABASE_HEADER = struct.Struct(">16sHBBB3s12I20xII")

# -- the -wal file -----------------------------------------------------------------------------

WAL_MAGIC = 0x377F0682  # the lowest bit is set if checksums read big-endian words
WAL_VERSION = 3007000
WAL_HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
WAL_HEADER = struct.Struct(">8I")
FRAME_HEADER = struct.Struct(">6I")

# -- the -shm file -----------------------------------------------------------------------------

INDEX_SIZE = 136
INDEX_COPY_SIZE = 48
INDEX_CHECKED_SIZE = 40
INDEX_COPY = struct.Struct("=IIIBBHIIII8sII")
INDEX_INFO = struct.Struct("=6I8xI")  # at 96: nBackfill, five read marks, nBackfillAttempted
READ_MARK_UNUSED = 0xFFFFFFFF

LOCK_OFFSET = 120  # of the first lock byte in the -shm; the others follow in this order
LOCK_NAMES = (
    "WRITE",
    "CHECKPOINT",
    "RECOVER",
    "READ0",
    "READ1",
    "READ2",
    "READ3",
    "READ4",
    "DMS",
)


def frame_size(page_size: int) -> int:
    """Return the bytes of one frame: its header and the page."""
    return FRAME_HEADER_SIZE + page_size


def page_offset(frame: int, page_size: int) -> int:
    """Return the offset in the ``-wal`` of the page image in `frame` (1 is the first)."""
    return WAL_HEADER_SIZE + (frame - 1) * frame_size(page_size) + FRAME_HEADER_SIZE


def is_page_size(size: int) -> bool:
    """Return True for a power of two from 512 to 65536."""
    return MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE and size & (size - 1) == 0


class DatabaseFault(Enum):
    """A fault in the first bytes of a database file; the value is the clause that reports use."""

    EMPTY = "the file is empty"
    SHORT = "the file ends inside the 100-byte header"
    BAD_MAGIC = "the file does not begin with 'SQLite format 3'"
    BAD_PAGE_SIZE = "the page size in the header is not a power of two from 512 to 65536"
    BAD_FRACTIONS = "the payload fractions in the header are not 64, 32, 32"
    BAD_RESERVED = "the header reserves more of each page than SQLite allows"


class DatabaseHeaderError(RefusedError):
    """The first 100 bytes are no header that SQLite accepts, because of `fault`."""

    def __init__(self, fault: DatabaseFault) -> None:
        super().__init__(
            f"not an SQLite database: {fault.value}", hint="check that the path is the right one"
        )
        self.fault = fault


class DatabaseHeader(NamedTuple):
    """The first 100 bytes of a database file, as they are on disk.

    `page_count` and `freelist_count` count pages; sizes are in bytes. A newer page 1 in the log
    replaces this header. https://www.sqlite.org/fileformat2.html#the_database_header
    """

    page_size: int
    write_version: int
    read_version: int
    reserved: int
    change_counter: int
    page_count: int
    freelist_trunk: int
    freelist_count: int
    schema_cookie: int
    schema_format: int
    cache_size: int
    largest_root: int
    text_encoding: int
    user_version: int
    incremental_vacuum: int
    application_id: int
    version_valid_for: int
    sqlite_version: int

    @classmethod
    def parse(cls, raw: bytes) -> DatabaseHeader:
        """Return the header in the first 100 bytes of `raw`. Raises `DatabaseHeaderError`."""
        if not raw:
            raise DatabaseHeaderError(DatabaseFault.EMPTY)
        if raw[:16] != DATABASE_MAGIC[: len(raw)]:
            raise DatabaseHeaderError(DatabaseFault.BAD_MAGIC)
        if len(raw) < DATABASE_HEADER_SIZE:
            raise DatabaseHeaderError(DatabaseFault.SHORT)
        fields = _DATABASE_HEADER.unpack_from(raw)
        _, stored_size, write_version, read_version, reserved, fractions, *numbers = fields
        page_size = MAX_PAGE_SIZE if stored_size == 1 else stored_size
        if not is_page_size(page_size):
            raise DatabaseHeaderError(DatabaseFault.BAD_PAGE_SIZE)
        if fractions != PAYLOAD_FRACTIONS:
            raise DatabaseHeaderError(DatabaseFault.BAD_FRACTIONS)
        if page_size - reserved < MIN_USABLE_SIZE:
            raise DatabaseHeaderError(DatabaseFault.BAD_RESERVED)
        return cls(
            page_size=page_size,
            write_version=write_version,
            read_version=read_version,
            reserved=reserved,
            change_counter=numbers[0],
            page_count=numbers[1],
            freelist_trunk=numbers[2],
            freelist_count=numbers[3],
            schema_cookie=numbers[4],
            schema_format=numbers[5],
            cache_size=numbers[6],
            largest_root=numbers[7],
            text_encoding=numbers[8],
            user_version=numbers[9],
            incremental_vacuum=numbers[10],
            application_id=numbers[11],
            version_valid_for=numbers[12],
            sqlite_version=numbers[13],
        )

    @property
    def encoding(self) -> int:
        """The encoding of every text: 1 UTF-8, 2 UTF-16le, 3 UTF-16be.

        SQLite reads two bits of it, and 0 as UTF-8 (prepare.c, ``sqlite3InitOne``).
        """
        return self.text_encoding & 3 or 1

    @property
    def is_wal(self) -> bool:
        """True in WAL mode: the read version is 2, which alone decides (btree.c, ``lockBtree``)."""
        return self.read_version == NEWEST_FILE_FORMAT

    @property
    def is_too_new(self) -> bool:
        """True if SQLite refuses to read the file: its format is newer than WAL."""
        return self.read_version > NEWEST_FILE_FORMAT

    @property
    def usable_size(self) -> int:
        """Bytes of each page that can hold content."""
        return self.page_size - self.reserved

    @property
    def has_valid_page_count(self) -> bool:
        """True if `page_count` is valid; otherwise the file's size gives the number of pages."""
        return self.page_count > 0 and self.change_counter == self.version_valid_for


_MASK = 0xFFFFFFFF
_PAIRS = {False: struct.Struct("<II"), True: struct.Struct(">II")}


def checksum(
    data: bytes | bytearray | memoryview, s0: int = 0, s1: int = 0, *, big_endian: bool
) -> tuple[int, int]:
    """Return the checksum of `data`, a multiple of 8 bytes, continued from (`s0`, `s1`).

    https://www.sqlite.org/fileformat2.html#checksum_algorithm
    """
    for even, odd in _PAIRS[big_endian].iter_unpack(data):
        s0 = (s0 + even + s1) & _MASK
        s1 = (s1 + odd + s0) & _MASK
    return s0, s1


@lru_cache(maxsize=8)
def weights(size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the factors of each 32-bit word of `size` bytes in s0 and in s1, modulo 2^32.

    Of W words, word w has the Fibonacci numbers F(W-w-1) in s0 and F(W-w) in s1 as factors. With
    the first of each, a and b, an earlier state (s0, s1) adds a·s0 + b·s1 and b·s0 + (a + b)·s1.
    """
    fibonacci = [0, 1]
    for _ in range(size // 4 - 1):
        fibonacci.append((fibonacci[-1] + fibonacci[-2]) & _MASK)
    return tuple(fibonacci[-2::-1]), tuple(fibonacci[:0:-1])


class WalFault(Enum):
    """A fault in the header of a ``-wal``; the value is the clause that reports use."""

    ABSENT = "there is no -wal file"
    EMPTY = "the -wal file is empty"
    SHORT = "the -wal file ends inside its 32-byte header"
    BAD_MAGIC = "the -wal file does not begin with the magic number of a log"
    BAD_PAGE_SIZE = "the page size in the log's header is not a power of two from 512 to 65536"
    BAD_CHECKSUM = "the checksum of the log's header is wrong"
    NEWER_VERSION = "the log has a format version that SQLite does not open"

    @property
    def is_damage(self) -> bool:
        """True if the header's bytes are wrong: SQLite then ignores the whole log."""
        return self in {WalFault.BAD_MAGIC, WalFault.BAD_PAGE_SIZE, WalFault.BAD_CHECKSUM}


class WalHeaderError(RefusedError):
    """The bytes are no header of a log that SQLite accepts, because of `fault`."""

    def __init__(self, fault: WalFault) -> None:
        super().__init__(fault.value, hint="inspect the log before anything opens the database")
        self.fault = fault


class WalHeader(NamedTuple):
    """The header of a log. `page_size` is in bytes; `sequence` counts the log's restarts.

    https://www.sqlite.org/fileformat2.html#walformat
    """

    magic: int
    version: int
    page_size: int
    sequence: int
    salt: tuple[int, int]
    checksum: tuple[int, int]
    fault: WalFault | None
    """The first fault in SQLite's own order of checks."""

    @classmethod
    def parse(cls, raw: bytes) -> WalHeader:
        """Return the header in the first 32 bytes of `raw`. Raises `WalHeaderError`."""
        header = cls.unpack(raw)
        if header.fault is not None:
            raise WalHeaderError(header.fault)
        return header

    @classmethod
    def unpack(cls, raw: bytes) -> WalHeader:
        """Return the header, whatever its `fault`. Raises `WalHeaderError` if `raw` is short."""
        if len(raw) < WAL_HEADER_SIZE:
            raise WalHeaderError(WalFault.SHORT if raw else WalFault.EMPTY)
        magic, version, page_size, sequence, *rest = WAL_HEADER.unpack_from(raw)
        salt, stored = (rest[0], rest[1]), (rest[2], rest[3])
        fault = None
        if magic & ~1 != WAL_MAGIC:
            fault = WalFault.BAD_MAGIC
        elif not is_page_size(page_size):
            fault = WalFault.BAD_PAGE_SIZE
        elif checksum(raw[: WAL_HEADER_SIZE - 8], big_endian=bool(magic & 1)) != stored:
            fault = WalFault.BAD_CHECKSUM
        elif version != WAL_VERSION:
            fault = WalFault.NEWER_VERSION
        return cls(
            magic=magic,
            version=version,
            page_size=page_size,
            sequence=sequence,
            salt=salt,
            checksum=stored,
            fault=fault,
        )

    @property
    def big_endian(self) -> bool:
        """True if checksums read big-endian words; every field is big-endian anyway."""
        return bool(self.magic & 1)
