"""The 32 bytes at the start of a ``-wal``: a value that parses and validates itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from modelstore.errors import RefusedError
from modelstore.wal.checksum import checksum
from modelstore.wal.layout import (
    WAL_HEADER,
    WAL_HEADER_SIZE,
    WAL_MAGIC,
    WAL_VERSION,
    is_page_size,
)


class WalFault(Enum):
    """Why a ``-wal`` has no header that SQLite accepts; the value says it in words."""

    ABSENT = "there is no -wal file"
    EMPTY = "the -wal file is empty"
    SHORT = "the -wal file ends inside its 32-byte header"
    BAD_MAGIC = "the -wal file does not begin with the magic number of a log"
    BAD_PAGE_SIZE = "the page size in the log's header is not a power of two from 512 to 65536"
    BAD_CHECKSUM = "the checksum of the log's header is wrong"
    NEWER_VERSION = "the log has a format version that SQLite does not open"

    @property
    def is_normal(self) -> bool:
        """Whether a healthy database may look like this: no log, or one just truncated."""
        return self in {WalFault.ABSENT, WalFault.EMPTY}

    @property
    def is_damage(self) -> bool:
        """Whether the header's bytes are wrong, which makes SQLite ignore the whole log."""
        return self in {WalFault.BAD_MAGIC, WalFault.BAD_PAGE_SIZE, WalFault.BAD_CHECKSUM}


class WalHeaderError(RefusedError):
    """The bytes are no header of a log that SQLite accepts; `fault` says why."""

    def __init__(self, fault: WalFault) -> None:
        super().__init__(fault.value, hint="inspect the log before anything opens the database")
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class WalHeader:
    """The header of a log. `page_size` is in bytes, `sequence` counts the log's restarts.

    `big_endian` tells how the checksums read their words, the magic number's lowest bit; every
    field of the file is big-endian. https://www.sqlite.org/fileformat2.html#walformat
    """

    magic: int
    version: int
    page_size: int
    sequence: int
    salt: tuple[int, int]
    checksum: tuple[int, int]
    fault: WalFault | None
    """What SQLite finds wrong with it, in the order in which SQLite looks."""

    @classmethod
    def parse(cls, raw: bytes) -> WalHeader:
        """Return the header in the first 32 bytes of `raw`; raise `WalHeaderError` if not sound."""
        header = cls.unpack(raw)
        if header.fault is not None:
            raise WalHeaderError(header.fault)
        return header

    @classmethod
    def unpack(cls, raw: bytes) -> WalHeader:
        """Return the fields in `raw` whatever they hold, any `fault` noted; raise if too short."""
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
        """Whether the checksums read their words big-endian."""
        return bool(self.magic & 1)
