"""Copies of a busy database's pages, read within a moment in which nobody wrote the main file.

A look at a large log takes longer than two busy writers need for a checkpoint. To read the pages
that it needs takes a hundredth of that, so a look that was raced is made again on copies. No lock
is taken: the application never waits, and checkpoints as it likes.
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
    from modelstore.wal.stillness import OpenFiles, Stamp

_TRIES = 40
_MAX_BYTES = 64 << 20  # of a log that are copied, and of the main file
_U16, _U32 = struct.Struct(">H"), struct.Struct(">I")
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
    def take(cls, files: OpenFiles, wanted: Iterable[int], stack: ExitStack) -> Self | None:
        """Copy the log, its pages in the main file and the `wanted` ones, until `stack` ends.

        Return None if the files changed during each try, or are too large to be copied.
        """
        if files.main is None or files.log is None:
            return None
        before = files.stamp()
        for _ in range(_TRIES):
            if before.main is None:
                return None
            size = os.fstat(files.log).st_size
            end = _end_of_commits(size, before)
            copier = _Copier(files.main, read_at(files.log, min(end, _MAX_BYTES), 0))
            if end > _MAX_BYTES or not copier.copy(wanted):
                return None
            after = files.stamp(before)
            if before.settles(after):
                main = CopiedMain(files.main, before.main[3], copier.pages)
                return cls(main, _nameless(copier.log, stack), size, before)
            before = after
        return None

    def scan(self) -> WalScan:
        """Scan the copy of the log, and count the frames that it leaves out as unexamined."""
        found = scan_wal(self.log)
        left_out = (self.log_size - found.size) // frame_size(found.page_size)
        return replace(found, size=self.log_size, unexamined=found.unexamined + left_out)

    def lacks(self, numbers: Iterable[int]) -> bool:
        """Tell whether any of the pages was not copied."""
        return any(number not in self.main.pages for number in numbers)


def _end_of_commits(size: int, stamp: Stamp) -> int:
    """Return the bytes of a log up to its last commit; all `size` if no index tells that."""
    index = stamp.index
    if index is None:
        return size
    return min(size, WAL_HEADER_SIZE + index.max_frame * frame_size(index.page_size))


class _Copier:
    """Copies pages of a main file that a look at the database with this log will need."""

    def __init__(self, main: int, log: bytes) -> None:
        self.log = log
        self.pages: dict[int, bytes] = {}
        self._main = main
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
        new = {1, *self._newest, *wanted}
        while new:
            if (len(self.pages) + len(new)) * self._size > _MAX_BYTES:
                return False
            self._read(new)
            new = self._interiors_below(new)
        self._read(self._freed())
        return True

    def _read(self, numbers: Iterable[int]) -> None:
        """Read pages in ascending order; neighbours take one call together."""
        size, ordered = self._size, sorted(numbers)
        start = 0
        for at in range(1, len(ordered) + 1):
            if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
                first = ordered[start]
                data = read_at(self._main, (at - start) * size, (first - 1) * size)
                for place in range(at - start):
                    self.pages[first + place] = data[place * size : (place + 1) * size]
                start = at

    def _interiors_below(self, numbers: Iterable[int]) -> set[int]:
        """Return the interior pages that are children of these and were not copied yet."""
        found: set[int] = set()
        for number in numbers:
            for data, at in self._versions(number):
                children = _children(data, at, number)
                first = next(children, 0)
                if first and self._is_interior(first):
                    found.add(first)
                    found.update(children)
        return found - self.pages.keys()

    def _is_interior(self, number: int) -> bool:
        if number not in self.pages:
            self._read([number])
        return any(_is_interior(data, at, number) for data, at in self._versions(number))

    def _freed(self) -> set[int]:
        """Return the pages that are children in the main file and not with the log.

        A page that becomes free is not written, yet its rows count for the main file alone.
        """
        before: set[int] = set()
        after: set[int] = set()
        for number, at in self._newest.items():
            before.update(_children(self.pages[number], 0, number))
            after.update(_children(self.log, at, number))
        return before - after - self.pages.keys()

    def _versions(self, number: int) -> Iterator[tuple[bytes, int]]:
        yield self.pages[number], 0
        if number in self._newest:
            yield self.log, self._newest[number]


def _is_interior(data: bytes, at: int, number: int) -> bool:
    at += DATABASE_HEADER_SIZE if number == 1 else 0
    return at < len(data) and data[at] in INTERIORS


def _children(data: bytes, at: int, number: int) -> Iterator[int]:
    """Yield the children of page `number`, which is at offset `at`; a leaf has none."""
    if not _is_interior(data, at, number):
        return
    header = at + (DATABASE_HEADER_SIZE if number == 1 else 0)
    try:
        (count,) = _U16.unpack_from(data, header + 3)
        yield _U32.unpack_from(data, header + 8)[0]
        for cell in struct.unpack_from(f">{count}H", data, header + 12):
            yield _U32.unpack_from(data, at + cell)[0]
    except struct.error:  # no b-tree page after all
        return


def _nameless(log: bytes, stack: ExitStack) -> int:
    """Return a descriptor of a nameless file with these bytes."""
    file = stack.enter_context(tempfile.TemporaryFile())
    file.write(log)
    file.flush()
    return file.fileno()
