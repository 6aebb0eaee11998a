"""Ollama's store: manifests name layers by digest, and one folder of blobs holds the layers.

::

    manifests*/HOST/NAMESPACE/MODEL/TAG   JSON: a config and layers, each {mediaType, digest, size}
    blobs/sha256-HEX                      their content (sha256:HEX in old versions)
    blobs/sha256-HEX-partial*             an unfinished download

The weights are a GGUF layer, or one layer for each tensor; a model in the cloud has none.
`modelstore.sources.stores.ollama_manifests` reads the manifests.
"""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelstore.errors import SourceError
from modelstore.found import FileRole, Found, Naming, Place, Skipped
from modelstore.locator import file_locator, model_id
from modelstore.model import Model, Status
from modelstore.sources.address import Address
from modelstore.sources.base import Unchanged, at_place, fill_unknown
from modelstore.sources.files.capabilities import known_capabilities, of_go_template, of_parser
from modelstore.sources.files.gguf_model import describe_gguf
from modelstore.sources.files.local_files import (
    LocalFile,
    Origin,
    is_named_after,
    local_file,
    unchanged,
)
from modelstore.sources.files.walk import note_outside
from modelstore.sources.paths import expand
from modelstore.sources.stores.ollama_manifests import (
    DIRECTORIES,
    Layer,
    Tag,
    has_manifests,
    named_entries,
    read_tags,
)
from modelstore.sources.stores.store_files import (
    UnreadableError,
    contains,
    fault,
    open_store,
    read_object,
    read_text,
)
from modelstore.sources.values import (
    MAX_TEMPLATE,
    count_or_none,
    parameters_json,
    text,
    texts,
)
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.sources.base import Context, Item, Target

KIND = "ollama"

_SNAP = "/var/snap/ollama/common/models"
_FLATPAK = ".var/app/com.jeffser.Alpaca/data/.ollama/models"  # Alpaca brings an Ollama along
_COMPANIONS: dict[str, FileRole] = {
    "projector": "projector",
    "adapter": "adapter",
    "draft": "draft",
}


def usual_places(context: Context) -> list[str]:
    """Return the stores of a user's Ollama and of the system service.

    https://docs.ollama.com/faq#where-are-models-stored
    """
    if moved := context.environ.get("OLLAMA_MODELS"):
        return [expand(moved, context.home)]
    usual = [os.path.join(context.home, ".ollama", "models")]
    if os.name == "nt":
        return usual
    return [
        *usual,
        "/usr/share/ollama/.ollama/models",
        *filter(os.path.isdir, (_SNAP, os.path.join(context.home, _FLATPAK))),
    ]


def recognises(path: str, names: set[str]) -> bool:
    """Return True for the directory of manifests and blobs, or the one above it."""
    if "blobs" in names and not names.isdisjoint(DIRECTORIES):
        return True
    return "models" in names and has_manifests(os.path.join(path, "models"))


def claims(_path: str, names: set[str]) -> set[str]:
    """Return the entries of a directory that belong to a store there."""
    own = names.intersection(DIRECTORIES)
    return {"blobs", *own} if "blobs" in names and own else set()


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a store: the directory with manifests and blobs, or the one above it."""
    root = open_store(target.text, holds="directory that holds Ollama's manifests and blobs")
    store = root
    if not has_manifests(store):
        store = os.path.realpath(os.path.join(root, "models"))
        if not has_manifests(store):
            raise SourceError(
                f"there are no manifests of Ollama in '{visible(root, 200)}'",
                hint="name the directory that holds them",
            )
    yield from _Reader(root, store, context).items()


class _Reader:
    """The reader of one store."""

    def __init__(self, root: str, store: str, context: Context) -> None:
        self.root = root  # the imported directory
        self.store = store  # holds manifests and blobs
        self.context = context
        self.outside: list[tuple[str, str]] = []  # links, and what they lead to

    def items(self) -> Iterator[Item]:
        """Yield each model once for every tag on its weights."""
        sharing: dict[tuple[str, ...], list[Tag]] = {}
        for entry in named_entries(self.store):
            if isinstance(entry, Skipped):
                yield entry
                continue
            try:
                tags = self._builds(read_tags(self.store, entry))
            except UnreadableError as error:
                yield Skipped(entry.path, str(error))
                continue
            for tag in tags:
                weights = tuple(layer.digest for layer in tag.of("model", "tensor"))
                sharing.setdefault(weights or (tag.place,), []).append(tag)
        for tags in sharing.values():
            item = self._item(tags)
            for tag in tags:
                yield at_place(item, Place(self.root, tag.place, KIND, tag.name))
        yield from note_outside(self.store, self.outside)

    def _builds(self, tags: list[Tag]) -> list[Tag]:
        """Return the builds of one name that are here, each but the first marked by its engine."""
        here = [
            tag
            for tag in tags
            if any(os.path.exists(self._blob(layer.digest)) for layer in tag.of("model", "tensor"))
        ]
        first, *others = here or tags[:1]
        marked = (replace(tag, name=f"{tag.name}@{tag.engine}", is_further=True) for tag in others)
        return [first, *marked]

    def _item(self, tags: list[Tag]) -> Found | Unchanged | Skipped:
        tag = tags[0]
        weights = tag.of("model")
        if weights:
            try:
                return self._described(tags, weights)
            except FileNotFoundError:
                part = glob.escape(self._blob(weights[0].digest)) + "-partial*"
                status: Status = "incomplete" if glob.glob(part) else "missing"
                return self._from_config(tag, self._blob(weights[0].digest), status)
            except UnreadableError as error:
                return Skipped(tag.name, str(error))
        if tensors := tag.of("tensor"):
            there = all(os.path.exists(self._blob(layer.digest)) for layer in tensors)
            return self._from_config(tag, tag.path, "available" if there else "incomplete")
        config = self._config(tag)
        if text(config.get("remote_host")) or text(config.get("remote_model")):
            return self._from_config(tag, None, "remote")
        return Skipped(tag.name, "its manifest names no weights")

    def _described(
        self, tags: list[Tag], weights: tuple[Layer, ...]
    ) -> Found | Unchanged | Skipped:
        """Describe the GGUF weights that several tags share, with the companions of all of them."""
        name = tags[0].name
        files = [self._file(one, "model" if len(weights) == 1 else "shard") for one in weights]
        companions = {layer: None for tag in tags for layer in tag.of(*_COMPANIONS)}
        files += [self._file(layer, _COMPANIONS[layer.media]) for layer in companions]
        place = Place(self.root, tags[0].place, KIND, name)
        revision = tags[0].revision
        known = unchanged(files, place, self.context)
        if known is not None:
            is_own = is_named_after(known.locator, files[0], self.context)
            return replace(known, naming=Naming(revision=revision)) if is_own else known
        template = self._template(tags[0])
        origin = Origin(
            source=KIND,
            name=name,
            place=place,
            source_id=name,
            revision=revision,
            extra={"template": template},
        )
        item = describe_gguf(files, origin, self.context)
        if not isinstance(item, Found):
            return item
        return fill_unknown(item, self._columns(tags[0], template))

    def _columns(self, tag: Tag, template: str | None) -> dict[str, Any]:
        """Return the facts of the config, with the capabilities that the template gives too."""
        columns = columns_of(self._config(tag))
        able = {*columns["capabilities"], *of_go_template(template or "")}
        return columns | {"capabilities": known_capabilities(able)}

    def _template(self, tag: Tag) -> str | None:
        """Return the template of a tag, in Go's language; None if it has none."""
        for layer in tag.of("template", "prompt"):
            with suppress(FileNotFoundError, UnreadableError):
                path = self._file(layer, "config").real
                return read_text(path, MAX_TEMPLATE).decode("utf-8", "replace")
        return None

    def _from_config(self, tag: Tag, path: str | None, status: Status) -> Found:
        """Make a model from Ollama's config, for weights that are not one file here."""
        config = self._config(tag)
        template = self._template(tag)
        layers = tag.of("model", "tensor")
        locator = (
            remote_locator(config, tag.name)
            if path is None
            else file_locator(self.context.host, path)
        )
        model = Model(
            id=model_id(locator),
            name=tag.name,
            source=KIND,
            locator=locator,
            path=path,
            status=status,
            file_size=sum(layer.size or 0 for layer in layers) or None,
            sha256=layers[0].digest if tag.of("model") else None,
            host=self.context.host,
            source_id=tag.name,
            revision=tag.revision,
            parameters=parameters_json({"template": template}),
            created_at=self.context.now,
            updated_at=self.context.now,
            **self._columns(tag, template),
        )
        return Found(model, place=Place(self.root, tag.place, KIND, tag.name))

    def _config(self, tag: Tag) -> dict[str, object]:
        if tag.config is None:
            return {}
        try:
            return read_object(self._file(Layer("config", tag.config, None), "config").real)
        except (FileNotFoundError, UnreadableError):
            return {}

    def _blob(self, digest: str) -> str:
        path = os.path.join(self.store, "blobs", f"sha256-{digest}")
        old = os.path.join(self.store, "blobs", f"sha256:{digest}")
        return old if os.path.lexists(old) and not os.path.lexists(path) else path

    def _file(self, layer: Layer, role: FileRole) -> LocalFile:
        """Look at the blob of a layer. Raises FileNotFoundError, or `UnreadableError`."""
        try:
            file = local_file(self._blob(layer.digest), role, sha256=layer.digest)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise fault(error) from None
        if not contains(self.store, file.real):
            self.outside.append((file.path, file.real))
        return file


def columns_of(config: dict[str, object]) -> dict[str, Any]:
    """Return the facts of Ollama's config under the names of the catalogue's columns."""
    able = {*texts(config.get("capabilities")), *of_parser(text(config.get("parser"), 40))}
    return {
        "architecture": text(config.get("model_family"), 100),
        "type": "embedding" if "embedding" in able else None,
        "capabilities": known_capabilities(able),
        "size_label": text(config.get("model_type"), 40),
        "quantization": quantization(config.get("file_type")),
        "context_length": count_or_none(config.get("context_length")),
        "embedding_length": count_or_none(config.get("embedding_length")),
    }


def quantization(value: object) -> str | None:
    """Return Ollama's quantization level; None for its word ``unknown``."""
    level = text(value, 40)
    return None if level == "unknown" else level


def remote_locator(config: Mapping[str, object], name: str) -> str:
    """Return the locator of a model in the cloud: the same on every machine that uses it."""
    name = text(config.get("remote_model")) or name
    try:
        return f"{Address.parse(text(config.get('remote_host')) or '').url}#{name}"
    except SourceError:
        return f"ollama:{name}"
