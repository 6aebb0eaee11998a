"""What the stores of Ollama and of the Hugging Face hub hold that no model needs."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from modelstore.found import Skipped
from modelstore.reclaim.commands import hub_remove, remove
from modelstore.reclaim.result import Leftover
from modelstore.sources.stores.huggingface import PREFIX, Repo
from modelstore.sources.stores.ollama_manifests import manifest_entries, named_digests
from modelstore.sources.stores.store_files import UnreadableError, entries, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.reclaim.result import Inode

GRACE = 3600.0
"""Seconds for which content without a name may belong to a download that runs: as in Ollama."""

_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")
_PARTIAL = re.compile(r"(sha256-[0-9a-f]{64})-partial(?:-\d+)?")
_INCOMPLETE = re.compile(r"[0-9a-f]{40,64}(?:\.[0-9a-f]{8})?\.incomplete")


@dataclass(slots=True)
class Notes:
    """The reasons why something was left out of a report."""

    now: float  # seconds since the epoch
    sentences: list[str] = field(default_factory=list)

    def is_recent(self, status: os.stat_result) -> bool:
        """Return True for a file that a running download may have written."""
        return self.now - status.st_mtime < GRACE

    def add(self, sentence: str) -> None:
        """Note a reason once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)


def looked_at(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return the status of a regular file; None for a link, for anything else and if it is gone."""
    try:
        status = entry.stat(follow_symlinks=False)
        if os.name == "nt":  # a listing there has no inode
            status = os.stat(entry.path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def allocated(status: os.stat_result) -> int:
    """Return the bytes that a file has on the disk: a download is often a file of holes."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)


def inode_of(status: os.stat_result) -> Inode:
    """Return the identity of a file."""
    return status.st_dev, status.st_ino


def in_ollama(store: str, notes: Notes) -> Iterator[Leftover]:
    """Yield the blobs that no manifest names, and the downloads that were broken off.

    Ollama removes both when it starts, unless ``OLLAMA_NOPRUNE`` is set: but a blob of a manifest
    that cannot be read may be a model, so then no blob counts as an orphan.
    """
    parts = _parts(store, notes)
    running = {blob for blob, files in parts.items() if any(notes.is_recent(s) for _, s in files)}
    for blob, files in parts.items():
        if blob not in running:
            yield Leftover(
                "unfinished",
                "ollama",
                blob,
                tuple(path for path, _ in files),
                sum(allocated(status) for _, status in files),
                remove(path for path, _ in files),
                frozenset(inode_of(status) for _, status in files),
            )
    named = _named(store)
    if running:  # it names its blobs when all of them are there
        notes.add(f"a download into {store} may be running: what belongs to it is left out")
    elif isinstance(named, Skipped):
        notes.add(f"orphans of {store} are unknown: {named.what} {named.reason}")
    else:
        yield from _ollama_orphans(store, named, notes)


def _named(store: str) -> set[str] | Skipped:
    """Return the digests that the manifests name, or the first manifest that cannot be read."""
    named: set[str] = set()
    for entry in manifest_entries(store):
        if isinstance(entry, Skipped):
            return entry
        try:
            named |= named_digests(store, entry)
        except UnreadableError as error:
            return Skipped(entry.path, str(error))
    return named


def _parts(store: str, notes: Notes) -> dict[str, list[tuple[str, os.stat_result]]]:
    """Return the files of each unfinished download, by the name of its blob."""
    parts: dict[str, list[tuple[str, os.stat_result]]] = defaultdict(list)
    for entry in _listed(os.path.join(store, "blobs"), notes):
        match = _PARTIAL.fullmatch(entry.name)
        if match and (status := looked_at(entry)):
            parts[match[1]].append((entry.path, status))
    return parts


def _ollama_orphans(store: str, named: set[str], notes: Notes) -> Iterator[Leftover]:
    splits = _split_links(store)
    for entry in _listed(os.path.join(store, "blobs"), notes):
        match = _BLOB.fullmatch(entry.name)
        status = looked_at(entry) if match and match[1] not in named else None
        if status is None:
            continue
        paths = (entry.path, *splits.get(inode_of(status), ()))
        if notes.is_recent(status):
            notes.add(f"blobs of the last hour in {store} may belong to a download: left out")
        elif status.st_nlink <= len(paths):
            yield Leftover(
                "orphan",
                "ollama",
                entry.name,
                paths,
                status.st_size,
                remove(paths),
                frozenset((inode_of(status),)),
            )
        else:
            notes.add(f"{entry.path} has other names elsewhere, so removing it frees nothing")


def _split_links(store: str) -> dict[Inode, tuple[str, ...]]:
    """Return the further names that Ollama gives to the shards of a split model."""
    links: dict[Inode, tuple[str, ...]] = {}
    for entry in walk(os.path.join(store, "blobs", "splits"), depth=2):
        if not isinstance(entry, Skipped) and (status := looked_at(entry)):
            inode = inode_of(status)
            links[inode] = (*links.get(inode, ()), entry.path)
    return links


def _listed(folder: str, notes: Notes) -> list[os.DirEntry[str]]:
    try:
        return entries(folder)
    except UnreadableError as error:
        notes.add(f"{folder} {error}")
        return []


@dataclass(frozen=True)
class HubCache:
    """A hub's cache: every file of every revision, by inode."""

    hub: str  # the real path of the directory with models--… in it
    notes: Notes
    only: str | None = None  # the directory of the one repository that was imported

    @cached_property
    def repos(self) -> list[Repo]:
        """The repositories of models."""
        return [
            Repo(os.path.realpath(entry.path), self.hub, entry.name)
            for entry in _listed(self.hub, self.notes)
            if entry.name.startswith(PREFIX) and self.only in (None, entry.name) and entry.is_dir()
        ]

    @cached_property
    def files(self) -> dict[Inode, list[tuple[Repo, str, str]]]:
        """The repository, the commit and the path in it of each name of a file."""
        found: dict[Inode, list[tuple[Repo, str, str]]] = defaultdict(list)
        for repo in self.repos:
            for commit in self.commits(repo):
                snapshot = os.path.join(repo.path, "snapshots", commit)
                for entry in walk(snapshot):
                    if isinstance(entry, Skipped):
                        self.notes.add(f"{entry.what} {entry.reason}")
                        continue
                    with suppress(OSError):
                        status = os.stat(entry.path)
                        inside = os.path.relpath(entry.path, snapshot).replace(os.sep, "/")
                        found[inode_of(status)].append((repo, commit, inside))
                        self.sizes[inode_of(status)] = status.st_size
        return found

    @cached_property
    def sizes(self) -> dict[Inode, int]:
        """The size of each file, in bytes."""
        return {}

    def commits(self, repo: Repo) -> list[str]:
        """Return the revisions of a repository that are here."""
        listed = _listed(os.path.join(repo.path, "snapshots"), self.notes)
        return [entry.name for entry in listed if entry.is_dir(follow_symlinks=False)]

    def targets(self, inode: Inode) -> set[str]:
        """Return what `hf cache rm` calls a file: it is then removed from all revisions."""
        return {f"hf://models/{repo.name}/{inside}" for repo, _, inside in self.files[inode]}

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the revisions that no branch or tag names, orphan blobs, and broken downloads."""
        superseded = {
            (repo.path, commit): repo for repo in self.repos for commit in self._superseded(repo)
        }
        freed: dict[str, set[Inode]] = defaultdict(set)
        for inode, holders in self.files.items():
            if all((repo.path, commit) in superseded for repo, commit, _ in holders):
                freed[holders[0][0].path].add(inode)
        for repo in self.repos:
            commits = [commit for path, commit in superseded if path == repo.path]
            if commits:
                yield Leftover(
                    "superseded",
                    "huggingface",
                    repo.name,
                    tuple(os.path.join(repo.path, "snapshots", commit) for commit in commits),
                    sum(self.sizes[inode] for inode in freed[repo.path]),
                    hub_remove(commits, self.hub),
                    frozenset(freed[repo.path]),
                )
            yield from self._blobs(repo)

    def _superseded(self, repo: Repo) -> list[str]:
        """Return the revisions without a name, if another one has a name.

        The only revision of a repository may be one that a program asks for by its commit.
        """
        commits, named = self.commits(repo), repo.refs()
        return [c for c in commits if c not in named] if named.keys() & {*commits} else []

    def _blobs(self, repo: Repo) -> Iterator[Leftover]:
        for entry in _listed(os.path.join(repo.path, "blobs"), self.notes):
            status = looked_at(entry)
            if status is None or inode_of(status) in self.files or status.st_nlink > 1:
                continue
            is_partial = _INCOMPLETE.fullmatch(entry.name) is not None
            if self.notes.is_recent(status):
                self.notes.add(f"a download of {repo.name} may be running: it is left out")
                continue
            yield Leftover(
                "unfinished" if is_partial else "orphan",
                "huggingface",
                repo.name,
                (entry.path,),
                allocated(status) if is_partial else status.st_size,
                remove((entry.path,)),
                frozenset((inode_of(status),)),
            )
