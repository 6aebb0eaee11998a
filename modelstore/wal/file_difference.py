"""Differences between the two views of a database that are no rows: header fields, indexes, pages.

A log that changes no row may still matter: ``PRAGMA user_version``, a REINDEX that mends an index,
a freelist, a VACUUM. https://www.sqlite.org/fileformat2.html#the_database_header
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.text import plural
from modelstore.wal.page_owners import PageRole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.wal.format import DatabaseHeader
    from modelstore.wal.loss_report import ObjectPages, TableLoss

_AUTO_VACUUM = ("none", "full", "incremental")
_ENCODINGS = ("unset", "UTF-8", "UTF-16le", "UTF-16be")
_FREELIST_ROLES = frozenset({PageRole.TRUNK, PageRole.FREE})


class DifferenceKind(Enum):
    """A kind of difference; the value is its stable code in JSON."""

    USER_VERSION = "user_version"
    APPLICATION_ID = "application_id"
    AUTO_VACUUM = "auto_vacuum"
    TEXT_ENCODING = "text_encoding"
    SCHEMA_COOKIE = "schema_cookie"
    CACHE_SIZE = "default_cache_size"
    RESERVED = "reserved_bytes"
    PAGE_COUNT = "page_count"
    FREELIST = "freelist"
    ROWIDS = "rowids"
    INDEX = "index"
    PAGES = "pages"

    @property
    def is_setting(self) -> bool:
        """True for a value that a program sets, as against one that follows from other changes."""
        return self in _SETTINGS


_SETTINGS = frozenset(
    {
        DifferenceKind.USER_VERSION,
        DifferenceKind.APPLICATION_ID,
        DifferenceKind.AUTO_VACUUM,
        DifferenceKind.TEXT_ENCODING,
        DifferenceKind.CACHE_SIZE,
        DifferenceKind.RESERVED,
    }
)


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A difference of one `kind`: the value `with_log`, and the value of the main file `alone`.

    `name` is the table or index. `pages` counts the differing pages of an index or, for PAGES, of
    the whole log.
    """

    kind: DifferenceKind
    name: str | None = None
    with_log: int | str | None = None
    alone: int | str | None = None
    pages: int = 0

    @property
    def words(self) -> str:
        """The difference as a clause, such as "user_version is 7 with the log, 0 without it"."""
        if self.kind is DifferenceKind.ROWIDS:
            return f"the rowids of {self.name} differ, its rows do not"
        if self.kind is DifferenceKind.INDEX:
            return f"index {self.name} differs in {plural(self.pages, 'page')}"
        if self.kind is DifferenceKind.PAGES:
            return f"{plural(self.pages, 'page')} {'differs' if self.pages == 1 else 'differ'}"
        if self.kind is DifferenceKind.FREELIST and self.with_log == self.alone:
            return "the freelist has other pages"
        name = _NAMES.get(self.kind, self.kind.value)
        return f"{name} is {self.with_log} with the log, {self.alone} without it"


_NAMES = {
    DifferenceKind.FREELIST: "the number of free pages",
    DifferenceKind.PAGE_COUNT: "the number of pages",
    DifferenceKind.SCHEMA_COOKIE: "the schema cookie",
    DifferenceKind.TEXT_ENCODING: "the text encoding",
    DifferenceKind.RESERVED: "the number of reserved bytes a page",
}


def file_differences(
    live: DatabaseHeader,
    main: DatabaseHeader | None,
    counts: tuple[int, int],
    objects: Iterable[ObjectPages],
    tables: Iterable[TableLoss],
) -> Iterator[FileDifference]:
    """Yield the differences of the main file from the database with its log.

    `counts` are the numbers of pages with the log, and of the main file alone. Without a header in
    the main file (`main`), yields nothing of it.
    """
    objects = tuple(objects)
    if main is not None:
        yield from _header_differences(live, main)
        if counts[0] != counts[1]:
            yield FileDifference(DifferenceKind.PAGE_COUNT, None, *counts)
        before, after = _freelist(main), _freelist(live)
        if before != after or _free_pages(objects):
            yield FileDifference(
                DifferenceKind.FREELIST, None, live.freelist_count, main.freelist_count
            )
    for table in tables:
        if table.new_rowids:
            yield FileDifference(DifferenceKind.ROWIDS, table.name)
    for item in objects:
        if item.object is not None and item.object.type == "index" and item.differing:
            yield FileDifference(DifferenceKind.INDEX, item.object.name, pages=item.differing)
    pages = sum(item.differing for item in objects)
    if pages:
        yield FileDifference(DifferenceKind.PAGES, pages=pages)


def _header_differences(live: DatabaseHeader, main: DatabaseHeader) -> Iterator[FileDifference]:
    for kind, ours, theirs in (
        (DifferenceKind.USER_VERSION, live.user_version, main.user_version),
        (DifferenceKind.APPLICATION_ID, live.application_id, main.application_id),
        (DifferenceKind.AUTO_VACUUM, _auto_vacuum(live), _auto_vacuum(main)),
        (DifferenceKind.TEXT_ENCODING, _encoding(live), _encoding(main)),
        (DifferenceKind.SCHEMA_COOKIE, live.schema_cookie, main.schema_cookie),
        (DifferenceKind.CACHE_SIZE, live.cache_size, main.cache_size),
        (DifferenceKind.RESERVED, live.reserved, main.reserved),
    ):
        if ours != theirs:
            yield FileDifference(kind, None, ours, theirs)


def _auto_vacuum(header: DatabaseHeader) -> str:
    mode = 0 if not header.largest_root else 2 if header.incremental_vacuum else 1
    return _AUTO_VACUUM[mode]


def _encoding(header: DatabaseHeader) -> str:
    return _ENCODINGS[header.text_encoding & 3]  # as SQLite does (prepare.c, ``sqlite3InitOne``)


def _freelist(header: DatabaseHeader) -> tuple[int, int]:
    return header.freelist_count, header.freelist_trunk


def _free_pages(objects: Iterable[ObjectPages]) -> bool:
    return any(item.differing and _FREELIST_ROLES & item.roles.keys() for item in objects)
