"""The freelist: the pages of a database that hold nothing.

https://www.sqlite.org/fileformat2.html#the_freelist
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from modelstore.wal.pages import PageSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.pages import DatabaseView


def freelist(view: DatabaseView) -> Iterator[tuple[int, list[int]]]:
    """Yield each trunk page of the freelist with the leaf pages that it lists."""
    seen = PageSet()
    number = view.header.freelist_trunk
    while number:
        data = view.page(number)
        following, count = struct.unpack_from(">II", data)
        if count > view.usable // 4 - 2:
            raise view.corrupt(f"freelist page {number} cannot list {count} pages")
        if not seen.add(number):
            raise view.corrupt(f"the freelist comes back to page {number}")
        yield number, list(struct.unpack_from(f">{count}I", data, 8))
        number = following
