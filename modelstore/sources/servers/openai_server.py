"""Any live server with OpenAI's list of models: vLLM, LocalAI, llama-swap, a gateway.

https://platform.openai.com/docs/api-reference/models/list
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.sources.servers.server import Server, ServerModel
from modelstore.sources.values import count_or_none, mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.servers.http import Client

KIND = "openai-server"


def usual_places(_context: Context) -> list[str]:
    """Return no address: such a server may listen anywhere."""
    return []


def recognises(_client: Client, listing: object) -> bool:
    """Return True if there is a list at all."""
    return isinstance(mapping(listing).get("data"), list)


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of the server at an address. Raises `SourceError` without an answer."""
    server = Server.at(target, context, KIND)
    yield from server.notes()
    yield from items(server)


def items(server: Server) -> Iterator[Item]:
    """Yield its models without their ``created``: many servers give the current time."""
    yield from server.models(mapping(server.client.get("/v1/models")).get("data", {}), "id", _model)


def _model(_name: str, model: dict[str, object]) -> ServerModel:
    lengths = (model.get("max_model_len"), model.get("context_length"), model.get("context_window"))
    return ServerModel(
        columns={
            "context_length": next(filter(None, map(count_or_none, lengths)), None),
            "type": "adapter" if text(model.get("parent")) else None,  # vLLM lists its LoRAs
        },
        facts={
            "owned_by": text(model.get("owned_by"), 200),
            "root": text(model.get("root")),
            "base_model": text(model.get("parent")),
        },
    )
