"""The locator of a model, which says what it is, and the id that is made of it.

A listing needs neither, so it does not load what hashes them.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


def model_id(locator: str) -> str:
    """Return the stable id of a locator: the first 16 hex digits (64 bits) of its SHA-256."""
    return sha256(locator.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_locator(host: str, path: str) -> str:
    """Return the locator of a file: its host and real path, so that many machines can merge."""
    return f"file://{host}{path if path.startswith('/') else '/' + path}"


def hub_locator(repository: str, *, revision: str | None = None, file: str | None = None) -> str:
    """Return the locator of a model that is only known by its Hugging Face repository.

    `file` may also be the tag of a quantization: ``hf:org/repo@revision:file``.
    """
    return f"hf:{repository}{f'@{revision}' if revision else ''}{f':{file}' if file else ''}"


_HUB = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([^:]+))?(?::(.+))?")


class HubReference(NamedTuple):
    """A model of the Hugging Face hub: a repository, and the part of it that is meant."""

    repository: str  # org/repo
    revision: str | None  # a commit
    part: str | None  # a file's path in the repository, or the tag of a quantization


def parse_hub_locator(locator: str) -> HubReference | None:
    """Return the reference that `hub_locator` made a locator of; None for any other locator."""
    match = _HUB.fullmatch(locator)
    return HubReference(*match.groups()) if match else None


_DEFAULT_TAGS = ("Q4_K_M", "Q8_0")
_COMPANIONS = re.compile(r"mmproj|imatrix|mtp-|eagle3-|dflash-|dspark-")


def choose_hub_file(paths: Iterable[str], part: str | None) -> str | None:
    """Return the GGUF file of a repository that llama.cpp loads for a tag, a file or neither.

    `paths` are those of the files in the repository; of a model in shards, of its first one.
    None if there is no such file, or if it is not certain which one is meant.
    github.com/ggml-org/llama.cpp/blob/master/common/download.cpp, ``find_best_model``
    """
    if part is not None and part.lower().endswith(".gguf"):
        return part if part in paths else None
    models = sorted(
        path
        for path in paths
        if path.endswith(".gguf") and not _COMPANIONS.search(path.rpartition("/")[2])
    )
    for tag in _DEFAULT_TAGS if part is None else (part,):
        pattern = re.compile(re.escape(tag) + "[.-]", re.IGNORECASE)
        if found := next(filter(pattern.search, models), None):
            return found
    return models[0] if part is None and len(models) == 1 else None


_MAX_LOCATOR = 8192  # characters
_LOCATOR = re.compile(r"[a-z][a-z0-9+.-]{1,31}:[^\x00]+")  # file names hold control characters
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


def is_locator(text: str) -> bool:
    """Return True for a scheme, a colon, and anything but NUL characters."""
    return len(text) <= _MAX_LOCATOR and _LOCATOR.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Return True for the form of a Hugging Face repository: ``org/repo``."""
    return _REPOSITORY.fullmatch(text) is not None
