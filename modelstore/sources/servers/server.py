"""The common part of all kinds of live servers: an address, a list of models, their files.

A model of a server on this machine is identified by its file if that is here. Any other model is
identified by the server's address and its name there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from modelstore.errors import SourceError
from modelstore.found import Found, Place, Skipped
from modelstore.locator import model_id
from modelstore.model import Model
from modelstore.sources.address import Address
from modelstore.sources.base import Note, Unchanged, fill_unknown
from modelstore.sources.files.grouping import Group, describe, group_files, is_relevant
from modelstore.sources.files.local_files import Origin, local_file
from modelstore.sources.servers.http import Client
from modelstore.sources.servers.listener import working_directory
from modelstore.sources.stores.huggingface import linked_sha256
from modelstore.sources.stores.store_files import UnreadableError, entries
from modelstore.sources.values import parameters_json, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.files.local_files import LocalFile


class ServerKind(Protocol):
    """The protocol of one kind of server, implemented by a module of this package."""

    KIND: str

    def usual_places(self, context: Context) -> list[str]:
        """Return the addresses where such a server usually listens."""
        ...

    def recognises(self, client: Client, listing: object) -> bool:
        """Return True if such a server answers. `listing` is its reply at ``/v1/models``."""
        ...

    def items(self, server: Server) -> Iterator[Item]:
        """Yield its models. Raises `SourceError` if it does not list them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerModel:
    """One model as a server describes it. None is unknown."""

    state: str | None = None
    path: str | None = None  # of the weights, on the server's machine
    sha256: str | None = None  # of the weights
    columns: Mapping[str, Any] = field(default_factory=dict)  # by the names of `Model`'s fields
    facts: Mapping[str, object] = field(default_factory=dict)  # into `parameters`
    locator: str | None = None  # if the model is not bound to this server
    store: str | None = None  # the kind of store that holds its file; None for a loose file


@dataclass(frozen=True, slots=True)
class Server:
    """A live server to read models from. `kind` is its kind of source."""

    kind: str
    client: Client
    context: Context
    _directory: list[str | None] = field(default_factory=list, repr=False)  # once it is known
    _folders: dict[str, list[Group]] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, target: Target, context: Context, kind: str) -> Server:
        """Return the server at an address, without asking it. Raises `SourceError`."""
        client = Client(Address.parse(target.text), context.timeout, context.api_key or None)
        return cls(kind, client, context)

    @property
    def url(self) -> str:
        """The canonical address."""
        return self.client.address.url

    def notes(self) -> Iterator[Note]:
        """Yield a warning if the API key would cross the network unencrypted."""
        address = self.client.address
        if self.client.api_key and address.scheme == "http" and not address.is_loopback:
            yield Note(f"the API key goes to {address.url} unencrypted")

    def models(
        self,
        listed: object,
        key: str,
        describe_model: Callable[[str, dict[str, object]], ServerModel],
    ) -> Iterator[Item]:
        """Yield an item for each object of a list. `key` is the field with its name.

        Raises `SourceError` if `listed` is not a list.
        """
        if listed is None:  # how Go writes an empty list
            return
        if not isinstance(listed, list):
            raise SourceError(
                f"{self.url} answered, but not with a list of models",
                hint="is it another kind of server? leave out --from to detect it",
            )
        names: set[str] = set()
        for number, entry in enumerate(listed, start=1):
            name = text(entry.get(key)) if isinstance(entry, dict) else None
            if name is None:
                yield Skipped(f"{self.url}, model {number}", "has no name")
            elif name in names:
                yield Skipped(f"{self.url}#{name}", "is listed twice")
            else:
                names.add(name)
                yield self._item(name, describe_model(name, entry))

    def _item(self, name: str, served: ServerModel) -> Item:
        place = Place(self.url, f"{self.url}#{name}", self.kind, name, served.state)
        path = self._here(served.path)
        if path is not None:
            with suppress(OSError, ValueError):  # probably a path in a container
                file = local_file(path, sha256=served.sha256 or linked_sha256(path))
                if (item := self._of_file(name, file, served, place)) is not None:
                    return item
        return self._remote(name, served, place)

    def _here(self, path: str | None) -> str | None:
        """Return the absolute path of a file that a server on this machine names."""
        if not path or not self.client.address.is_loopback:
            return None
        if os.path.isabs(path):
            return path
        if not self._directory:
            self._directory.append(working_directory(self.client.address.port))
        base = self._directory[0]
        return os.path.join(base, path) if base else None

    def _of_file(
        self, name: str, file: LocalFile, served: ServerModel, place: Place
    ) -> Item | None:
        """Make an item of the server's file if it is here and a model."""
        known = self.context.known.get(file.real)
        if known and (known.size, known.mtime_ns) == (file.size, file.mtime_ns):
            return Unchanged(known.locator, place)
        own = name if served.store else None
        origin = Origin(
            source=served.store, name=own, place=place, source_id=own, extra=served.facts
        )
        item = describe(self._group(file), origin, self.context)
        if isinstance(item, Skipped):
            return None
        return fill_unknown(item, served.columns) if isinstance(item, Found) else item

    def _group(self, file: LocalFile) -> Group:
        """Return the file with its shards and companions, as a scan of its folder does."""
        folder = os.path.dirname(file.path)
        if folder not in self._folders:
            self._folders[folder] = group_files(_relevant(folder))
        for group in self._folders[folder]:
            if any(member.real == file.real for member in group.files):
                return group
        return Group("gguf", (file,))

    def _remote(self, name: str, served: ServerModel, place: Place) -> Found:
        """Make an item of a model that has no file here."""
        address, context = self.client.address, self.context
        # An address like localhost means another machine on each: the host's name tells which.
        host = context.host if address.is_loopback else address.host
        locator = served.locator or f"{address.url_on(host)}#{name}"
        known = {column: value for column, value in served.columns.items() if value is not None}
        facts = {**served.facts, "model_path": served.path}
        model = Model(
            id=model_id(locator),
            name=name,
            source=self.kind,
            locator=locator,
            status="remote",
            sha256=served.sha256,
            host=host,
            parameters=parameters_json(facts),
            source_id=name,
            created_at=context.now,
            updated_at=context.now,
            **known,
        )
        return Found(model, place=place)


def _relevant(folder: str) -> Iterator[LocalFile]:
    with suppress(UnreadableError):
        for entry in entries(folder):
            if is_relevant(entry.name):
                with suppress(OSError):  # a link to nothing
                    blob = linked_sha256(entry.path) if entry.is_symlink() else None
                    yield local_file(entry.path, sha256=blob)
