"""The layout of a Hugging Face hub cache: repositories, their revisions, and the blobs they share.

::

    models--ORG--NAME/
      refs/main                     the commit that a branch or tag stands for
      snapshots/COMMIT/PATH         -> ../../blobs/ETAG, or the file itself where no links are had
      blobs/ETAG                    ETAG: the SHA-256 of a large file, the git hash of a small one;
                                    the content, or a link -> ../../blobs/XX/HASH
      blobs/ETAG[.XXXXXXXX].incomplete
      trees/COMMIT.json             what the repository holds at that commit
    blobs/XX/HASH                   content that repositories share; HASH is no SHA-256

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.sources.base import Skipped
from modelstore.sources.files import LocalFile, from_stat
from modelstore.sources.grouping import is_relevant
from modelstore.sources.store_files import (
    UnreadableError,
    entries,
    file_inside,
    read_object,
    read_text,
    walk,
)
from modelstore.sources.values import mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "models--"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz", ".tflite")
"""Endings of weights in formats of which nothing but their presence is read."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(?:\.[0-9a-f]{8})?\.incomplete")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of a repository, and those of its files that may belong to a model."""

    commit: str
    path: str
    refs: tuple[str, ...] = ()  # the branches and tags that stand for it
    files: list[LocalFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository of a cache. Both paths are real."""

    path: str
    hub: str  # the cache's directory

    @property
    def name(self) -> str:
        """``org/name``; the first double dash parts them, since a name may hold more."""
        return os.path.basename(self.path).removeprefix(PREFIX).replace("--", "/", 1)

    def snapshots(self) -> Iterator[Snapshot | Skipped]:
        """Yield what cannot be read, then the revisions, those that a branch stands for first.

        Raises `UnreadableError` where the directory of revisions cannot be listed.
        """
        refs = self._refs()
        found: list[Snapshot] = []
        for entry in entries(os.path.join(self.path, "snapshots")):
            if entry.is_dir(follow_symlinks=False):
                snapshot = Snapshot(entry.name, entry.path, refs.get(entry.name, ()))
                yield from self._collect(snapshot)
                found.append(snapshot)
        yield from sorted(found, key=lambda one: ("main" not in one.refs, not one.refs))

    def unfinished(self) -> dict[str, LocalFile]:
        """Return the downloads that broke off, by the name that each blob would have had."""
        parts: dict[str, LocalFile] = {}
        whole = set()
        for entry in entries(os.path.join(self.path, "blobs")):
            if (match := _UNFINISHED.fullmatch(entry.name)) is None:
                whole.add(entry.name)
            elif entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # gone meanwhile: the download went on
                    parts[match[1]] = from_stat(entry.path, entry.path, entry.stat())
        return {etag: file for etag, file in parts.items() if etag not in whole}

    def file_names(self, commit: str) -> dict[str, str]:
        """Return the paths of a revision's files by the names of their blobs, where recorded."""
        names: dict[str, str] = {}
        with suppress(UnreadableError):
            tree = read_object(os.path.join(self.path, "trees", f"{commit}.json"))
            for path, file in mapping(tree.get("files")).items():
                etag = mapping(file).get("lfs_sha256") or mapping(file).get("blob_id")
                if isinstance(etag, str) and ".." not in path.split("/"):
                    names[etag] = path
        return names

    def _refs(self) -> dict[str, tuple[str, ...]]:
        refs: dict[str, tuple[str, ...]] = {}
        folder = os.path.join(self.path, "refs")
        for entry in walk(folder, depth=3):
            if not isinstance(entry, Skipped) and entry.is_file(follow_symlinks=False):
                with suppress(UnreadableError):
                    commit = read_text(entry.path, 100).decode("ascii", "replace").strip()
                    name = os.path.relpath(entry.path, folder).replace(os.sep, "/")
                    refs[commit] = (*refs.get(commit, ()), name)
        return refs

    def _collect(self, snapshot: Snapshot) -> Iterator[Skipped]:
        for entry in walk(snapshot.path):
            if isinstance(entry, Skipped):
                yield entry
            elif is_relevant(entry.name) or entry.name.endswith(OTHER_WEIGHTS):
                try:
                    snapshot.files.append(self._file(entry))
                except UnreadableError as error:
                    yield Skipped(entry.path, str(error))

    def _file(self, entry: os.DirEntry[str]) -> LocalFile:
        file = file_inside(entry, self.path, os.path.join(self.hub, "blobs"))
        return replace(file, sha256=self._sha256(entry.path)) if entry.is_symlink() else file

    def _sha256(self, link: str) -> str | None:
        """Return the name of the repository's own blob, where it is a SHA-256.

        It is the name that the snapshot links to, not that of the real file: content shared by
        repositories lies under another hash, of as many digits.
        """
        blob = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
        folder, name = os.path.split(blob)
        own = folder == os.path.join(self.path, "blobs")
        return name if own and _SHA256.fullmatch(name) else None
