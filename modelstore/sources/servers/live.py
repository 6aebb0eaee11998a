"""A live server of unknown kind: each kind is tried, and the first that answers reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from modelstore.errors import SourceError
from modelstore.sources.kinds import KINDS, load
from modelstore.sources.servers.http import ReplyError
from modelstore.sources.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.servers.http import Client
    from modelstore.sources.servers.server import ServerKind

KIND = "server"


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of the server at an address. Raises `SourceError` without an answer."""
    server = Server.at(target, context, KIND)
    yield from server.notes()
    kind = identify(server.client)
    yield from kind.items(Server(kind.KIND, server.client, context))


def identify(client: Client) -> ServerKind:
    """Return the kind of server that answers, after a few requests for lists of models.

    Asks the kinds in the order of the registry: the last takes any server that lists models.
    Raises `SourceError` if nothing answers, a key is required, or no list can be read.
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
    for kind in _server_kinds():
        if kind.recognises(client, listing):
            return kind
    raise fault


def _server_kinds() -> Iterator[ServerKind]:
    for kind, info in KINDS.items():
        if info.is_server and kind != KIND:
            yield cast("ServerKind", load(kind))
