"""Live servers: which kind of one it is that answers, and reading it as that kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import SourceError
from modelstore.sources.address import Address
from modelstore.sources.base import Note
from modelstore.sources.servers import llama_server, lmstudio_server, ollama_server, openai_server
from modelstore.sources.servers.http import Client, ReplyError
from modelstore.sources.servers.served import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.servers.served import ServerKind

# Asked in this order. The last takes whatever lists models at all.
_KINDS: tuple[ServerKind, ...] = (llama_server, ollama_server, lmstudio_server, openai_server)


def identify(client: Client) -> ServerKind:
    """Return the kind of server that answers, after a few requests for lists of models.

    Raises `SourceError` where nothing answers, a key is asked for, or no list is to be had.
    """
    listing: object = None
    fault = SourceError(
        f"{client.address.url} answers, but lists no models that can be read",
        hint="is it a server of language models? name its kind with --from",
    )
    try:
        listing = client.get("/v1/models")
    except ReplyError as error:
        if error.status in (None, 401, 403):
            raise
        if error.status != 404:
            fault = error
    for kind in _KINDS:
        if kind.recognises(client, listing):
            return kind
    raise fault


@dataclass(frozen=True, slots=True)
class _Live:
    """A source that reads a server: of one kind, or (None) of whichever kind answers."""

    kind: ServerKind | None = None

    @property
    def KIND(self) -> str:  # noqa: N802 - the protocol of sources
        """The kind of source."""
        return self.kind.KIND if self.kind else "server"

    def usual_places(self, context: Context) -> list[str]:
        """Return the addresses where such a server usually listens."""
        return self.kind.usual_places(context) if self.kind else []

    def read(self, target: Target, context: Context) -> Iterator[Item]:
        """Yield the models of the server at an address. Raises `SourceError` without an answer."""
        address = Address.parse(target.text)
        client = Client(address, context.timeout, context.api_key or None)
        if client.api_key and address.scheme == "http" and not address.is_loopback:
            yield Note(f"the API key goes to {address.url} unencrypted")
        kind = self.kind or identify(client)
        yield from kind.items(Server(kind.KIND, client, context))


SOURCES = {source.KIND: source for source in (_Live(), *map(_Live, _KINDS))}
