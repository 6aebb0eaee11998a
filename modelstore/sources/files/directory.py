"""Models in a directory tree of any depth and layout.

Files are read one after the other: a header takes a tenth of a millisecond, most of it in Python,
so threads take twice as long if the files are in memory.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from modelstore.errors import SourceError
from modelstore.found import Place, Skipped
from modelstore.sources.files.grouping import Group, describe, group_files, is_relevant
from modelstore.sources.files.local_files import LocalFile, Origin, from_stat, local_file
from modelstore.text import visible
from modelstore.wal.files import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from modelstore.sources.base import Context, Item, Source, Target
    from modelstore.sources.files.naming import Extension

MAX_ENTRIES = 20_000_000  # of a tree, of any type
MAX_HELD = 200_000  # of one directory, held in memory at a time
_NEVER = frozenset(
    (".git", ".hg", ".svn", ".snapshots", ".zfs", ".Trash", ".Trashes", "lost+found", "__MACOSX")
)
"""Directories of deleted files, or of other versions of files."""


def read_tree(
    root: str,
    context: Context,
    *,
    source: str | None = None,
    only: Extension | None = None,
) -> Iterator[Item]:
    """Yield every model below `root` in the order of their paths, directory by directory.

    `source` is the kind of the models, by default their format; `only` selects one format. The
    root of each place is the real path of `root`, its locator the path as seen. Links to files
    are followed. Links to directories are followed last, and never in a circle. Raises
    `SourceError` if `root` itself cannot be listed.
    """
    real = os.path.realpath(root)
    try:
        os.scandir(real).close()
    except OSError as error:
        raise SourceError(
            f"{visible(root, 200)} cannot be read: {error.strerror}",
            hint="name a directory that holds models",
        ) from None
    count = 0
    for listing in _walk(real):
        yield from listing.skipped
        for group in group_files(listing.files):
            if only in (None, group.format):
                yield _describe(group, real, context, source)
                count += 1
                context.progress(group.files[0].path, count)


def read_file(path: str, context: Context, kind: Extension) -> Iterator[Item]:
    """Yield the model that a file belongs to, with the shards and sidecars beside it."""
    path = os.path.abspath(path)
    try:
        file = local_file(path)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise SourceError(
            f"{visible(path, 200)} cannot be read: {error.strerror}", hint="check the path"
        ) from None
    if not stat.S_ISREG(mode):
        raise SourceError(f"{visible(path, 200)} is {kind_of(mode)}, not a file")
    parent = os.path.dirname(path)
    siblings = _list(parent, os.path.realpath(parent)).files
    groups = group_files(siblings) if is_relevant(file.name) else []
    own = (group for group in groups if any(part.path == path for part in group.files))
    yield _describe(next(own, Group(kind, (file,))), file.real, context, None)


def _describe(group: Group, root: str, context: Context, source: str | None) -> Item:
    place = Place(
        root=root,
        locator=group.files[0].path,
        source=source or group.format,
        name=group.name,
    )
    return describe(group, Origin(source=source, place=place), context)


@dataclass(slots=True)
class _Listing:
    """The relevant entries of one directory; all but the files are sorted."""

    files: list[LocalFile] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)  # names
    links: list[str] = field(default_factory=list)  # names of links to directories
    skipped: list[Skipped] = field(default_factory=list)
    entries: int = 0

    @property
    def held(self) -> int:
        return len(self.files) + len(self.directories) + len(self.links) + len(self.skipped)


def _walk(root: str) -> Iterator[_Listing]:
    """Yield the listing of each directory: parents before children, links last of all.

    A stack of paths, as seen and real, replaces recursion.
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
                yield _Listing(skipped=[Skipped(link, reason)])
            elif not _is_within(real, roots):
                roots.add(real)
                pending.append((link, real))
            continue
        seen, real = pending.pop()
        listing = _list(seen, real)
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


def _is_within(path: str, roots: Collection[str]) -> bool:
    """Return True if a real path is one of `roots` or below one."""
    while path not in roots:
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent
    return True


def _list(seen: str, real: str) -> _Listing:
    """List a directory: one ``stat`` for each file that can be part of a model."""
    listing = _Listing()
    try:
        with os.scandir(real) as entries:
            for entry in entries:
                listing.entries += 1
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


def _sort_in(entry: os.DirEntry[str], path: str, listing: _Listing) -> None:
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


@dataclass(frozen=True, slots=True)
class _Directory:
    """The source of models of every format below a directory."""

    KIND: str = "directory"

    def usual_places(self, context: Context) -> list[str]:
        """Return the folder that people keep models in if no program chose one."""
        return [os.path.join(context.home, "models")]

    def read(self, target: Target, context: Context) -> Iterator[Item]:
        """Yield every model below the directory `target`."""
        return read_tree(target.text, context)


@dataclass(frozen=True, slots=True)
class _OneFormat:
    """The source of models of one format: a file with its shards and sidecars, or a directory."""

    KIND: Extension

    def read(self, target: Target, context: Context) -> Iterator[Item]:
        """Yield the model of the file `target`, or each model of this format below it."""
        if os.path.isdir(target.text):
            return read_tree(target.text, context, only=self.KIND)
        return read_file(target.text, context, self.KIND)


SOURCES: Mapping[str, Source] = {
    source.KIND: cast("Source", source)
    for source in (_Directory(), _OneFormat("gguf"), _OneFormat("safetensors"))
}
