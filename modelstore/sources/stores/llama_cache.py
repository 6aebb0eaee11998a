"""llama.cpp's download cache: a flat folder, or since spring 2026 the hub's layout.

::

    ORG_REPO_PATH.gguf                    slashes of the path as underscores
    ORG_REPO_PATH.gguf.json  or  .etag    its URL, and its entity tag (not a SHA-256)
    manifest=ORG=REPO=TAG.json            the file of a tag, and its SHA-256

https://github.com/ggml-org/llama.cpp/blob/master/common/download.cpp
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.found import Place, Skipped
from modelstore.sources.files.grouping import describe, group_files, is_relevant
from modelstore.sources.files.local_files import LocalFile, Origin
from modelstore.sources.files.walk import note_outside
from modelstore.sources.paths import expand
from modelstore.sources.stores.huggingface import PREFIX, read_cache
from modelstore.sources.stores.store_files import (
    UnreadableError,
    contains,
    entries,
    file_at,
    open_store,
    read_object,
)
from modelstore.sources.values import count_or_none, mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context, Item, Target

KIND = "llama-cache"

_MANIFEST = re.compile(r"manifest=([^=]+)=([^=]+)=[^=]*\.json")
_HUB_URL = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/resolve/[^/?#]+/([^?#]+)")


@dataclass(frozen=True, slots=True)
class _Fact:
    """The facts in a sidecar about one file."""

    repo: str
    path: str  # within the repository
    sha256: str | None = None
    size: int | None = None  # bytes of the hashed content


def usual_places(context: Context) -> list[str]:
    """Return llama.cpp's own cache, or the one that ``LLAMA_CACHE`` names."""
    if cache := context.environ.get("LLAMA_CACHE"):
        return [expand(cache, context.home)]
    cache = context.environ.get("XDG_CACHE_HOME") or os.path.join(context.home, ".cache")
    usual = [os.path.join(expand(cache, context.home), "llama.cpp")]
    if local := context.environ.get("LOCALAPPDATA"):
        usual.append(os.path.join(local, "llama.cpp"))
    if os.path.isdir(library := os.path.join(context.home, "Library", "Caches")):
        usual.append(os.path.join(library, "llama.cpp"))
    return usual


def recognises(path: str, names: set[str]) -> bool:
    """Return True for the flat layout; the newer one is recognised as the hub's."""
    del path
    return any(name.startswith("manifest=") or name.endswith(".gguf.etag") for name in names)


def claims(path: str, names: set[str]) -> set[str]:
    """Return the entries of a directory that belong to a cache there: all of its files."""
    return {name for name in names if ".gguf" in name} if recognises(path, names) else set()


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of a cache of either layout, or of a mixture."""
    root = open_store(target.text, holds="directory that llama.cpp downloads to")
    try:
        listed = entries(root)
    except UnreadableError as error:
        raise error.as_source_error(root) from None
    if any(entry.name.startswith(PREFIX) for entry in listed):
        yield from read_cache(root, context, KIND)
    facts = _facts(listed)
    repos: dict[str, list[LocalFile]] = {}
    outside: list[tuple[str, str]] = []
    for entry in listed:
        if ".gguf" in entry.name and not entry.name.endswith((".json", ".etag", ".lock")):
            if not is_relevant(entry.name):
                yield Skipped(entry.path, "is an unfinished download")
                continue
            try:
                file = file_at(entry)
            except UnreadableError as error:
                yield Skipped(entry.path, str(error))
                continue
            if not contains(root, file.real):
                outside.append((file.path, file.real))
            fact = facts.get(entry.name)
            if fact and fact.size == file.size:
                file = replace(file, sha256=fact.sha256)
            # Without a sidecar, the organisation and the first part of the name must do.
            repo = fact.repo if fact else "_".join(entry.name.split("_", 2)[:2])
            repos.setdefault(repo, []).append(file)
    for files in repos.values():
        for group in group_files(files):
            fact = facts.get(group.files[0].name)
            yield describe(group, _origin(root, group.files[0], fact), context)
    yield from note_outside(root, outside)


def _facts(listed: list[os.DirEntry[str]]) -> dict[str, _Fact]:
    """Read the sidecars, and return their facts by the name of the file in the cache."""
    facts: dict[str, _Fact] = {}
    for entry in listed:
        manifest = _MANIFEST.fullmatch(entry.name)
        if manifest is None and not entry.name.endswith(".gguf.json"):
            continue
        try:
            value = read_object(entry.path)
        except UnreadableError:
            continue  # a sidecar only adds the origin: the model is read without it
        if manifest:
            facts.update(_manifest_facts(f"{manifest[1]}/{manifest[2]}", value))
        elif source := _HUB_URL.match(text(value.get("url")) or ""):
            facts.setdefault(entry.name.removesuffix(".json"), _Fact(source[1], source[2]))
    return facts


def _manifest_facts(repo: str, manifest: dict[str, object]) -> Iterator[tuple[str, _Fact]]:
    for part in ("ggufFile", "mmprojFile"):
        file = mapping(manifest.get(part))
        large = mapping(file.get("lfs"))
        if path := text(file.get("rfilename")):
            name = f"{repo}_{path}".replace("/", "_")
            digest = text(large.get("sha256")) or ""
            sha256 = digest if re.fullmatch(r"[0-9a-f]{64}", digest) else None
            yield name, _Fact(repo, path, sha256, count_or_none(large.get("size")))


def _origin(root: str, file: LocalFile, fact: _Fact | None) -> Origin:
    name = f"{fact.repo}/{fact.path}" if fact else file.name
    return Origin(
        source=KIND,
        place=Place(root, file.path, KIND, name),
        source_id=fact.repo if fact else None,
        extra={"hf_repo": fact.repo, "hf_file": fact.path} if fact else {},
    )
