"""Which files of one directory or repository make up which model, told by their names alone.

No file is opened for it, so that a tree that did not change is known by ``stat`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelstore.sources.gguf_model import describe_gguf
from modelstore.sources.safetensors import describe_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelstore.sources.base import Context, Found, Skipped, Unchanged
    from modelstore.sources.files import LocalFile, Origin

Format = Literal["gguf", "safetensors"]


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one model: weights first, in shard order, then what goes with them."""

    format: Format
    files: tuple[LocalFile, ...]
    name: str  # made from the file names


def group_files(files: Iterable[LocalFile]) -> list[Group]:
    """Sort the files of one directory or repository into models; what is no model is left out.

    Takes *.gguf and *.safetensors files (unfinished downloads of them too), and config.json,
    adapter_config.json, *.safetensors.index.json. Their roles are set here.
    """
    return [
        Group("gguf", (file,), file.name.removesuffix(".gguf"))
        for file in files
        if file.name.endswith(".gguf")
    ]


def describe(group: Group, origin: Origin, context: Context) -> Found | Unchanged | Skipped:
    """Describe the model of a group; see `describe_gguf` and `describe_safetensors`."""
    if group.format == "gguf":
        return describe_gguf(group.files, origin, context)
    return describe_safetensors(group.files, origin, context)
