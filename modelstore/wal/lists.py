"""The pages of no table: the freelist and the pointer maps.

https://www.sqlite.org/fileformat2.html#the_freelist
https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from modelstore.wal.overlay import PageSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.wal.pages import View

# Types of pages in a pointer map; 2 is a page of the freelist.
ROOT, FIRST_OVERFLOW, LATER_OVERFLOW, BTREE = 1, 3, 4, 5
_PENDING_BYTE = 0x40000000  # the page with this byte is for locks and never holds content
_ENTRY = struct.Struct(">BI")


def freelist(view: View) -> Iterator[tuple[int, list[int]]]:
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


def pointer_map_of(view: View, number: int) -> int:
    """Return the pointer-map page that has the entry of page `number`; 0 if there is none."""
    if not view.header.largest_root or number < 2:
        return 0
    span = view.usable // 5 + 1
    page = (number - 2) // span * span + 2
    return page + 1 if page == _PENDING_BYTE // view.page_size + 1 else page


def parent(view: View, number: int) -> tuple[int, int]:
    """Return type and parent of page `number`, as its pointer map has it; 0, 0 if it has none."""
    map_page = pointer_map_of(view, number)
    at = _ENTRY.size * (number - map_page - 1)
    if map_page == 0 or not 0 <= at <= view.usable - _ENTRY.size:
        return 0, 0
    kind, page = _ENTRY.unpack_from(view.page(map_page), at)
    return kind, page
