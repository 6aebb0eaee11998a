"""The registry of the kinds of source.

No source is imported here: each is loaded when it is used, so that commands start fast.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from modelstore.errors import UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.sources.base import Context, Source


@dataclass(frozen=True, slots=True)
class KindInfo:
    """Everything that the rest of the program needs to know about one kind of source.

    A module that serves several kinds maps them to sources in ``SOURCES``; any other module is
    the source itself. No field has a default: a new kind states every fact.
    """

    kind: str
    module: str  # within this package
    summary: str
    _: KW_ONLY
    rank: Literal[0, 1, 2]
    """How well it knows a model: 2 reads the model's files, 1 a description, 0 asks a server.
    A higher rank overrides the values of a lower one."""
    is_authoritative: bool  # a person wrote the records: they override every rank
    has_places: bool  # models are seen in places, which the next import compares with
    staged: Literal["once", "batches"]
    """``once``: one transaction; ``batches``: a scan of many files commits as it goes."""
    has_usual_place: bool  # the source has ``usual_places(context)``
    extensions: tuple[str, ...] = ()  # of its files, used if the content is ambiguous

    @property
    def is_server(self) -> bool:
        """True for a kind that is read over the network."""
        return self.module.startswith("servers.")

    @property
    def is_store(self) -> bool:
        """True for a program's own store, whose module has ``recognises(path, names)``."""
        return self.module.startswith("stores.")


# Kinds of one family share these facts; an entry may override one.
_model_file = partial(
    KindInfo, rank=2, is_authoritative=False, has_places=True, staged="once", has_usual_place=False
)
_store = partial(
    KindInfo,
    rank=2,
    is_authoritative=False,
    has_places=True,
    staged="batches",
    has_usual_place=True,
)
_user_records = partial(
    KindInfo, rank=1, is_authoritative=True, has_places=False, staged="once", has_usual_place=False
)
_database = partial(
    KindInfo, rank=1, is_authoritative=False, has_places=False, staged="once", has_usual_place=False
)
_config = partial(
    KindInfo, rank=1, is_authoritative=False, has_places=True, staged="once", has_usual_place=False
)
_server = partial(
    KindInfo, rank=0, is_authoritative=False, has_places=True, staged="once", has_usual_place=True
)

KINDS: dict[str, KindInfo] = {
    info.kind: info
    for info in (
        _model_file(
            "gguf", "files.directory", "one GGUF file, or a shard of a set", extensions=(".gguf",)
        ),
        _model_file(
            "safetensors",
            "files.directory",
            "a safetensors file or directory",
            extensions=(".safetensors",),
        ),
        _store(
            "directory", "files.directory", "a tree of GGUF and safetensors models, of any depth"
        ),
        _user_records(
            "json",
            "records.json_records",
            "a JSON array of models, or one model",
            extensions=(".json",),
        ),
        _user_records(
            "jsonl",
            "records.json_records",
            "JSON lines, one model a line",
            extensions=(".jsonl", ".ndjson"),
        ),
        _user_records(
            "csv",
            "records.csv_records",
            "comma-separated values with a header",
            extensions=(".csv",),
        ),
        _user_records(
            "tsv",
            "records.csv_records",
            "tab-separated values with a header",
            extensions=(".tsv", ".tab"),
        ),
        _database("catalogue", "records.catalogue", "another modelstore catalogue"),
        _database(
            "dashboard",
            "records.dashboard",
            "the database of the llama proxy dashboard",
            has_usual_place=True,
        ),
        _database(
            "fleet", "records.fleet", "the catalogues of many machines, as Litestream replicas"
        ),
        _store("huggingface", "stores.huggingface", "the Hugging Face hub cache"),
        _store("llama-cache", "stores.llama_cache", "llama.cpp's older download cache"),
        _store("docker-models", "stores.docker_models", "Docker Model Runner's store"),
        _store("ollama", "stores.ollama", "Ollama's store on disk"),
        _store("lmstudio", "stores.lmstudio", "LM Studio's models"),
        _config(
            "llama-swap",
            "configs.llama_swap",
            "a llama-swap config.yaml",
            extensions=(".yaml", ".yml"),
        ),
        _config("preset", "configs.preset", "a llama-server preset INI", extensions=(".ini",)),
        _server(
            "server",
            "servers.live",
            "a live server, of whichever kind answers",
            has_usual_place=False,
        ),
        _server("llama-server", "servers.llama_server", "a live llama-server"),
        _server("ollama-server", "servers.ollama_server", "a live Ollama server"),
        _server("lmstudio-server", "servers.lmstudio_server", "a live LM Studio server"),
        _server(
            "openai-server",
            "servers.openai_server",
            "any live server with OpenAI's /v1/models",
            has_usual_place=False,
        ),
    )
}


RANKS: dict[str, int] = {kind: info.rank for kind, info in KINDS.items()}
"""The rank of each kind, as the catalogue's staging takes it."""


def kind_info(kind: str) -> KindInfo:
    """Return the entry of `kind`. Raises `UsageError` for an unknown name."""
    info = KINDS.get(kind)
    if info is None:
        raise UsageError(
            f"'{visible(kind, 40)}' is not a kind of source", hint=f"one of: {', '.join(KINDS)}"
        )
    return info


def load(kind: str) -> Source:
    """Import the source of `kind`. Raises `UsageError` for an unknown name."""
    module = import_module(f"modelstore.sources.{kind_info(kind).module}")
    sources = getattr(module, "SOURCES", None)
    return cast("Source", module if sources is None else sources[kind])


def usual_places(kind: str, context: Context) -> list[str]:
    """Return the usual targets of `kind` on this machine, whether they exist or not."""
    if not kind_info(kind).has_usual_place:
        return []
    return cast("list[str]", getattr(load(kind), "usual_places")(context))  # noqa: B009
