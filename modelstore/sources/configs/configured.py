"""Models that a server's configuration names by file or by repository.

A model whose file is here is read from the file, as a scan of its folder does, so that both become
one row. Any other model is identified by its name in the configuration.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.found import FileRole, Found, Place, Skipped
from modelstore.locator import file_locator, hub_locator, is_repository, model_id
from modelstore.model import Model, Status
from modelstore.sources.base import fill_unknown
from modelstore.sources.files import naming
from modelstore.sources.files.directory import read_file
from modelstore.sources.files.local_files import local_file
from modelstore.sources.paths import expand
from modelstore.sources.text_input import base_directory
from modelstore.sources.values import parameters_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.configs.command_line import Served

_DIGEST = re.compile(r"^(?:sha256[-:])?[0-9a-f]{40,64}$")
_REPOSITORY = re.compile(r"([^/:@\s]+/[^/:@\s]+)(?::([^\s:/]{1,64}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of a configuration."""

    id: str  # its unique name in the configuration
    served: Served
    title: str | None = None  # a name for people
    tags: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)  # without secrets


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file of one kind."""

    kind: str
    target: Target
    context: Context

    def describe(self, entry: Entry) -> Item:
        """Return the model that `entry` names; `Skipped` if its file is here but unreadable."""
        served = entry.served
        repository = _repository_of(served, entry.id)
        path = None
        if served.model and (repository is None or self._local(served.model) is not None):
            path = self._local(served.model) or expand(served.model, self.context.home)
            if os.path.isfile(path):
                return self._from_file(path, entry)
        return self._named(entry, path, None if path else repository)

    def _local(self, path: str) -> str | None:
        """Return the absolute path of an existing file or directory; else None."""
        full = os.path.join(base_directory(self.target), expand(path, self.context.home))
        with suppress(ValueError):  # a NUL character
            if os.path.exists(full):
                return os.path.abspath(full)
        return None

    def _place(self, entry: Entry) -> Place | None:
        if self.target.stream is not None:
            return None
        root = self.target.real_path
        return Place(root, f"{root}#{entry.id}", self.kind, entry.id)

    def _from_file(self, path: str, entry: Entry) -> Item:
        is_safetensors = path.lower().endswith(".safetensors")
        kind: naming.Extension = "safetensors" if is_safetensors else "gguf"
        item = next(iter(read_file(path, self.context, kind)))
        if isinstance(item, Skipped):
            return Skipped(f"{entry.id}: {item.what}", item.reason)
        if not isinstance(item, Found):
            return item
        item = fill_unknown(item, {"type": entry.served.type})
        roles: tuple[tuple[str | None, FileRole], ...] = (
            (entry.served.projector, "projector"),
            (entry.served.draft, "draft"),
        )
        files = list(item.files)
        for companion, role in roles:
            there = self._local(companion) if companion else None
            with suppress(OSError):
                file = local_file(there, role).as_model_file() if there else None
                if file and all(file.path != other.path for other in files):
                    files.append(file)
        tags = tuple(sorted({*item.model.tags, *entry.tags}))
        name = item.model.name
        if _DIGEST.search(os.path.basename(path)):  # a nameless blob of a store
            name = entry.title or entry.id
        model = item.model._replace(tags=tags, name=name)
        return Found(model, tuple(files), self._place(entry))

    def _named(self, entry: Entry, path: str | None, repository: str | None) -> Found:
        """Make a model that has no single file here."""
        served = entry.served
        status: Status = "remote"
        if path is not None:
            path = os.path.realpath(path) if os.path.isabs(path) else path
            status = "available" if os.path.exists(path) else "missing"
            locator = file_locator(self.context.host, path)
            quantization = _quantization(path)
        else:
            locator, quantization = _remote_identity(entry, repository)
        model = Model(
            id=model_id(locator),
            name=entry.title or entry.id,
            source=self.kind,
            locator=locator,
            path=path,
            type=served.type,
            status=status,
            quantization=quantization,
            context_length=served.context,
            tags=tuple(sorted(set(entry.tags))),
            host=self.context.host,
            parameters=parameters_json(entry.facts),
            source_id=entry.id,
            created_at=self.context.now,
            updated_at=self.context.now,
        )
        return Found(model, place=self._place(entry))


def _remote_identity(entry: Entry, repository: str | None) -> tuple[str, str | None]:
    """Return the locator and the quantization of a model that is not on this machine."""
    served = entry.served
    quantization = _quantization(served.hf_file) if served.hf_file else None
    if repository is not None:
        match = _REPOSITORY.fullmatch(repository)
        tag = match[2] if match else None
        locator = hub_locator(match[1] if match else repository, file=served.hf_file or tag)
        return locator, quantization or (naming.encoding("-" + tag) if tag else None)
    if served.docker_repo:
        return f"docker:{served.docker_repo}", quantization
    if served.model_url:
        return served.model_url.split("?")[0].split("#")[0], quantization
    return f"name:{entry.id}", quantization


def _quantization(path: str) -> str | None:
    return naming.encoding(os.path.splitext(os.path.basename(path))[0])


def split_list(text: str | None) -> tuple[str, ...]:
    """Return the parts of a comma-separated list, such as the value of ``--tags``."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _repository_of(served: Served, name: str) -> str | None:
    """Return the served Hugging Face repository, if any: ``org/repo`` or ``org/repo:QUANT``."""
    for candidate in (served.hf_repo, served.model, None if served.names_model else name):
        match = _REPOSITORY.fullmatch(candidate) if candidate else None
        if match and is_repository(match[1]) and not match[1].lower().endswith(".gguf"):
            return candidate
    return None
