"""Downloads of models that were broken off, in a tree of loose files and in Docker's store."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from modelstore.reclaim.commands import remove
from modelstore.reclaim.result import Leftover
from modelstore.reclaim.stores import allocated, inode_of, looked_at
from modelstore.sources.files import naming
from modelstore.sources.files.directory import store_at
from modelstore.sources.files.walk import Listing, walk
from modelstore.sources.stores.store_files import UnreadableError, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.reclaim.stores import Notes

_DOCKER = re.compile(r"[0-9a-f]{64}[.-](?:incomplete|partial)")


def in_tree(root: str, notes: Notes, stores: list[tuple[str, str]]) -> Iterator[Leftover]:
    """Yield the broken downloads below a directory; add the (kind, path) of each store in it."""

    def leave_stores_out(listing: Listing) -> None:
        kind, names = store_at(listing)
        if kind in ("ollama", "huggingface", "docker-models"):
            listing.without(names)
            stores.append((kind, os.path.realpath(listing.path)))

    for listing in walk(os.path.realpath(root), leave_stores_out):
        for file in listing.files:
            parsed = naming.parse_name(file.name)
            if parsed is not None and parsed.partial and file.path == file.real:
                yield from _unfinished(file.path, "directory", notes)


def in_docker(root: str, notes: Notes) -> Iterator[Leftover]:
    """Yield the broken downloads of Docker Model Runner's store."""
    try:
        listed = entries(os.path.join(root, "blobs", "sha256"))
    except UnreadableError as error:
        notes.add(f"{root} {error}")
        return
    for entry in listed:
        if _DOCKER.fullmatch(entry.name) and looked_at(entry):
            yield from _unfinished(entry.path, "docker-models", notes)


def _unfinished(path: str, source: str, notes: Notes) -> Iterator[Leftover]:
    try:
        status = os.lstat(path)
    except OSError:  # it was finished a moment ago
        return
    if notes.is_recent(status):
        notes.add(f"{path} may still be downloading: it is left out")
        return
    inode = frozenset((inode_of(status),)) if status.st_nlink == 1 else frozenset()
    name = os.path.basename(path)
    size = allocated(status) if inode else 0
    yield Leftover("unfinished", source, name, (path,), size, remove((path,)), inode)
