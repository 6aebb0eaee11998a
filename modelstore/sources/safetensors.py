"""A model record from safetensors files and the config.json beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.sources.base import Context, Found, Skipped, Unchanged
from modelstore.sources.files import LocalFile, Origin, unchanged

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "safetensors"


def describe_safetensors(
    files: Sequence[LocalFile], origin: Origin, context: Context
) -> Found | Unchanged | Skipped:
    """Describe one model from its safetensors files: weights, ``config`` and ``index`` files.

    Roles as in `describe_gguf`: weights are ``model`` or ``shard``; config.json or
    adapter_config.json is ``config``; model.safetensors.index.json is ``index``.
    """
    known = unchanged(files, origin.place, context)
    return known or Skipped(files[0].path, "cannot be read")
