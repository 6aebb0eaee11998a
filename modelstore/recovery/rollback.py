"""A hot rollback journal: the pages as they were before a transaction that never ended.

The new file takes the transaction back; the old files stay as they are.
https://www.sqlite.org/fileformat2.html#the_rollback_journal
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.wal.files import read_at
from modelstore.wal.format import is_page_size

if TYPE_CHECKING:
    from modelstore.recovery.evidence import EvidenceFile

_HEADER = struct.Struct(">8s5I")  # magic, records, nonce, pages before, sector size, page size
_MAGIC = bytes.fromhex("d9d505f920a163d7")
_UNTIL_THE_END = 0xFFFFFFFF  # records: as many as the file holds
_MAX_SECTOR = 65536


@dataclass(frozen=True, slots=True)
class Rollback:
    """The journal's pages: the offset of each in the journal; `pages_before` is the old size."""

    file: EvidenceFile
    page_size: int
    pages_before: int
    pages: dict[int, int]

    def image(self, number: int) -> bytes:
        """Return page `number` as it was before the transaction."""
        return read_at(self.file.fd, self.page_size, self.pages[number])


def read_rollback(file: EvidenceFile) -> Rollback | None:
    """Return the pages of a journal up to the first record that is not whole, as SQLite does."""
    size = file.size
    pages: dict[int, int] = {}
    first: tuple[int, int] | None = None  # page size, pages before
    at = 0
    while at + _HEADER.size <= size:
        magic, count, nonce, before, sector, page_size = _HEADER.unpack(
            read_at(file.fd, _HEADER.size, at)
        )
        is_sound = magic == _MAGIC and is_page_size(page_size) and 32 <= sector <= _MAX_SECTOR
        if not is_sound or (first is not None and first[0] != page_size):
            break
        first = first or (page_size, before)
        start = at + sector
        records = (size - start) // (page_size + 8) if count == _UNTIL_THE_END else count
        done = _read_records(file.fd, start, records, page_size, nonce, pages)
        if done < records or not records:
            break
        at = -(-(start + records * (page_size + 8)) // sector) * sector
    if first is None or not pages:
        return None
    return Rollback(file, first[0], first[1], pages)


def _read_records(
    fd: int, start: int, count: int, page_size: int, nonce: int, pages: dict[int, int]
) -> int:
    """Add the pages of one segment; return how many of its records are whole."""
    for done in range(count):
        at = start + done * (page_size + 8)
        record = read_at(fd, page_size + 8, at)
        if len(record) < page_size + 8:
            return done
        number, stored = struct.unpack_from(">I", record)[0], record[4 + page_size :]
        sample = sum(record[4 + page_size - 200 : 4 : -200])
        if not number or (nonce + sample) & 0xFFFFFFFF != int.from_bytes(stored, "big"):
            return done
        pages.setdefault(number, at + 4)  # the first image is the oldest
    return count
