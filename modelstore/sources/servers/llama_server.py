"""A live llama-server: a router over many models, or a single model.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from modelstore.locator import hub_locator, is_repository
from modelstore.sources.configs.command_line import parse_arguments
from modelstore.sources.files.capabilities import known_capabilities, of_template
from modelstore.sources.servers.http import ReplyError
from modelstore.sources.servers.server import Server, ServerModel
from modelstore.sources.stores.huggingface import cached_file
from modelstore.sources.values import MAX_TEMPLATE, array, count_or_none, mapping, text, texts

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
        yield from server.models(
            listed, "id", lambda name, model: _of_router(name, model, server.context)
        )
        return
    props = server.client.optional("/props")  # unlike the list, this may need a key
    if props.get("role") == "router":
        props = {}
    yield from server.models(listed, "id", lambda _name, model: _single(model, props))


def _of_router(name: str, model: dict[str, object], context: Context) -> ServerModel:
    status = mapping(model.get("status"))
    state = text(status.get("value"), 40)
    if state and status.get("failed") is True:
        state = f"{state} (failed)"
    words = [text(word, _MAX_PATH) or "" for word in array(status.get("args"))[:10_000]]
    served = parse_arguments(words)
    meta = mapping(model.get("meta"))
    path = served.model or _real_path(model.get("path"))
    repository = served.hf_repo or (name if model.get("source") == "cache" else None)
    if repository is not None and path is None:
        path = cached_file(context, repository, served.hf_file)
    return ServerModel(
        state=state,
        path=path,
        locator=_hub_locator(repository, served.hf_file),
        columns={
            **_columns(meta),
            "type": served.type,
            "capabilities": _capabilities(_input_modalities(model), served.type),
        },
        facts={
            **_facts(meta),
            "hf_repo": served.hf_repo,
            "hf_file": served.hf_file,
            "ctx_size": served.context,
            "input_modalities": _input_modalities(model),
        },
    )


def _hub_locator(repository: str | None, file: str | None) -> str | None:
    """Return the locator that a presets file gives a repository with its tag or file."""
    name, _, tag = (repository or "").partition(":")
    return hub_locator(name, file=file or tag or None) if is_repository(name) else None


def _single(model: dict[str, object], props: dict[str, object]) -> ServerModel:
    meta = model.get("meta")
    state = "loaded" if isinstance(meta, dict) else "loading"
    if props.get("is_sleeping") is True:
        state = "sleeping"
    generation = mapping(props.get("default_generation_settings"))
    seen = mapping(props.get("modalities"))
    modalities = _input_modalities(model) or [
        "text",
        *(name for name in ("vision", "audio") if seen.get(name) is True),
    ]
    return ServerModel(
        state=state,
        path=_real_path(props.get("model_path")),
        columns=_columns(mapping(meta))
        | {"capabilities": _capabilities(modalities, None, props) if props else None},
        facts={
            **_facts(mapping(meta)),
            "chat_template_caps": mapping(props.get("chat_template_caps")) or None,
            "ctx_size": count_or_none(generation.get("n_ctx")),
            "input_modalities": modalities,
            "chat_template": text(props.get("chat_template"), MAX_TEMPLATE),
        },
    )


def _real_path(value: object) -> str | None:
    path = text(value, _MAX_PATH)
    return None if path == "none" else path  # a router without a model of its own


def _input_modalities(model: dict[str, object]) -> list[str] | None:
    return texts(mapping(model.get("architecture")).get("input_modalities"), 40) or None


def _capabilities(
    modalities: list[str] | None, kind: str | None, props: dict[str, object] | None = None
) -> tuple[str, ...] | None:
    """Return what a model can do by its inputs, its type and a server's properties of it.

    The server has tried its template with tools; None if nothing is known.
    """
    if not (modalities or kind or props):
        return None
    told = {"vision" if name == "image" else name for name in modalities or ()}
    told |= of_template(text(mapping(props).get("chat_template"), MAX_TEMPLATE) or "")
    tools = mapping(mapping(props).get("chat_template_caps")).get("supports_tools")
    if isinstance(tools, bool):
        told = (told - {"tools"}) | ({"tools"} if tools else set())
    return known_capabilities(told | {kind})


def _columns(meta: dict[str, object]) -> dict[str, Any]:
    return {
        "context_length": count_or_none(meta.get("n_ctx_train")),
        "embedding_length": count_or_none(meta.get("n_embd")),
        "vocab_size": count_or_none(meta.get("n_vocab")),
        "parameter_count": count_or_none(meta.get("n_params")),
        "quantization": _quantization(text(meta.get("ftype"), 80)),
    }


_MIX = re.compile(r"(I?Q\d(?:_\w+)*)(?: - (Small|Medium|Large))?(?: .*)?")


def _quantization(words: str | None) -> str | None:
    """Return the name of a file type that llama.cpp describes: ``Q4_K - Medium`` is Q4_K_M."""
    match = _MIX.fullmatch(words or "")
    if match is None:
        return words if words in ("F32", "F16", "BF16", "MXFP4 MoE") else None
    return match[1] + (f"_{match[2][0]}" if match[2] else "")


def _facts(meta: dict[str, object]) -> dict[str, object]:
    """Return the facts that no column holds. The size is that of the tensors, not of the file."""
    return {
        "tensor_bytes": count_or_none(meta.get("size")),
        "ftype": text(meta.get("ftype"), 80),
    }
