"""Models in the Hugging Face hub's cache, where many tools keep them: each once.

Several revisions that hold the same weights are several places of one model.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.sources.base import Found, Skipped, Unchanged
from modelstore.sources.files import WEIGHTS, LocalFile, Origin, unchanged
from modelstore.sources.grouping import describe, group_files
from modelstore.sources.hub_layout import OTHER_WEIGHTS, PREFIX, Repo, Snapshot
from modelstore.sources.record import parameters_json
from modelstore.sources.store_files import (
    UnreadableError,
    at_place,
    entries,
    expand,
    open_store,
)
from modelstore.store.models import Model, Place, Status, file_locator, model_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.grouping import Group

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


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a cache, of the directory that holds it, or of one repository in it."""
    return read_cache(target.text, context, KIND)


def read_cache(path: str, context: Context, source: str) -> Iterator[Item]:
    """Yield the models of a cache that has the hub's layout, filed under the kind `source`."""
    root = open_store(path, holds="cache: the directory that holds models--…")
    if os.path.basename(root).startswith(PREFIX):
        yield from _Reader(Repo(root, os.path.dirname(root)), root, source, context).items()
        return
    hub = os.path.realpath(os.path.join(root, "hub"))
    if not os.path.isdir(hub):
        hub = root
    try:
        repos = [entry for entry in entries(hub) if entry.name.startswith(PREFIX)]
    except UnreadableError as error:
        raise error.as_source_error(hub) from None
    for entry in repos:
        if entry.is_dir(follow_symlinks=False):
            yield from _Reader(Repo(entry.path, hub), root, source, context).items()
        elif entry.is_symlink():
            yield Skipped(entry.path, "is a link, which is not followed: import where it leads")


class _Reader:
    """Makes items of one repository."""

    def __init__(self, repo: Repo, root: str, source: str, context: Context) -> None:
        self.repo = repo
        self.root = root
        self.source = source
        self.context = context

    def items(self) -> Iterator[Item]:
        """Yield each model, and again for every further revision that holds it."""
        seen: dict[tuple[str, ...], Found | Unchanged | Skipped] = {}
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
                for group in group_files((*snapshot.files, *named.values())):
                    formats.add(group.format)
                    place, origin = self._origin(snapshot, group)
                    key = tuple(file.real for file in group.files if file.role in WEIGHTS)
                    if key not in seen:
                        seen[key] = describe(group, origin, self.context)
                    yield at_place(seen[key], place)
        except UnreadableError as error:
            yield Skipped(self.repo.path, str(error))
            return
        # What is missing of a safetensors model is a matter of that model.
        if nameless and "safetensors" not in formats:
            yield self._whole(first, "incomplete")
        elif not seen and first:
            yield self._of_other_format(first)

    def _named(self, snapshot: Snapshot, parts: dict[str, LocalFile]) -> dict[str, LocalFile]:
        """Return the unfinished files of a snapshot under the names that they would have in it."""
        names = self.repo.file_names(snapshot.commit) if parts else {}
        return {
            etag: replace(
                file, path=os.path.join(snapshot.path, *names[etag].split("/")) + ".incomplete"
            )
            for etag, file in parts.items()
            if etag in names
        }

    def _origin(self, snapshot: Snapshot, group: Group) -> tuple[Place, Origin]:
        first = group.files[0].path
        inside = os.path.relpath(first, snapshot.path).replace(os.sep, "/")
        extra = {"hf_repo": self.repo.name, "hf_revision": snapshot.commit}
        if group.format == "gguf":
            extra["hf_file"] = inside
        else:  # the whole directory is the model
            inside = os.path.dirname(inside)
        name = f"{self.repo.name}/{inside}".rstrip("/")
        place = Place(self.root, first, self.source, name)
        return place, Origin(
            source=self.source,
            name=None if group.format == "gguf" else name,
            place=place,
            source_id=f"{self.repo.name}@{snapshot.commit}",
            extra=extra,
        )

    def _of_other_format(self, snapshot: Snapshot) -> Item:
        """Return a repository of weights that are not read, or of everything but weights."""
        weights = tuple(file for file in snapshot.files if file.name.endswith(OTHER_WEIGHTS))
        if not weights:
            return self._whole(snapshot, "remote")
        if len(weights) > 1:
            weights = tuple(replace(file, role="shard") for file in weights)
        whole = self._whole(snapshot, "available")
        if known := unchanged(weights, whole.place, self.context):
            return known
        locator = file_locator(self.context.host, weights[0].real)
        model = replace(
            whole.model,
            id=model_id(locator),
            locator=locator,
            path=weights[0].path,
            file_size=sum(file.size for file in weights),
            sha256=weights[0].sha256 if len(weights) == 1 else None,
        )
        return Found(model, tuple(file.as_model_file() for file in weights), whole.place)

    def _whole(self, snapshot: Snapshot | None, status: Status) -> Found:
        """Return a repository as one model of which nothing is read."""
        name, place = self.repo.name, self.repo.path
        source_id = name
        if snapshot is not None:
            source_id, place = f"{name}@{snapshot.commit}", snapshot.path
        locator = f"hf:{source_id}"
        model = Model(
            id=model_id(locator),
            name=name,
            source=self.source,
            locator=locator,
            status=status,
            host=self.context.host,
            source_id=source_id,
            parameters=parameters_json({"hf_repo": name}),
            created_at=self.context.now,
            updated_at=self.context.now,
        )
        return Found(model, place=Place(self.root, place, self.source, name))
