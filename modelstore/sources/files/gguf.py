"""A GGUF file as a source of its own: it, with the shards and sidecars that belong to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelstore.sources.files.directory import read_file, read_tree
from modelstore.sources.files.gguf_header import Elided, GgufError, GgufHeader, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

__all__ = ["KIND", "Elided", "GgufError", "GgufHeader", "read", "read_header"]

KIND = "gguf"


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the model of a GGUF file, or every GGUF model below a directory."""
    if os.path.isdir(target.text):
        return read_tree(target.text, context, only="gguf")
    return read_file(target.text, context, "gguf")
