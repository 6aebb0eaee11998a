"""Copies of a busy database's pages, read within a moment in which nobody wrote the main file.

A look at a log takes longer than two busy writers need for a checkpoint. To read the pages that it
needs takes a tenth of that, so a log in use is looked at in copies, and a large one where a look at
the files was raced. No lock is taken: the application never waits, and checkpoints as it likes.
"""

from __future__ import annotations

import os
import struct
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from modelstore.wal.files import read_at
from modelstore.wal.format import (
    DATABASE_HEADER_SIZE,
    FRAME_HEADER_SIZE,
    FREELIST_TRUNK,
    WAL_HEADER_SIZE,
    WalHeader,
    WalHeaderError,
    frame_size,
)
from modelstore.wal.pages import INTERIORS, CopiedMain
from modelstore.wal.scan import scan_wal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import ExitStack

    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex
    from modelstore.wal.stillness import OpenFiles, Stamp

_TRIES = 40
MOST = 64 << 20
"""The most bytes of a log that are copied, and of a main file."""
_MAX_CELLS = 1 << 16  # of a page; its pointers have 16 bits
_NO_PAGE = bytes(4)
_U16 = struct.Struct(">H")
_PAGE_NUMBER = struct.Struct(">I4x8s")  # of a frame's header: page number, commit size, salts


@dataclass(frozen=True, slots=True)
class Capture:
    """Copies of the log and of some pages of the main file, as they were at one moment.

    `log` is a descriptor of a copy that ends with the last commit; `log_size` is the size in bytes
    of the log itself.
    """

    main: CopiedMain
    log: int
    log_size: int
    stamp: Stamp

    @classmethod
    def take(
        cls, files: OpenFiles, wanted: Iterable[int], stack: ExitStack, most: int = MOST
    ) -> Self | None:
        """Copy the log, its pages in the main file and the `wanted` ones, until `stack` ends.

        Return None if the files changed during each try, or if more than `most` bytes of the log,
        or of the main file, would have to be copied.
        """
        if files.main is None or files.log is None:
            return None
        before = files.stamp()
        for _ in range(_TRIES):
            if before.main is None:
                return None
            size = os.fstat(files.log).st_size
            end = _end_of_commits(size, before)
            if end > most:
                return None
            copier = _Copier(files.main, read_at(files.log, end, 0), most)
            if not copier.copy(wanted):
                return None
            after = files.stamp(before)
            if before.settles(after):
                main = CopiedMain(files.main, before.main[3], copier.pages)
                return cls(main, _nameless(copier.log, stack), size, before)
            before = after
        return None

    def scan(self, files: OpenFiles) -> WalScan:
        """Scan the copy of the log, and the rest of the log if nobody has committed since.

        Otherwise the frames that the copy leaves out count as unexamined.
        """
        found = scan_wal(self.log)
        if self.log_size > found.size and files.log is not None and self._is_newest(files):
            whole = scan_wal(files.log)
            if not whole.changed_while_reading and _last_commit(whole) == _last_commit(found):
                return whole
        left_out = (self.log_size - found.size) // frame_size(found.page_size)
        return replace(found, size=self.log_size, unexamined=found.unexamined + left_out)

    def _is_newest(self, files: OpenFiles) -> bool:
        then, now = self.stamp.index, files.stamp(self.stamp).index
        return then is not None and now is not None and _commit(then) == _commit(now)

    def lacks(self, numbers: Iterable[int]) -> bool:
        """Tell whether any of the pages was not copied."""
        return any(number not in self.main.pages for number in numbers)


def _commit(index: WalIndex) -> object:
    return index.salt, index.max_frame, index.frame_checksum


def _last_commit(scan: WalScan) -> object:
    return scan.header, scan.max_frame, scan.frame_checksum


def _end_of_commits(size: int, stamp: Stamp) -> int:
    """Return the bytes of a log up to its last commit; all `size` if no index tells that."""
    index = stamp.index
    if index is None:
        return size
    return min(size, WAL_HEADER_SIZE + index.max_frame * frame_size(index.page_size))


class _TooMuchError(Exception):
    """More pages would have to be copied than are allowed."""


class _Copier:
    """Copies pages of a main file that a look at the database with this log will need."""

    def __init__(self, main: int, log: bytes, most: int) -> None:
        self.log = log
        self.pages: dict[int, bytes] = {}
        self._main = main
        self._most = most
        self._size = 0  # of a page
        self._newest: dict[int, int] = {}  # offset of the newest version of each page in the log
        try:
            header = WalHeader.unpack(log[:WAL_HEADER_SIZE])
        except WalHeaderError:
            return
        if header.fault is None:
            self._size = header.page_size
            self._newest = dict(self._frames(log[16:24]))

    def _frames(self, salt: bytes) -> Iterator[tuple[int, int]]:
        stride = frame_size(self._size)
        for at in range(WAL_HEADER_SIZE, len(self.log) - stride + 1, stride):
            number, salts = _PAGE_NUMBER.unpack_from(self.log, at)
            if number and salts == salt:
                yield number, at + FRAME_HEADER_SIZE

    def copy(self, wanted: Iterable[int]) -> bool:
        """Copy the pages of the log, the wanted ones, and those to which they lead.

        Return False for a log without a sound header, and for too many pages.
        """
        if not self._size:
            return False
        try:
            new = {1, *self._newest, *wanted}
            entered: set[int] = set()
            while new:
                self._read(new)
                entered |= new
                new = self._parents_below(new) - entered
            self._read_freed()
            self._read_freelist()
        except _TooMuchError:
            return False
        return True

    def _read(self, numbers: Iterable[int]) -> None:
        """Read the pages that are not here yet, in ascending order; neighbours in one call."""
        size, ordered = self._size, sorted(n for n in numbers if n not in self.pages)
        if (len(self.pages) + len(ordered)) * size > self._most:
            raise _TooMuchError
        start = 0
        for at in range(1, len(ordered) + 1):
            if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
                first = ordered[start]
                data = read_at(self._main, (at - start) * size, (first - 1) * size)
                for place in range(at - start):
                    self.pages[first + place] = data[place * size : (place + 1) * size]
                start = at

    def _parents_below(self, numbers: Iterable[int]) -> set[int]:
        """Copy the interior pages that are children of these; return those with such children.

        Siblings are of one kind, and so are their children: the first ones tell it.
        """
        parents: set[int] = set()
        for number in numbers:
            for page in self._versions(number):
                if not self._leads_to_interiors(page, number):
                    continue
                children = [_number(pointer) for pointer in _pointers(page, number)]
                self._read(children)
                firsts = [(p, n) for n in children[:1] for p in self._versions(n)]
                if any(self._leads_to_interiors(*first) for first in firsts):
                    parents.update(children)
        return parents

    def _leads_to_interiors(self, page: bytes, number: int) -> bool:
        """Tell whether the children of a page are interior pages; copy the first of them."""
        for pointer in _pointers(page, number, 1):
            first = _number(pointer)
            self._read([first])
            return any(_is_interior(version, first) for version in self._versions(first))
        return False

    def _read_freed(self) -> None:
        """Copy the pages that are children in the main file and not with the log.

        A page that becomes free is not written, yet its rows count for the main file alone. Neither
        are its own children: SQLite 3.54 writes nothing but the root of a table that it drops.
        """
        freed: set[bytes] = set()
        for number in self._newest:
            former, newest = self._versions(number)
            if former != newest:
                children = set(_pointers(former, number))
                freed |= children.difference(_pointers(newest, number)) if children else children
        entered: set[int] = set()
        while freed:
            numbers = {_number(pointer) for pointer in freed} - entered
            self._read(numbers)
            entered |= numbers
            freed = {p for n in numbers - self._newest.keys() for p in _pointers(self.pages[n], n)}

    def _read_freelist(self) -> None:
        """Copy the trunk pages of the freelist, with the log and without it."""
        for page in self._versions(1):
            seen: set[int] = set()
            number = _number(page[FREELIST_TRUNK : FREELIST_TRUNK + 4])
            while number and number not in seen:
                seen.add(number)
                self._read([number])
                number = _number(self._versions(number)[-1][:4])

    def _versions(self, number: int) -> list[bytes]:
        """Return the page in the main file, and its newest version in the log if there is one."""
        at = self._newest.get(number)
        in_main = self.pages[number]
        return [in_main] if at is None else [in_main, self.log[at : at + self._size]]


def _number(pointer: bytes) -> int:
    return int.from_bytes(pointer, "big")


def _is_interior(page: bytes, number: int) -> bool:
    at = DATABASE_HEADER_SIZE if number == 1 else 0
    return at < len(page) and page[at] in INTERIORS


def _pointers(page: bytes, number: int, most: int = _MAX_CELLS) -> list[bytes]:
    """Return the children of page `number` as it has them, in 4 bytes each; a leaf has none.

    They are in the order of their keys, and no more than the first `most` of them.
    """
    if not _is_interior(page, number):
        return []
    header = DATABASE_HEADER_SIZE if number == 1 else 0
    try:
        (count,) = _U16.unpack_from(page, header + 3)
        cells = struct.unpack_from(f">{min(count, most)}H", page, header + 12)
    except struct.error:  # no b-tree page after all
        return []
    if cells and max(cells) > len(page) - 4:
        return []
    found = [page[cell : cell + 4] for cell in cells]
    if count < most:
        found.append(page[header + 8 : header + 12])
    return [] if _NO_PAGE in found else found


def _nameless(log: bytes, stack: ExitStack) -> int:
    """Return a descriptor of a nameless file with these bytes."""
    file = stack.enter_context(tempfile.TemporaryFile())
    file.write(log)
    file.flush()
    return file.fileno()
