"""Recognition of an encrypted database by its bytes: SQLCipher, SEE and their relatives.

They encrypt the pages of the database and of its log; the headers of the log and of its frames stay
readable. https://www.zetetic.net/sqlcipher/design/
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.wal.files import read_at
from modelstore.wal.format import DATABASE_HEADER_SIZE, page_offset
from modelstore.wal.pages import read_main_page

if TYPE_CHECKING:
    from modelstore.wal.pages import MainSource, PageVersions

_SAMPLE = 16  # pages of the log
_RANDOM = 7.2  # bits a byte; 512 random bytes have about 7.6, a page of text below 6


def is_encrypted(main: MainSource | None, log: int | None, pages: PageVersions) -> bool:
    """Return True if page 1 and a sample of the pages in the log look like random bytes.

    Some relatives leave the database header readable, so page 1 counts from behind it. Ask only
    where the schema cannot be read.
    """
    if log is None or not pages:
        return False
    size = pages.page_size
    offset = pages.offset(1)
    first = b""
    if offset is not None:
        first = read_at(log, size, offset)
    elif main is not None:
        first = read_main_page(main, size, 1)
    step = max(1, len(pages) // _SAMPLE)
    sample = (
        read_at(log, size, page_offset(pages.last_frame(index), size))
        for index in islice(range(0, len(pages), step), _SAMPLE)
    )
    return _looks_random(first[DATABASE_HEADER_SIZE:]) and all(map(_looks_random, sample))


def _looks_random(data: bytes) -> bool:
    """Return True if the bytes have nearly the entropy of random ones."""
    if not data:
        return False
    counts = Counter(data).values()
    bits = -sum(count / len(data) * math.log2(count / len(data)) for count in counts)
    # A short sample cannot have every byte value.
    return bits > min(_RANDOM, 0.9 * math.log2(len(data)))
