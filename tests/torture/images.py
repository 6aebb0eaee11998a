"""What a disk may hold after a power cut, from the log of what was written and synced.

The model is stricter than most disks: until a file is synced, each of its writes and truncations
may be there or not, in any combination, or be torn at a sector's edge; a new or deleted name
counts only once its directory is synced; and what a failed sync was to save is gone for good.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from tests.torture.shim import Kind, Op, Record

SECTORS = (512, 4096)

_T = TypeVar("_T")

Image = dict[Kind, bytes]
"""The content of each file that there is."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A write of `data` at `offset`, or, without data, a truncation to that size."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        if self.data is not None:
            content[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self, size: int) -> Iterator[_Change]:
        """Split a write at the edges of the disk's sectors."""
        if self.data is None:
            yield self
            return
        at, end = self.offset, self.offset + len(self.data)
        while at < end:
            edge = min(end, at - at % size + size)
            yield _Change(at, self.data[at - self.offset : edge - self.offset])
            at = edge


@dataclass(slots=True)
class _File:
    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[_Change] = field(default_factory=list)

    def change(self, change: _Change) -> None:
        change.apply(self.now)
        self.pending.append(change)

    def sync(self) -> None:
        self.durable = self.after(self.pending)
        self.pending.clear()

    def after(self, changes: Iterable[_Change]) -> bytes:
        content = bytearray(self.durable)
        for change in changes:
            change.apply(content)
        return bytes(content)


class Disk:
    """A directory with one database, as its records say that it was changed."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[Kind, int] = {}
        self._durable_names: dict[Kind, int] = {}
        self._pending_names: list[tuple[Kind, int | None]] = []

    def seed(self, kind: Kind, inode: int, content: bytes) -> None:
        """Put a file in place that was on disk before the recording began."""
        self._files[inode] = _File(bytearray(content), content)
        self._names[kind] = self._durable_names[kind] = inode

    def apply(self, record: Record) -> None:
        """Take one record in."""
        if record.op is Op.SYNC:
            self._sync(record)
        elif record.error or record.kind not in {Kind.DB, Kind.WAL, Kind.JOURNAL}:
            return
        elif record.op is Op.OPEN:
            if record.created:
                self._files[record.inode] = _File()
                self._name(record.kind, record.inode)
            if record.emptied:
                self._files[record.inode].change(_Change(0, None))
        elif record.op is Op.WRITE:
            self._files[record.inode].change(_Change(record.offset, record.data))
        elif record.op is Op.TRUNCATE:
            self._files[record.inode].change(_Change(record.offset, None))
        elif record.op is Op.UNLINK:
            self._name(record.kind, None)
        assert record.op is not Op.RENAME, "a rename is more than this model knows"

    def _sync(self, record: Record) -> None:
        if record.kind is Kind.DIRECTORY:
            if not record.error:
                self._durable_names = dict(self._names)
                self._pending_names.clear()
        elif record.inode in self._files:
            file = self._files[record.inode]
            if record.error:
                file.pending.clear()  # the kernel calls them clean and may drop them
            else:
                file.sync()

    def _name(self, kind: Kind, inode: int | None) -> None:
        _rename(self._names, kind, inode)
        self._pending_names.append((kind, inode))

    def now(self) -> Image:
        """Return what a process sees: nothing is lost."""
        return {kind: bytes(self._files[inode].now) for kind, inode in self._names.items()}

    def durable(self) -> Image:
        """Return what is left where everything that may be lost is."""
        return {kind: self._files[inode].durable for kind, inode in self._durable_names.items()}

    def images(self, rng: random.Random, count: int) -> Iterator[Image]:
        """Yield what may be left: all, nothing of what was not synced, and `count` mixtures."""
        yield self.now()
        yield self.durable()
        for _ in range(count):
            names = dict(self._durable_names)
            for kind, inode in _some(self._pending_names, rng):
                _rename(names, kind, inode)
            yield {kind: _mixture(self._files[inode], rng) for kind, inode in sorted(names.items())}


def _rename(names: dict[Kind, int], kind: Kind, inode: int | None) -> None:
    if inode is None:
        names.pop(kind, None)
    else:
        names[kind] = inode


def _some(things: list[_T], rng: random.Random) -> list[_T]:
    """Return none, all, the first few, or any of some things, in their order."""
    how = rng.randrange(4)
    if how == 0:
        return []
    if how == 1:
        return things
    if how == 2:
        return things[: rng.randint(0, len(things))]
    share = rng.choice((0.1, 0.5, 0.9))
    return [thing for thing in things if rng.random() < share]


def _mixture(file: _File, rng: random.Random) -> bytes:
    """Return what may be left of a file."""
    if not file.pending:
        return file.durable
    kept = _some(file.pending, rng)
    torn = rng.choice((None, "last", "any"))
    if torn is not None and kept:
        size = rng.choice(SECTORS)
        which = len(kept) - 1 if torn == "last" else rng.randrange(len(kept))
        kept = [*kept[:which], *_some(list(kept[which].sectors(size)), rng), *kept[which + 1 :]]
    content = file.after(kept)
    if rng.random() < 0.1 and len(content) > len(file.durable):  # never written: anything
        return content[: len(file.durable)] + _garbage(content, file, kept, rng)
    return content


def _garbage(content: bytes, file: _File, kept: list[_Change], rng: random.Random) -> bytes:
    """Return the part beyond the durable end, with noise where nothing was written."""
    begin = len(file.durable)
    result = bytearray(rng.randbytes(len(content) - begin))
    for change in kept:
        if change.data is None:
            continue
        start = max(change.offset, begin)
        end = min(change.offset + len(change.data), len(content))
        result[max(0, start - begin) : max(0, end - begin)] = content[start:end]
    return bytes(result)
