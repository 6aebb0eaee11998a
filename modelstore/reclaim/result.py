"""The bytes that could be freed, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["orphan", "superseded", "unfinished"]
"""orphan: content that no model of its store names; superseded: revisions of a repository that no
branch or tag names, beside one that has a name; unfinished: a download that was broken off."""

Inode = tuple[int, int]  # st_dev and st_ino


@dataclass(frozen=True, slots=True)
class Leftover:
    """Files that no model needs, and one command that frees them."""

    kind: Kind
    source: str  # the kind of the store
    name: str  # of the repository or the file
    paths: tuple[str, ...]
    size: int  # bytes that the command frees
    command: str
    inodes: frozenset[Inode] = field(default=frozenset(), repr=False)  # that are freed


@dataclass(frozen=True, slots=True)
class Copy:
    """One of several copies of the same files, each on the disk by itself."""

    model: str  # id
    name: str
    source: str  # the kind of the store that has it; "directory" for loose files
    paths: tuple[str, ...]  # hard links included
    frees: int  # bytes, if this copy alone goes
    is_certain: bool  # False: only size and samples are the same
    command: str | None  # None for the copy to keep, and as long as it may be another's


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Copies of the same files, the same number of them in each.

    The first is to be kept and has no command, so all commands of a report can be run.
    """

    host: str
    size: int  # bytes of one copy
    sha256: str | None  # of the first file, if it is known
    copies: tuple[Copy, ...]
    frees: int  # bytes, if one copy is kept

    @property
    def is_certain(self) -> bool:
        """True if all copies have one SHA-256."""
        return all(copy.is_certain for copy in self.copies)


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The report: every kind with its bytes, the largest first; and what was left out of it."""

    duplicates: tuple[Duplicate, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(one.frees for one in self.duplicates) + sum(one.size for one in self.leftovers)

    def of(self, kind: Kind) -> tuple[Leftover, ...]:
        """Return the leftovers of one kind."""
        return tuple(one for one in self.leftovers if one.kind == kind)
