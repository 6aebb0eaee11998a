"""Docker Model Runner's store: an index of models, their manifests, and blobs by their hash.

::

    models.json                      {"models": [{"id": "sha256:…", "tags": ["ai/smollm2:latest"]}]}
    manifests/sha256/HEX             JSON: layers, each {mediaType, digest, size}
    blobs/sha256/HEX                 their content

https://github.com/docker/model-runner/tree/main/pkg/distribution/internal/store
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from modelstore.found import FileRole, Place, Skipped
from modelstore.sources.base import at_place
from modelstore.sources.files.gguf_model import describe_gguf
from modelstore.sources.files.local_files import LocalFile, Origin, local_file
from modelstore.sources.stores.store_files import (
    UnreadableError,
    fault,
    open_store,
    read_object,
)
from modelstore.sources.values import array, mapping, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "docker-models"

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_ROLES: dict[str, FileRole] = {"gguf": "model", "mmproj": "projector"}
_MEDIA = re.compile(r"application/vnd\.docker\.ai\.(\w+)(?:\.v\d+)?(?:\+.*)?")


def usual_places(context: Context) -> list[str]:
    """Return the store of Docker Desktop and of the Docker Engine's plugin."""
    return [os.path.join(context.home, ".docker", "models")]


def recognises(path: str, names: set[str]) -> bool:
    """Return True for the store's directory."""
    return bool(claims(path, names))


def claims(_path: str, names: set[str]) -> set[str]:
    """Return the entries of a directory that belong to a store there."""
    own = {"models.json", "layout.json", "blobs", "manifests", "bundles"}
    return own if {"models.json", "blobs", "manifests"} <= names else set()


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield each model of a store once for every tag."""
    root = open_store(target.text, holds="directory with models.json and blobs in it")
    try:
        index = read_object(os.path.join(root, "models.json"))
    except UnreadableError as error:
        raise error.as_source_error(root) from None
    for entry in map(mapping, array(index.get("models"))):
        key = text(entry.get("id")) or ""
        tags = texts(entry.get("tags")) or [key]
        try:
            files = _files(root, key)
        except UnreadableError as error:
            yield Skipped(tags[0], str(error))
            continue
        place = Place(root, f"{root}#{tags[0]}", KIND, tags[0])
        origin = Origin(source=KIND, name=tags[0], place=place, source_id=key)
        item = describe_gguf(files, origin, context)
        for tag in tags:
            yield at_place(item, Place(root, f"{root}#{tag}", KIND, tag))


def _files(root: str, key: str) -> list[LocalFile]:
    """Return the weights and the projector that a model's manifest names."""
    manifest = read_object(os.path.join(root, "manifests", "sha256", _hex(key)))
    files: list[LocalFile] = []
    for layer in map(mapping, array(manifest.get("layers"))):
        media = _MEDIA.fullmatch(text(layer.get("mediaType")) or "")
        role = _ROLES.get(media[1]) if media else None
        if role is None:
            continue
        digest = _hex(text(layer.get("digest")) or "")
        try:
            file = local_file(os.path.join(root, "blobs", "sha256", digest), role, sha256=digest)
        except OSError as error:
            raise fault(error) from None
        files.append(file)
    weights = sum(file.role == "model" for file in files)
    if not weights:
        raise UnreadableError("its manifest names no GGUF weights")
    return files if weights == 1 else _as_shards(files)


def _as_shards(files: list[LocalFile]) -> list[LocalFile]:
    return [replace(file, role="shard") if file.role == "model" else file for file in files]


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise UnreadableError("holds a malformed digest")
    return match[1]
