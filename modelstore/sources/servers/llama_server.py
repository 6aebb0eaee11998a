"""A live llama-server: a router over many models, or a single model.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelstore.sources.configs.command_line import parse_arguments
from modelstore.sources.servers.http import ReplyError
from modelstore.sources.servers.server import Server, ServerModel
from modelstore.sources.values import array, count_or_none, mapping, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.servers.http import Client

KIND = "llama-server"

_MAX_PATH = 4096  # characters


def usual_places(context: Context) -> list[str]:
    """Return the address at its configured port, or at its new and old default ports."""
    port = context.environ.get("LLAMA_ARG_PORT", "")
    ports = [port] if port.isdecimal() and port.isascii() else ["9931", "8080"]
    return [f"http://127.0.0.1:{port}" for port in ports]


def recognises(client: Client, listing: object) -> bool:
    """Return True if it lists llama.cpp's models, or lists none and has llama-server's props."""
    models = array(mapping(listing).get("data"))
    if models:
        return any(mapping(model).get("owned_by") == "llamacpp" for model in models)
    props = client.optional("/props")
    return props.get("role") == "router" or "default_generation_settings" in props


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of the server at an address. Raises `SourceError` without an answer."""
    server = Server.at(target, context, KIND)
    yield from server.notes()
    yield from items(server)


def items(server: Server) -> Iterator[Item]:
    """Yield the models that it serves, or that a router can load."""
    try:
        listing = server.client.get("/models")
    except ReplyError as error:
        if error.status != 404:
            raise
        listing = server.client.get("/v1/models")
    listed = mapping(listing).get("data", {})
    if any("status" in mapping(model) for model in array(listed)):
        yield from server.models(listed, "id", _of_router)
        return
    props = server.client.optional("/props")  # unlike the list, this may need a key
    if props.get("role") == "router":
        props = {}
    yield from server.models(listed, "id", lambda _name, model: _single(model, props))


def _of_router(_name: str, model: dict[str, object]) -> ServerModel:
    status = mapping(model.get("status"))
    state = text(status.get("value"), 40)
    if state and status.get("failed") is True:
        state = f"{state} (failed)"
    words = [text(word, _MAX_PATH) or "" for word in array(status.get("args"))[:10_000]]
    served = parse_arguments(words)
    columns = _columns(mapping(model.get("meta")))
    return ServerModel(
        state=state,
        path=served.model or _real_path(model.get("path")),
        columns={**columns, "type": served.type},
        facts={
            "hf_repo": served.hf_repo,
            "hf_file": served.hf_file,
            "ctx_size": served.context,
            "input_modalities": _input_modalities(model),
        },
    )


def _single(model: dict[str, object], props: dict[str, object]) -> ServerModel:
    meta = model.get("meta")
    state = "loaded" if isinstance(meta, dict) else "loading"
    if props.get("is_sleeping") is True:
        state = "sleeping"
    generation = mapping(props.get("default_generation_settings"))
    seen = mapping(props.get("modalities"))
    return ServerModel(
        state=state,
        path=_real_path(props.get("model_path")),
        columns=_columns(mapping(meta)),
        facts={
            "ctx_size": count_or_none(generation.get("n_ctx")),
            "input_modalities": _input_modalities(model)
            or ["text", *(name for name in ("vision", "audio") if seen.get(name) is True)],
        },
    )


def _real_path(value: object) -> str | None:
    path = text(value, _MAX_PATH)
    return None if path == "none" else path  # a router without a model of its own


def _input_modalities(model: dict[str, object]) -> list[str] | None:
    return texts(mapping(model.get("architecture")).get("input_modalities"), 40) or None


def _columns(meta: dict[str, object]) -> dict[str, Any]:
    return {
        "context_length": count_or_none(meta.get("n_ctx_train")),
        "embedding_length": count_or_none(meta.get("n_embd")),
        "vocab_size": count_or_none(meta.get("n_vocab")),
        "parameter_count": count_or_none(meta.get("n_params")),
        "file_size": count_or_none(meta.get("size")),
    }
