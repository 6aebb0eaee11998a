"""LM Studio's folder of models: usually ``PUBLISHER/REPOSITORY/FILE``, but any depth is read.

Its home holds ``settings.json``, whose ``downloadsFolder`` moves the models elsewhere:
https://lmstudio.ai/docs/app/basics/download-model
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelstore.found import Place
from modelstore.sources.files.grouping import describe, group_files
from modelstore.sources.files.local_files import Origin
from modelstore.sources.files.walk import note_outside, walk
from modelstore.sources.paths import expand
from modelstore.sources.stores.store_files import (
    UnreadableError,
    open_store,
    read_object,
    read_text,
)
from modelstore.sources.values import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "lmstudio"


def usual_places(context: Context) -> list[str]:
    """Return the folder that LM Studio's settings name, and those of older versions."""
    places = [_models_of(home, context) for home in _homes(context)]
    return list(dict.fromkeys(places))


def recognises(path: str, names: set[str]) -> bool:
    """Return True for LM Studio's home directory or its folder of models."""
    is_home = os.path.basename(path) in {".lmstudio", "lm-studio"}
    return is_home or bool(claims(path, names))


def claims(path: str, names: set[str]) -> set[str]:
    """Return the entries of a folder of models, or of a home of LM Studio: all of them."""
    parts = path.replace(os.sep, "/").rstrip("/").split("/")
    is_store = parts[-1] == "models" and parts[-2:-1] in (["lm-studio"], [".lmstudio"])
    return names if is_store or {".internal", "models"} <= names else set()


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of LM Studio's folder of models, or of its home directory."""
    root = path = open_store(target.text, holds="folder of LM Studio's models")
    if os.path.isfile(os.path.join(path, "settings.json")) or os.path.isdir(
        os.path.join(path, ".internal")
    ):
        path = open_store(_models_of(path, context), holds="folder of LM Studio's models")
    outside: list[tuple[str, str]] = []
    for listing in walk(path):
        outside += listing.outside
        yield from listing.skipped
        for group in group_files(listing.files):
            first = group.files[0].path
            name = os.path.relpath(first, path).replace(os.sep, "/")
            origin = Origin(source=KIND, place=Place(root, first, KIND, name))
            yield describe(group, origin, context)
    yield from note_outside(path, outside)


def _homes(context: Context) -> list[str]:
    """Return LM Studio's possible homes: from its pointer file, then the old defaults."""
    homes = []
    try:
        pointer = read_text(os.path.join(context.home, ".lmstudio-home-pointer"), 4096)
        homes.append(os.fsdecode(pointer).strip())
    except UnreadableError:
        pass
    homes.append(os.path.join(context.home, ".lmstudio"))
    homes.append(os.path.join(context.home, ".cache", "lm-studio"))
    return [home for home in homes if os.path.isabs(home)]


def _models_of(home: str, context: Context) -> str:
    """Return the folder of models that belongs to a home of LM Studio."""
    try:
        setting = text(read_object(os.path.join(home, "settings.json")).get("downloadsFolder"))
    except UnreadableError:
        setting = None
    folder = expand(setting, context.home) if setting else ""
    return folder if os.path.isabs(folder) else os.path.join(home, "models")
