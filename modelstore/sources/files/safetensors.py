"""A safetensors file as a source of its own: it, with the shards and config.json beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelstore.sources.files.directory import read_file, read_tree
from modelstore.sources.files.safetensors_model import describe_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

__all__ = ["KIND", "describe_safetensors", "read"]

KIND = "safetensors"


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the model of a safetensors file, or every such model below a directory."""
    if os.path.isdir(target.text):
        return read_tree(target.text, context, only="safetensors")
    return read_file(target.text, context, "safetensors")
