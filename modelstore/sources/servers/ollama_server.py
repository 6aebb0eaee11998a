"""A live Ollama server.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from modelstore.sources.files.capabilities import known_capabilities
from modelstore.sources.servers.http import ReplyError
from modelstore.sources.servers.server import Server, ServerModel
from modelstore.sources.stores.ollama import KIND as STORE
from modelstore.sources.stores.ollama import quantization, remote_locator
from modelstore.sources.stores.ollama_manifests import is_shadow
from modelstore.sources.values import (
    MAX_TEMPLATE,
    array,
    count_or_none,
    mapping,
    text,
    texts,
    utc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target
    from modelstore.sources.servers.http import Client

KIND = "ollama-server"

_DETAILS_TIMEOUTS = 12  # the details of all models may take this many timeouts of one request
_MAX_MODELFILE = 1_000_000  # characters; it may hold whole licences
_FROM = re.compile(r"^FROM[ \t]+(.{1,4000}[/\\]sha256[-:]([0-9a-f]{64}))[ \t]*\r?$", re.MULTILINE)
_COLUMNS = {
    "context_length": "context_length",
    "embedding_length": "embedding_length",
    "block_count": "block_count",
    "head_count": "attention.head_count",
    "head_count_kv": "attention.head_count_kv",
    "feed_forward_length": "feed_forward_length",
    "vocab_size": "vocab_size",
}


def usual_places(context: Context) -> list[str]:
    """Return the address in ``OLLAMA_HOST``, or the default one."""
    setting = context.environ.get("OLLAMA_HOST", "").strip().rstrip("/") or "127.0.0.1"
    if "://" in setting:
        return [setting]
    return [f"http://{setting}" + ("" if re.search(r":\d+$", setting) else ":11434")]


def recognises(client: Client, listing: object) -> bool:
    """Return True if it has Ollama's list of models."""
    del listing  # not distinctive
    return "models" in client.optional("/api/tags")


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of the server at an address. Raises `SourceError` without an answer."""
    server = Server.at(target, context, KIND)
    yield from server.notes()
    yield from items(server)


def items(server: Server) -> Iterator[Item]:
    """Yield its models, in its store or in the cloud."""
    tags = mapping(server.client.get("/api/tags"))
    reader = _Reader(server)
    listed = tags.get("models", {})
    if isinstance(listed, list):  # some versions list their own copies for older ones
        listed = [one for one in listed if not is_shadow(str(mapping(one).get("name")))]
    yield from server.models(listed, "name", reader.model)


class _Reader:
    """A reader that asks for the details of each model until its time is up."""

    def __init__(self, server: Server) -> None:
        running = server.client.optional("/api/ps")
        self.client = server.client
        self.deadline = monotonic() + _DETAILS_TIMEOUTS * server.client.timeout
        self.running = {mapping(one).get("name") for one in array(running.get("models"))}
        self.knows_running = "models" in running

    def model(self, name: str, entry: dict[str, object]) -> ServerModel:
        """Return one model from its entry in the list and its details."""
        show = self._details(name)
        details = mapping(show.get("details")) or mapping(entry.get("details"))
        cloud = {
            key: text(entry.get(key)) or text(show.get(key))
            for key in ("remote_host", "remote_model")
        }
        weights = _FROM.search(text(show.get("modelfile"), _MAX_MODELFILE) or "")
        columns = _columns(mapping(show.get("model_info")), details)
        able = texts(show.get("capabilities"))
        if "embedding" in able:
            columns["type"] = "embedding"
        columns["capabilities"] = known_capabilities(able) if "capabilities" in show else None
        columns["revision"] = (text(entry.get("digest"), 100) or "").removeprefix("sha256:") or None
        if not any(cloud.values()):
            columns["file_size"] = count_or_none(entry.get("size"))
        columns["modified_at"] = utc(entry.get("modified_at"))
        state = "loaded" if name in self.running else "unloaded"
        return ServerModel(
            state=state if self.knows_running else None,
            path=weights[1] if weights else None,
            sha256=weights[2] if weights else None,
            columns=columns,
            facts={
                "format": text(details.get("format"), 40),
                "template": text(show.get("template"), MAX_TEMPLATE),
                **cloud,
            },
            locator=remote_locator(cloud, name) if any(cloud.values()) else None,
            store=STORE,
        )

    def _details(self, name: str) -> dict[str, object]:
        if monotonic() > self.deadline:
            return {}
        try:
            return mapping(self.client.post("/api/show", {"model": name}))
        except ReplyError as error:
            if error.status is None:  # it stopped answering: use the list alone
                self.deadline = 0.0
            return {}


def _columns(info: dict[str, object], details: dict[str, object]) -> dict[str, Any]:
    architecture = text(info.get("general.architecture"), 100)
    columns: dict[str, Any] = {
        column: count_or_none(info.get(f"{architecture}.{key}")) for column, key in _COLUMNS.items()
    }
    columns["architecture"] = architecture or text(details.get("family"), 100)
    columns["parameter_count"] = count_or_none(info.get("general.parameter_count"))
    columns["file_type"] = count_or_none(info.get("general.file_type"))
    columns["size_label"] = text(details.get("parameter_size"), 40)
    columns["quantization"] = quantization(details.get("quantization_level"))
    columns["license"] = text(info.get("general.license"), 100)
    return columns
