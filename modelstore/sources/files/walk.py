"""The walk of a directory tree: the files that can be part of a model, directory by directory."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.found import Skipped
from modelstore.sources.base import Note
from modelstore.sources.files.grouping import is_relevant
from modelstore.sources.files.local_files import LocalFile, from_stat
from modelstore.text import plural
from modelstore.wal.files import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MAX_ENTRIES = 20_000_000  # of a tree, of any type
MAX_HELD = 200_000  # of one directory, held in memory at a time
MAX_NAMES = 20_000  # of one directory, to recognise a store by
_NEVER = frozenset(
    (".git", ".hg", ".svn", ".snapshots", ".zfs", ".Trash", ".Trashes", "lost+found", "__MACOSX")
)
"""Directories of deleted files, or of other versions of files."""


@dataclass(slots=True)
class Listing:
    """The relevant entries of one directory; all but the files are sorted."""

    path: str  # as seen
    files: list[LocalFile] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)  # names
    links: list[str] = field(default_factory=list)  # names of links to directories
    skipped: list[Skipped] = field(default_factory=list)
    entries: int = 0
    names: set[str] = field(default_factory=set)  # of the first `MAX_NAMES` entries
    outside: list[tuple[str, str]] = field(default_factory=list)  # links and what they lead to

    def without(self, names: Collection[str]) -> None:
        """Leave out what belongs to somebody else: a store in this directory."""
        self.files = [file for file in self.files if file.name not in names]
        self.directories = [name for name in self.directories if name not in names]
        self.links = [name for name in self.links if name not in names]
        self.skipped = [one for one in self.skipped if os.path.basename(one.what) not in names]

    @property
    def held(self) -> int:
        """Count the entries that are held in memory."""
        return len(self.files) + len(self.directories) + len(self.links) + len(self.skipped)


def walk(root: str, look: Callable[[Listing], None] = lambda _listing: None) -> Iterator[Listing]:
    """Yield the listing of each directory: parents before children, links last of all.

    `look` may leave entries out of a listing before they are followed. A stack of paths, as seen
    and real, replaces recursion.
    """
    pending = [(root, root)]
    links: list[str] = []
    roots = {root}
    entries = 0
    while pending or links:
        if not pending:
            link = links.pop()
            real = os.path.realpath(link)
            if _is_within(root, {real}):
                reason = "is a link to a directory that holds this one"
                yield Listing(os.path.dirname(link), skipped=[Skipped(link, reason)])
            elif not _is_within(real, roots):
                roots.add(real)
                pending.append((link, real))
            continue
        seen, real = pending.pop()
        listing = list_directory(seen, real)
        look(listing)
        if not _is_within(real, {root}) and real in roots:
            listing.outside.append((seen, real))
        listing.outside += [
            (file.path, file.real)
            for file in listing.files
            if file.real != file.path and _leads_out(file, real, root)
        ]
        entries += listing.entries
        if entries > MAX_ENTRIES:
            reason = f"and the rest was not read: the tree has over {MAX_ENTRIES} entries"
            listing.skipped.append(Skipped(seen, reason))
            yield listing
            return
        for name in reversed(listing.directories):
            path = os.path.join(seen, name)
            pending.append((path, path if seen == real else os.path.join(real, name)))
        links += [os.path.join(seen, name) for name in reversed(listing.links)]
        yield listing


def _leads_out(file: LocalFile, directory: str, root: str) -> bool:
    """Return True for a link out of the tree; a file of the directory itself is none."""
    return os.path.dirname(file.real) != directory and not _is_within(file.real, {root})


def note_outside(root: str, outside: list[tuple[str, str]]) -> Iterator[Note]:
    """Yield a message about the links that were followed out of a tree or a store, if any."""
    if outside:
        link, target = outside[0]
        links = "1 link was" if len(outside) == 1 else f"{plural(len(outside), 'link')} were"
        example = "" if len(outside) == 1 else "for example "
        yield Note(f"{links} followed out of {root}: {example}{link} to {target}")


def _is_within(path: str, roots: Collection[str]) -> bool:
    """Return True if a real path is one of `roots` or below one."""
    while path not in roots:
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent
    return True


def list_directory(seen: str, real: str) -> Listing:
    """List a directory: one ``stat`` for each file that can be part of a model."""
    listing = Listing(seen)
    try:
        with os.scandir(real) as entries:
            for entry in entries:
                listing.entries += 1
                if listing.entries <= MAX_NAMES:
                    listing.names.add(entry.name)
                path = os.path.join(seen, entry.name)
                try:
                    _sort_in(entry, path, listing)
                except OSError as error:
                    listing.skipped.append(Skipped(path, error.strerror or "cannot be read"))
                if listing.held >= MAX_HELD:
                    reason = f"has over {MAX_HELD} models and directories; the rest was not read"
                    listing.skipped.append(Skipped(seen, reason))
                    break
    except OSError as error:
        listing.skipped.append(Skipped(seen, error.strerror or "cannot be read"))
    listing.directories.sort()
    listing.links.sort()
    listing.skipped.sort(key=lambda skipped: skipped.what)
    return listing


def _sort_in(entry: os.DirEntry[str], path: str, listing: Listing) -> None:
    if entry.is_dir(follow_symlinks=False):
        if entry.name not in _NEVER and not entry.name.startswith(".Trash-"):
            listing.directories.append(entry.name)
        return
    relevant = is_relevant(entry.name)
    if entry.is_symlink():
        if _is_directory(entry, ignore_errors=not relevant):
            listing.links.append(entry.name)
            return
        real = os.path.realpath(entry.path) if relevant else ""
    else:
        real = path if path == entry.path else entry.path  # one text for both
    if relevant:
        st = entry.stat()
        if stat.S_ISREG(st.st_mode):
            listing.files.append(from_stat(path, real, st))
        else:
            listing.skipped.append(Skipped(path, f"is {kind_of(st.st_mode)}, not a file"))


def _is_directory(link: os.DirEntry[str], *, ignore_errors: bool) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a circle of links, or a directory without permission
        if ignore_errors:
            return False
        raise
