"""The Hugging Face hub's cache, which many tools share.

Revisions that hold the same weights are places of one model.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.found import Found, Naming, Place, Skipped
from modelstore.locator import (
    choose_hub_file,
    file_locator,
    hub_locator,
    is_repository,
    model_id,
)
from modelstore.model import Model, Status
from modelstore.sources.base import Unchanged, at_place, fill_unknown
from modelstore.sources.files.grouping import MAIN_STEMS, describe, group_files, is_relevant
from modelstore.sources.files.local_files import (
    WEIGHTS,
    LocalFile,
    Origin,
    from_stat,
    is_named_after,
    unchanged,
)
from modelstore.sources.files.model_card import card_license
from modelstore.sources.files.walk import note_outside
from modelstore.sources.paths import expand
from modelstore.sources.stores.store_files import (
    UnreadableError,
    contains,
    entries,
    file_at,
    open_store,
    read_object,
    read_text,
    walk,
)
from modelstore.sources.values import mapping, parameters_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.files.grouping import Group

PREFIX = "models--"
_PREFIXES = (PREFIX, "datasets--", "spaces--", "kernels--")
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz", ".tflite")
"""Extensions of weights in formats that are noticed but not read."""

_MAX_LOOKED_AT = 20_000  # entries, to recognise a cache
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(?:\.[0-9a-f]{8})?\.incomplete")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of a repository, with its files that may belong to a model."""

    commit: str
    path: str
    refs: tuple[str, ...] = ()  # the branches and tags that name it
    files: list[LocalFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository of a cache. Both paths are real."""

    path: str
    hub: str  # the cache's directory
    directory: str  # its name in the cache, which may be a link
    outside: list[tuple[str, str]] = field(default_factory=list)  # links, and what they lead to

    @property
    def name(self) -> str:
        """``org/name``. The first double dash separates them; a name may hold more."""
        return self.directory.removeprefix(PREFIX).replace("--", "/", 1)

    def snapshots(self) -> Iterator[Snapshot | Skipped]:
        """Yield the parts that cannot be read, then the revisions, those with a branch first.

        Raises `UnreadableError` if the directory of revisions cannot be listed.
        """
        refs = self.refs()
        found: list[Snapshot] = []
        for entry in entries(os.path.join(self.path, "snapshots")):
            if entry.is_dir(follow_symlinks=False):
                snapshot = Snapshot(entry.name, entry.path, refs.get(entry.name, ()))
                yield from self._collect(snapshot)
                found.append(snapshot)
        yield from sorted(found, key=lambda one: ("main" not in one.refs, not one.refs))

    def unfinished(self) -> dict[str, LocalFile]:
        """Return the unfinished downloads, each under the name of its finished blob."""
        parts: dict[str, LocalFile] = {}
        whole = set()
        for entry in entries(os.path.join(self.path, "blobs")):
            if (match := _UNFINISHED.fullmatch(entry.name)) is None:
                whole.add(entry.name)
            elif entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # gone: the download just finished
                    parts[match[1]] = from_stat(entry.path, entry.path, entry.stat())
        return {etag: file for etag, file in parts.items() if etag not in whole}

    def file_names(self, commit: str) -> dict[str, str]:
        """Return the recorded paths of a revision's files by the names of their blobs."""
        names: dict[str, str] = {}
        with suppress(UnreadableError):
            tree = read_object(os.path.join(self.path, "trees", f"{commit}.json"))
            for path, file in mapping(tree.get("files")).items():
                etag = mapping(file).get("lfs_sha256") or mapping(file).get("blob_id")
                if isinstance(etag, str) and ".." not in path.split("/"):
                    names[etag] = path
        return names

    def refs(self) -> dict[str, tuple[str, ...]]:
        """Return the branches and tags of each commit that has any."""
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
        file = file_at(entry)
        if not (
            contains(self.path, file.real) or contains(os.path.join(self.hub, "blobs"), file.real)
        ):
            self.outside.append((file.path, file.real))
        return replace(file, sha256=linked_sha256(entry.path)) if entry.is_symlink() else file


KIND = "huggingface"


def usual_places(context: Context) -> list[str]:
    """Return the cache's directory, from the same variables in the same order as the hub's own.

    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    environ = context.environ
    if cache := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return [expand(cache, context.home)]
    home = environ.get("HF_HOME")
    if not home:
        cache = environ.get("XDG_CACHE_HOME") or os.path.join(context.home, ".cache")
        home = os.path.join(cache, "huggingface")
    return [os.path.join(expand(home, context.home), "hub")]


def recognises(path: str, names: set[str]) -> bool:
    """Return True for a cache, the directory that holds it, or one repository of it."""
    if any(name.startswith(PREFIX) for name in names):
        return True
    if "hub" in names and has_repository(os.path.join(path, "hub")):
        return True
    return os.path.basename(path).startswith(PREFIX) and not names.isdisjoint(
        ("blobs", "snapshots")
    )


def has_repository(hub: str) -> bool:
    """Return True if a directory holds a repository of models."""
    try:
        with os.scandir(hub) as listed:
            first = (entry.name for entry, _ in zip(listed, range(_MAX_LOOKED_AT), strict=False))
            return any(name.startswith(PREFIX) for name in first)
    except OSError:
        return False


def claims(path: str, names: set[str]) -> set[str]:
    """Return the entries of a directory that belong to a cache or a repository there."""
    if os.path.basename(path).startswith(PREFIX) and "snapshots" in names:
        return names
    if not any(name.startswith(PREFIX) for name in names):
        return set()
    return {name for name in names if name.startswith(_PREFIXES) or name in (".locks", "blobs")}


def _has_namesake(group: Group, groups: list[Group]) -> bool:
    """Return True if its directory holds other models, and it is not the main one of them."""
    directory = os.path.dirname(group.files[0].path)
    others = [
        other
        for other in groups
        if other.format == group.format and os.path.dirname(other.files[0].path) == directory
    ]
    return len(others) > 1 and (group.stem not in MAIN_STEMS or bool(group.mark))


def _apart(group: Group, taken: Collection[str]) -> Group:
    """Return the group of a revision that shares its first file with another one.

    Its first file of its own then stands for it: a copy is recorded under one weights file.
    """
    weights = [file for file in group.files if file.role in WEIGHTS]
    own = next((file for file in weights if file.real not in taken), None)
    if own is None or min(file.real for file in weights) not in taken:
        return group
    files = tuple(replace(file, role="model") if file is own else file for file in group.files)
    return replace(group, files=files)


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a cache, of the directory around it, or of one repository."""
    return read_cache(target.text, context, KIND)


def read_cache(path: str, context: Context, source: str) -> Iterator[Item]:
    """Yield the models of a cache that has the hub's layout, filed under the kind `source`."""
    root = open_store(path, holds="cache: the directory with models--… in it")
    if os.path.basename(root).startswith(PREFIX):
        repo = Repo(root, os.path.dirname(root), os.path.basename(root))
        yield from _Reader(repo, root, source, context).items()
        yield from note_outside(root, repo.outside)
        return
    hub = os.path.realpath(os.path.join(root, "hub"))
    if not os.path.isdir(hub):
        hub = root
    try:
        repos = [entry for entry in entries(hub) if entry.name.startswith(PREFIX)]
    except UnreadableError as error:
        raise error.as_source_error(hub) from None
    outside: list[tuple[str, str]] = []
    for entry in repos:
        real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        if os.path.isdir(real):
            if real != entry.path and not contains(hub, real):
                outside.append((entry.path, real))
            repo = Repo(real, hub, entry.name, outside)
            yield from _Reader(repo, root, source, context).items()
        elif entry.is_symlink():
            yield Skipped(entry.path, "is a broken link: its target is gone")
    yield from note_outside(root, outside)


def linked_sha256(path: str) -> str | None:
    """Return the name of the repository's own blob that a snapshot links to, if it is a SHA-256.

    That is the name in the link, not the real file's: content that repositories share is stored
    under another hash with as many digits.
    """
    try:
        target = os.readlink(path)
    except OSError:  # no link
        return None
    blob = os.path.normpath(os.path.join(os.path.dirname(path), target))
    folder, name = os.path.split(blob)
    repository, blobs = os.path.split(folder)
    own = blobs == "blobs" and path.startswith(os.path.join(repository, "snapshots") + os.sep)
    return name if own and _SHA256.fullmatch(name) else None


def cached_file(context: Context, repository: str, file: str | None = None) -> str | None:
    """Return the path of a GGUF model in the usual caches; None if there is not exactly one.

    `repository` is ``org/repo`` or ``org/repo:QUANT``, as llama.cpp takes it; `file` is a path in
    the repository.
    """
    name, _, tag = repository.partition(":")
    directory = PREFIX + name.replace("/", "--")
    for hub in usual_places(context):
        path = os.path.realpath(os.path.join(hub, directory))
        if not is_repository(name) or not os.path.isdir(path):
            continue
        with suppress(UnreadableError):
            for snapshot in Repo(path, hub, directory).snapshots():
                if isinstance(snapshot, Snapshot):
                    paths = {
                        os.path.relpath(first, snapshot.path).replace(os.sep, "/"): first
                        for group in group_files(snapshot.files)
                        if (first := group.files[0].path) and group.format == "gguf"
                    }
                    chosen = choose_hub_file(paths, file or tag or None)
                    return paths[chosen] if chosen else None
    return None


class _Reader:
    """The reader of one repository."""

    def __init__(self, repo: Repo, root: str, source: str, context: Context) -> None:
        self.repo = repo
        self.root = root
        self.source = source
        self.context = context
        self.licenses: dict[str, str | None] = {}  # by commit

    def items(self) -> Iterator[Item]:
        """Yield each model once for every revision that holds it."""
        seen: dict[tuple[str, ...], Found | Unchanged | Skipped] = {}
        names: dict[str, tuple[str, ...]] = {}  # the weights that a name stands for
        first_places: dict[tuple[str, ...], str] = {}
        formats: set[str] = set()
        first: Snapshot | None = None
        try:
            parts = self.repo.unfinished()
            nameless = {etag for etag in parts if len(etag) == 64}  # weights, not small texts
            for snapshot in self.repo.snapshots():
                if isinstance(snapshot, Skipped):
                    yield snapshot
                    continue
                first = first or snapshot
                named = self._named(snapshot, parts)
                nameless -= named.keys()
                groups = group_files((*snapshot.files, *named.values()))
                for group in groups:
                    formats.add(group.format)
                    key = tuple(file.real for file in group.files if file.role in WEIGHTS)
                    place, origin = self._origin(snapshot, group, groups)
                    if names.setdefault(place.name, key) != key:
                        mark = f"@{snapshot.refs[0] if snapshot.refs else snapshot.commit[:7]}"
                        place = replace(place, name=place.name + mark)
                        origin = replace(
                            origin, place=place, name=(origin.name or group.name) + mark
                        )
                    if key not in seen:
                        own = _apart(group, set().union(*seen))
                        if own is not group:
                            origin = replace(origin, shares_file=True)
                        seen[key] = self._described(own, origin, snapshot)
                    item = at_place(seen[key], place)
                    if place.locator == first_places.setdefault(key, place.locator):
                        item = self._named_anew(item, origin, group)
                    yield item
        except UnreadableError as error:
            yield Skipped(self.repo.path, str(error))
            return
        # Missing files of a safetensors model are reported as that model's status.
        if nameless and "safetensors" not in formats:
            yield self._whole(first, "incomplete")
        elif not seen and first:
            yield self._of_other_format(first)

    def _described(
        self, group: Group, origin: Origin, snapshot: Snapshot
    ) -> Found | Unchanged | Skipped:
        """Describe a model, with the licence of its repository's card if its files name none."""
        item = describe(group, origin, self.context)
        if isinstance(item, Found) and item.model.license is None:
            item = fill_unknown(item, {"license": self._license(snapshot)})
        return item

    def _named_anew(
        self, item: Found | Unchanged | Skipped, origin: Origin, group: Group
    ) -> Found | Unchanged | Skipped:
        """Return an unchanged model with its name, as main may have moved on.

        A copy in another repository does not name it.
        """
        if isinstance(item, Unchanged) and is_named_after(
            item.locator, group.files[0], self.context
        ):
            naming = Naming(origin.name or group.name, origin.source_id, origin.revision)
            return replace(item, naming=naming)
        return item

    def _license(self, snapshot: Snapshot) -> str | None:
        if snapshot.commit not in self.licenses:
            self.licenses[snapshot.commit] = card_license(os.path.join(snapshot.path, "README.md"))
        return self.licenses[snapshot.commit]

    def _named(self, snapshot: Snapshot, parts: dict[str, LocalFile]) -> dict[str, LocalFile]:
        """Return the unfinished files of a snapshot under their final names."""
        names = self.repo.file_names(snapshot.commit) if parts else {}
        return {
            etag: replace(
                file, path=os.path.join(snapshot.path, *names[etag].split("/")) + ".incomplete"
            )
            for etag, file in parts.items()
            if etag in names
        }

    def _origin(
        self, snapshot: Snapshot, group: Group, groups: list[Group]
    ) -> tuple[Place, Origin]:
        first = group.files[0].path
        inside = os.path.relpath(first, snapshot.path).replace(os.sep, "/")
        extra = {"hf_repo": self.repo.name, "hf_revision": snapshot.commit}
        if group.format == "gguf":
            extra["hf_file"] = inside
        else:  # the whole directory is the model
            inside = os.path.dirname(inside)
            if _has_namesake(group, groups):
                inside = os.path.join(inside, group.stem).replace(os.sep, "/")
        name = f"{self.repo.name}/{inside}".rstrip("/")
        own_name: str | None = name
        if group.format == "gguf":  # named after the snapshot's directory, it has no name at all
            own_name = self.repo.name if group.name == snapshot.commit else None
        place = Place(self.root, first, self.source, name)
        return place, Origin(
            source=self.source,
            name=own_name,
            place=place,
            source_id=f"{self.repo.name}@{snapshot.commit}",
            revision=snapshot.commit,
            extra=extra,
        )

    def _of_other_format(self, snapshot: Snapshot) -> Item:
        """Return the model of a repository with weights of other formats, or without weights."""
        weights = tuple(file for file in snapshot.files if file.name.endswith(OTHER_WEIGHTS))
        if not weights:
            return self._whole(snapshot, "remote")
        if len(weights) > 1:
            weights = tuple(replace(file, role="shard") for file in weights)
        whole = self._whole(snapshot, "available")
        if known := unchanged(weights, whole.place, self.context):
            return known
        locator = file_locator(self.context.host, weights[0].real)
        model = whole.model._replace(
            id=model_id(locator),
            locator=locator,
            path=weights[0].path,
            file_size=sum(file.size for file in weights),
            sha256=weights[0].sha256 if len(weights) == 1 else None,
        )
        return Found(model, tuple(file.as_model_file() for file in weights), whole.place)

    def _whole(self, snapshot: Snapshot | None, status: Status) -> Found:
        """Return a repository as one model, without reading any file."""
        name, place = self.repo.name, self.repo.path
        source_id, locator = name, hub_locator(name)
        if snapshot is not None:
            source_id, place = f"{name}@{snapshot.commit}", snapshot.path
            locator = hub_locator(name, revision=snapshot.commit)
        model = Model(
            id=model_id(locator),
            name=name,
            source=self.source,
            locator=locator,
            status=status,
            host=self.context.host,
            source_id=source_id,
            revision=snapshot.commit if snapshot else None,
            license=self._license(snapshot) if snapshot else None,
            parameters=parameters_json({"hf_repo": name}),
            created_at=self.context.now,
            updated_at=self.context.now,
        )
        return Found(model, place=Place(self.root, place, self.source, name))
