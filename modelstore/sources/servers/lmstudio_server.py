"""A live LM Studio server, read through its own API.

https://lmstudio.ai/docs/developer/rest
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.sources.files.capabilities import known_capabilities
from modelstore.sources.servers.server import Server, ServerModel
from modelstore.sources.values import array, count_or_none, mapping, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.servers.http import Client

KIND = "lmstudio-server"

_PATH = "/api/v0/models"
_CAPABILITIES = {
    "tool_use": "tools",
    "vision": "vision",
    "vlm": "vision",
    "embeddings": "embedding",
}
_TYPES = {"llm": "model", "vlm": "model", "embeddings": "embedding"}


def usual_places(_context: Context) -> list[str]:
    """Return its default address."""
    return ["http://127.0.0.1:1234"]


def recognises(client: Client, listing: object) -> bool:
    """Return True if it lists models with a field that only LM Studio has."""
    del listing  # not distinctive
    models = array(client.optional(_PATH).get("data"))
    return any("compatibility_type" in mapping(model) for model in models)


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of the server at an address. Raises `SourceError` without an answer."""
    server = Server.at(target, context, KIND)
    yield from server.notes()
    yield from items(server)


def items(server: Server) -> Iterator[Item]:
    """Yield its models, loaded or not."""
    yield from server.models(mapping(server.client.get(_PATH)).get("data", {}), "id", _model)


def _capabilities(model: dict[str, object]) -> tuple[str, ...] | None:
    """Return what a model can do; older versions tell its type alone."""
    told = {_CAPABILITIES.get(word) for word in texts(model.get("capabilities"), 40)}
    told.add(_CAPABILITIES.get(text(model.get("type")) or ""))
    return known_capabilities(told) or (() if "capabilities" in model else None)


def _model(_name: str, model: dict[str, object]) -> ServerModel:
    return ServerModel(
        state=text(model.get("state"), 40),
        columns={
            "type": _TYPES.get(text(model.get("type")) or ""),
            "architecture": text(model.get("arch"), 100),
            "quantization": text(model.get("quantization"), 40),
            "context_length": count_or_none(model.get("max_context_length")),
            "capabilities": _capabilities(model),
        },
        facts={
            "publisher": text(model.get("publisher"), 200),
            "format": text(model.get("compatibility_type"), 40),
            "ctx_size": count_or_none(model.get("loaded_context_length")),
        },
    )
