"""Models in a directory tree of any depth and layout.

Files are read one after the other: a header takes a tenth of a millisecond, most of it in Python,
so threads take twice as long if the files are in memory. On a cold disk the wait is longer than
that, so the system is asked early for the headers that come next.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from modelstore.errors import SourceError
from modelstore.found import Place, Skipped
from modelstore.sources.base import Note, Target
from modelstore.sources.files import naming
from modelstore.sources.files.grouping import (
    Group,
    describe,
    group_files,
    is_module,
    is_relevant,
)
from modelstore.sources.files.local_files import Origin, ask_for_header, local_file, unchanged
from modelstore.sources.files.usual_places import program_directories
from modelstore.sources.files.walk import Listing, list_directory, note_outside, walk
from modelstore.sources.kinds import KINDS, load
from modelstore.text import visible
from modelstore.wal.files import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from modelstore.sources.base import Context, Item, Source
    from modelstore.sources.files.naming import Extension

_AHEAD = 8  # models; more of them gain nothing


def read_tree(
    root: str,
    context: Context,
    *,
    source: str | None = None,
    only: Extension | None = None,
    beside: str | None = None,
) -> Iterator[Item]:
    """Yield every model below `root` in the order of their paths, directory by directory.

    `source` is the kind of the models, by default their format; `only` selects one format. The
    root of each place is the real path of `root`, its locator the path as seen. Links to files
    are followed. Links to directories are followed last, and never in a circle. A program's store
    in the tree is read as that store, under its own root, unless `source` or `only` is given.
    `beside` is the kind of the store at `root` that was read already: its files are left out.
    Raises `SourceError` if `root` itself cannot be listed.
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
    has_stores = source is None and only is None
    for step in _read_ahead(_steps(real, only, beside, has_stores=has_stores), context):
        if isinstance(step, _Store):
            known = context.known_below(os.path.realpath(step.path))
            yield from load(step.kind).read(Target(step.path), replace(context, known=known))
        elif isinstance(step, Group):
            yield _describe(step, real, context, source)
            count += 1
            context.progress(step.files[0].path, count)
        else:
            yield step


class _Store(NamedTuple):
    """A program's store within a tree."""

    kind: str
    path: str


_Step = Group | _Store | Skipped | Note


def _steps(
    real: str, only: Extension | None, beside: str | None, *, has_stores: bool
) -> Iterator[_Step]:
    """Yield what a tree holds, directory by directory, before any model is read."""
    stores: list[_Store] = []
    outside: list[tuple[str, str]] = []

    def look(listing: Listing) -> None:
        if has_stores:
            kind, names = store_at(listing)
            listing.without(names)
            if kind and not (kind == beside and _is_at(listing.path, real)):
                stores.append(_Store(kind, listing.path))
        _take_parts_below(listing)

    for listing in walk(real, look):
        outside += listing.outside
        yield from listing.skipped
        while stores:
            yield stores.pop()
        for group in group_files(listing.files):
            if only in (None, group.format):
                yield group
    yield from note_outside(real, outside)


def _take_parts_below(listing: Listing) -> None:
    """Take files in directories below for files here, where they are parts of one model.

    The later layers of sentence-transformers have directories of their own (``2_Dense``), and so
    do the quantizations of a large model (``Q8_0``), with one projector above them.
    """
    has_layers = "modules.json" in listing.names
    has_sidecar = any(naming.sidecar(file.name) for file in listing.files if listing.directories)
    if not (has_layers or has_sidecar):
        return
    real = os.path.realpath(listing.path)
    for name in tuple(listing.directories):
        is_layer = has_layers and is_module(name)
        if not is_layer and not (has_sidecar and naming.encoding(name)):
            continue
        below = list_directory(os.path.join(listing.path, name), os.path.join(real, name))
        files = [file for file in below.files if not is_layer or not file.name.endswith(".json")]
        extension = ".safetensors" if is_layer else ".gguf"
        is_leaf = not (below.directories or below.links or below.skipped or store_at(below)[0])
        if is_leaf and files and all(file.name.lower().endswith(extension) for file in files):
            listing.directories.remove(name)
            listing.files += files


def _read_ahead(steps: Iterable[_Step], context: Context) -> Iterator[_Step]:
    """Yield the steps; ask the system for the headers of the next few models that are not known.

    Files on a cold disk are read in half the time so.
    """
    coming: deque[_Step] = deque()
    for step in steps:
        if isinstance(step, Group) and unchanged(step.files, None, context) is None:
            ask_for_header(step.files[0].real)
        coming.append(step)
        if len(coming) > _AHEAD:
            yield coming.popleft()
    yield from coming


def store_at(listing: Listing) -> tuple[str | None, set[str]]:
    """Return the kind of the store in a directory, and its entries there."""
    for kind, info in KINDS.items():
        if info.is_store and (names := getattr(load(kind), "claims")(listing.path, listing.names)):  # noqa: B009
            return kind, names
    return None, set()


def _is_at(path: str, root: str) -> bool:
    """Return True for a store's directory, or that in the folder which its program made for it."""
    return path == root or (
        os.path.dirname(path) == root and os.path.basename(path) in ("models", "hub")
    )


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
    siblings = list_directory(parent, os.path.realpath(parent)).files
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


@dataclass(frozen=True, slots=True)
class _Directory:
    """The source of models of every format below a directory."""

    KIND: str = "directory"

    def usual_places(self, context: Context) -> list[str]:
        """Return the folder of models in the home directory, and those of programs that exist."""
        return [os.path.join(context.home, "models"), *program_directories(context)]

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
