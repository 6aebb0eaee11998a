"""The kinds of source there are, and how to load the one that is wanted.

Nothing here imports a source: each is imported when it is used, so that commands start fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from modelstore.errors import UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.sources.base import Context, Source


@dataclass(frozen=True, slots=True)
class KindInfo:
    """One kind of source.

    ``module`` is the source itself, or holds it in its ``SOURCES`` mapping of kinds. ``staged``
    says how it is committed: a data file ``once``, as one short transaction after all of it was
    parsed; a scan of many files in ``batches``.
    """

    kind: str
    module: str  # within this package
    summary: str
    has_usual_place: bool = False  # the source then has ``usual_places(context)``
    staged: Literal["once", "batches"] = "once"


KINDS: dict[str, KindInfo] = {
    info.kind: info
    for info in (
        KindInfo("gguf", "files.gguf", "one GGUF file, or a shard of a set"),
        KindInfo("safetensors", "files.safetensors", "a safetensors file or directory"),
        KindInfo(
            "directory",
            "files.directory",
            "a tree of GGUF and safetensors models, of any depth",
            has_usual_place=True,
            staged="batches",
        ),
        KindInfo("json", "records.json_records", "a JSON array of models, or one model"),
        KindInfo("jsonl", "records.json_records", "JSON lines, one model a line"),
        KindInfo("csv", "records.csv_records", "comma-separated values with a header"),
        KindInfo("tsv", "records.csv_records", "tab-separated values with a header"),
        KindInfo("catalogue", "records.catalogue", "another modelstore catalogue"),
        KindInfo(
            "dashboard",
            "records.dashboard",
            "the database of the llama proxy dashboard",
            has_usual_place=True,
        ),
        KindInfo(
            "huggingface",
            "stores.huggingface",
            "the Hugging Face hub cache",
            has_usual_place=True,
            staged="batches",
        ),
        KindInfo(
            "llama-cache",
            "stores.llama_cache",
            "llama.cpp's older download cache",
            has_usual_place=True,
            staged="batches",
        ),
        KindInfo(
            "ollama",
            "stores.ollama",
            "Ollama's store on disk",
            has_usual_place=True,
            staged="batches",
        ),
        KindInfo(
            "lmstudio",
            "stores.lmstudio",
            "LM Studio's models",
            has_usual_place=True,
            staged="batches",
        ),
        KindInfo("llama-swap", "configs.llama_swap", "a llama-swap config.yaml"),
        KindInfo("preset", "configs.preset", "a llama-server preset INI"),
        KindInfo("server", "servers.live", "a live server, of whichever kind answers"),
        KindInfo("llama-server", "servers.live", "a live llama-server", has_usual_place=True),
        KindInfo("ollama-server", "servers.live", "a live Ollama server", has_usual_place=True),
        KindInfo(
            "lmstudio-server", "servers.live", "a live LM Studio server", has_usual_place=True
        ),
        KindInfo("openai-server", "servers.live", "any live server with OpenAI's /v1/models"),
    )
}


def kind_info(kind: str) -> KindInfo:
    """Return what is known of `kind`. Raises `UsageError` where there is none of that name."""
    info = KINDS.get(kind)
    if info is None:
        raise UsageError(
            f"'{visible(kind, 40)}' is no kind of source", hint=f"one of: {', '.join(KINDS)}"
        )
    return info


def load(kind: str) -> Source:
    """Import the source of `kind`. Raises `UsageError` where there is none of that name."""
    module = import_module(f"modelstore.sources.{kind_info(kind).module}")
    sources = getattr(module, "SOURCES", None)
    return cast("Source", module if sources is None else sources[kind])


def usual_places(kind: str, context: Context) -> list[str]:
    """Return the targets where `kind` usually lives on this machine, whether they exist or not."""
    if not kind_info(kind).has_usual_place:
        return []
    return cast("list[str]", getattr(load(kind), "usual_places")(context))  # noqa: B009
