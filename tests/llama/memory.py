"""Our figures of a model's memory beside those of a real llama-server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.memory import COLUMNS, CacheOptions, Memory, context_memory
from modelstore.found import Found
from modelstore.sources.base import Context
from modelstore.sources.files.gguf_model import describe_gguf
from modelstore.sources.files.local_files import Origin, local_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CACHES = (
    "16384 f16 f16",
    "5000 q8_0 q8_0",
    "9000 q8_0 q4_0",
    "16384 f16 f16 1",
    "9000 bf16 bf16 3",
)
"""Contexts, with the types of their keys and values, and the slots that divide them."""

_ROUNDING = 0.006 * 1024 * 1024  # bytes: a server rounds each buffer to 0.01 MiB
_PARTS = ("weights", "kv_cache", "recurrent_state")


def our_memory(path: Path, cache: str) -> Memory | None:
    """Return our figures of a model file for one of `CACHES`."""
    tokens, type_k, type_v, *slots = cache.split()
    parallel = int(slots[0]) if slots else None
    options = CacheOptions(context=int(tokens), type_k=type_k, type_v=type_v, parallel=parallel)
    context = Context(host="box", now="2026-11-22T20:00:00Z")
    found = describe_gguf([local_file(str(path))], Origin(), context)
    assert isinstance(found, Found), found
    return context_memory({name: getattr(found.model, name) for name in COLUMNS}, options)


def differences(
    name: str, ours: Mapping[str, Memory | None], theirs: Mapping[str, Any]
) -> list[str]:
    """Return the figures of ours that are more than 3 % off, or are there for a refused model."""
    faults = []
    for cache, buffers in theirs.items():
        memory = ours[cache]
        if memory is None or buffers is None:
            if memory is not None or buffers is not None:
                faults.append(f"{cache}: {memory}, {json.dumps(buffers)}")
            continue
        for part in _PARTS:
            mine, told = getattr(memory, part), buffers[part]
            if abs(mine - told) > 0.03 * told + _ROUNDING * buffers["count"]:
                faults.append(f"{name}, {cache}: {part} is {mine}, a server says {told}")
    return faults
