"""The manifests of Ollama's store: which names there are, and the layers that each stands for.

::

    manifests-v2/HOST/NAMESPACE/MODEL/TAG    since 0.40: a link to a blob, or a copy of it
    manifests/HOST/NAMESPACE/MODEL/TAG       before; kept for a return to an older version

A manifest names a config and layers, or it is a list of manifests: one build for each engine
that can run the model (``ggml``, ``llamacpp``, ``mlx``), each a blob of its own. Of two entries
of one name, that of the newer layout counts, unless its link leads nowhere.
https://github.com/ollama/ollama/tree/main/manifest
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.found import Skipped
from modelstore.sources.stores.store_files import (
    UnreadableError,
    is_litter,
    json_object,
    read_text,
    walk,
)
from modelstore.sources.values import array, count_or_none, mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORIES = ("manifests-v2", "manifests")
_PUBLIC_HOSTS = ("registry.ollama.ai", "ollama.com")
_LIST = "application/vnd.ollama.manifest.list.v2+json"
_ENGINES = ("ggml", "ollama", "llamacpp", "mlx")  # the first has the file that was pulled
_MAX_BUILDS = 32
_MEDIA = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_SHADOW = re.compile(rf"(?:{'|'.join(_ENGINES)}):[0-9a-f]{{64}}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a model, by its content."""

    media: str  # after the common prefix: model, projector, tensor, …
    digest: str  # hex
    size: int | None  # bytes


@dataclass(frozen=True, slots=True)
class Tag:
    """One name in the store and the layers of one build of it."""

    name: str  # as `ollama list` shows it
    path: str  # of the manifest
    revision: str  # SHA-256 of the manifest: the ID of `ollama list` is its beginning
    config: str | None  # digest
    layers: tuple[Layer, ...]
    engine: str | None = None  # that the build is for, if a list names it
    is_further: bool = False  # not the first build of its name

    @property
    def place(self) -> str:
        """The path of the manifest, and for a further build of it the engine."""
        return f"{self.path}#{self.engine}" if self.is_further else self.path

    def of(self, *media: str) -> tuple[Layer, ...]:
        """Return the layers of some media types."""
        return tuple(layer for layer in self.layers if layer.media in media)


def has_manifests(directory: str) -> bool:
    """Return True for the directory of a store."""
    return any(os.path.isdir(os.path.join(directory, name)) for name in DIRECTORIES)


def is_shadow(name: str) -> bool:
    """Return True for a name that Ollama gives to its own converted build of a model.

    It keeps the build for older versions, which do not know lists.
    """
    return _SHADOW.fullmatch(name) is not None


def manifest_entries(store: str) -> Iterator[os.DirEntry[str] | Skipped]:
    """Yield every manifest of a store, without what file managers and broken writes leave there."""
    for directory in DIRECTORIES:
        for entry in walk(os.path.join(store, directory)):
            is_unfinished = not isinstance(entry, Skipped) and entry.name.startswith(".manifest-")
            if isinstance(entry, Skipped) or not (is_litter(entry.name) or is_unfinished):
                yield entry


def named_entries(store: str) -> Iterator[os.DirEntry[str] | Skipped]:
    """Yield the manifest of each name, in the order of the names' paths."""
    named: dict[str, os.DirEntry[str]] = {}
    for entry in manifest_entries(store):
        if isinstance(entry, Skipped):
            yield entry
            continue
        parts = _parts(store, entry.path)
        name = tag_name(*parts) if len(parts) == 4 else entry.path
        if is_shadow(name):
            continue
        if name not in named or not os.path.exists(named[name].path):
            named[name] = entry
    yield from sorted(named.values(), key=lambda entry: _parts(store, entry.path))


def _parts(store: str, path: str) -> list[str]:
    """Return the parts of a manifest's path below the directory of manifests."""
    return os.path.relpath(path, store).split(os.sep)[1:]


def read_tags(store: str, entry: os.DirEntry[str]) -> list[Tag]:
    """Read a manifest and return a tag for each build of it. Raises `UnreadableError`.

    Of a list, builds whose manifest is not here are left out.
    """
    if len(_parts(store, entry.path)) != 4:
        raise UnreadableError("is not at HOST/NAMESPACE/MODEL/TAG")
    tags = _tags(store, entry, *_read(store, entry))
    if not tags:
        raise UnreadableError("lists no build that is here")
    return sorted(tags, key=_preference)


def named_digests(store: str, entry: os.DirEntry[str]) -> set[str]:
    """Return the digests of all blobs that a manifest keeps. Raises `UnreadableError`."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        return set()  # an older version removed the blob: there is nothing to keep
    content, manifest = _read(store, entry)
    named = {hashlib.sha256(content).hexdigest()}
    for child in _children(manifest):
        named.update([_digest(child["digest"])] if "digest" in child else [])
    for tag in _tags(store, entry, content, manifest):
        named.update(layer.digest for layer in tag.layers)
        named.update([tag.config] if tag.config else [])
    return named


def _tags(
    store: str, entry: os.DirEntry[str], content: bytes, manifest: dict[str, object]
) -> list[Tag]:
    parts = _parts(store, entry.path)
    name = tag_name(*parts) if len(parts) == 4 else entry.path
    revision = hashlib.sha256(content).hexdigest()
    if text(manifest.get("mediaType")) != _LIST:
        return [_tag(name, entry.path, revision, manifest)]
    tags = []
    for child in _children(manifest):
        build = child if "layers" in child else _child(store, child)
        if build is not None:
            tags.append(_tag(name, entry.path, revision, build, text(child.get("runner"), 40)))
    return tags


def _read(store: str, entry: os.DirEntry[str]) -> tuple[bytes, dict[str, object]]:
    """Return the bytes and the content of a manifest, through a link to a blob."""
    path = entry.path
    if entry.is_symlink():
        path = os.path.realpath(path)
        blobs = os.path.realpath(os.path.join(store, "blobs"))
        if os.path.dirname(path) != blobs:
            raise UnreadableError("is a link, and not to a blob of this store")
    elif not entry.is_file(follow_symlinks=False):
        raise UnreadableError("is not a file")
    content = read_text(path)
    return content, json_object(content)


def _children(manifest: dict[str, object]) -> list[dict[str, object]]:
    children = array(manifest.get("manifests"))
    if len(children) > _MAX_BUILDS:
        raise UnreadableError(f"lists more than {_MAX_BUILDS} builds")
    return list(map(mapping, children))


def _child(store: str, reference: dict[str, object]) -> dict[str, object] | None:
    path = os.path.join(store, "blobs", f"sha256-{_digest(reference.get('digest'))}")
    return json_object(read_text(path)) if os.path.exists(path) else None


def _tag(
    name: str, path: str, revision: str, manifest: dict[str, object], engine: str | None = None
) -> Tag:
    config = mapping(manifest.get("config")).get("digest")
    layers = [
        Layer(
            (text(layer.get("mediaType")) or "").removeprefix(_MEDIA),
            _digest(layer.get("digest")),
            count_or_none(layer.get("size")),
        )
        for layer in map(mapping, array(manifest.get("layers")))
    ]
    return Tag(name, path, revision, _digest(config) if config else None, tuple(layers), engine)


def _preference(tag: Tag) -> int:
    return _ENGINES.index(tag.engine) if tag.engine in _ENGINES else len(_ENGINES)


def _digest(value: object) -> str:
    match = _DIGEST.fullmatch(text(value) or "")
    if match is None:
        raise UnreadableError("holds a malformed digest")
    return match[1]


def tag_name(host: str, namespace: str, model: str, tag: str) -> str:
    """Return a name as `ollama list` shows it, without the default host and namespace."""
    if host not in _PUBLIC_HOSTS:
        return f"{host.replace('%3A', ':')}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"
