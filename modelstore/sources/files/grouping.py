"""Groups of files that make up one model, found by their names alone.

No file is opened, so an unchanged tree costs one ``stat`` per file.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from modelstore.sources.files import naming
from modelstore.sources.files.gguf_model import describe_gguf
from modelstore.sources.files.packing import QUANTIZER_FILES
from modelstore.sources.files.safetensors_model import describe_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelstore.found import FileRole, Found, Skipped
    from modelstore.sources.base import Context, Unchanged
    from modelstore.sources.files.local_files import LocalFile, Origin
    from modelstore.sources.files.naming import Extension, FileName

CONFIG = "config.json"
_MISTRALS_CONFIG = "params.json"
ADAPTER_CONFIG = "adapter_config.json"
INDEX_SUFFIX = ".safetensors.index.json"
_MAX_NAMESAKES = 100  # compared with a sidecar: two owners are already too many
MAIN_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "consolidated")

_CONFIGS = frozenset((CONFIG, _MISTRALS_CONFIG, ADAPTER_CONFIG, *QUANTIZER_FILES))
_MODULE = re.compile(r"[1-9]\d?_\w+")


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one model: weights first, in shard order, then their companions."""

    format: Extension
    files: tuple[LocalFile, ...]
    mark: str = ""  # tells it from another model of the same name in its directory

    @property
    def name(self) -> str:
        """The name of the model, taken from its files."""
        name = naming.model_name(self.files[0].path)
        return f"{name}/{self.mark}" if self.mark else name

    @property
    def stem(self) -> str:
        """The name of its first file, without the shard's number."""
        parsed = naming.parse_name(self.files[0].name)
        return parsed.stem if parsed else self.files[0].name


def is_relevant(name: str) -> bool:
    """Return True if a file of this name can be part of a model."""
    lower = name.lower()
    return not name.startswith("._") and (  # macOS writes ._NAME beside a file on other disks
        lower.endswith((".gguf", ".safetensors", INDEX_SUFFIX))
        or name in _CONFIGS
        or (
            (".gguf." in lower or ".gguf-" in lower or ".safetensors." in lower)
            and naming.parse_name(name) is not None
        )
    )


def is_module(directory: str) -> bool:
    """Return True for the name of a directory with one layer of a model: ``2_Dense``.

    sentence-transformers keeps the layers after the first there, and lists them in
    ``modules.json`` (sbert.net/docs/sentence_transformer/usage/custom_models.html).
    """
    return _MODULE.fullmatch(directory) is not None


def group_files(files: Iterable[LocalFile]) -> list[Group]:
    """Sort the files of one directory or repository into models, in the order of their paths.

    Takes *.gguf and *.safetensors files, finished or not, the configurations of `is_relevant` and
    *.safetensors.index.json, and sets their roles. Other files are left out.
    """
    sets: dict[tuple[str, ...], list[tuple[FileName, LocalFile]]] = defaultdict(list)
    configs: dict[str, list[LocalFile]] = defaultdict(list)
    for file in sorted(files, key=lambda file: file.path):
        name = naming.parse_name(file.name)
        directory = os.path.dirname(file.path)
        if name is None:
            configs[directory].append(file)
        else:
            # Shards of one set have a stem and a count in common; another file is a set of one.
            is_part = name.shards or name.raw_part
            common = (name.stem, str(name.shards)) if is_part else (file.path,)
            sets[directory, name.extension, *common].append((name, file))
    gguf: list[_Set] = []
    safetensors: dict[str, list[_Set]] = defaultdict(list)
    for (directory, *_), members in sets.items():
        members.sort(key=lambda member: member[0].shard)
        name = members[0][0]
        made = _Set(
            name.stem,
            [
                _as(file, "shard" if part.shards or part.raw_part else "model")
                for part, file in members
            ],
        )
        if name.extension == "gguf":
            gguf.append(made)
        else:
            safetensors[directory].append(made)
    groups = [Group("gguf", tuple(made.files)) for made in _attach_sidecars(gguf)]
    _attach_modules(safetensors)
    for directory, sets_there in safetensors.items():
        groups += [
            Group("safetensors", tuple(made.files), made.mark)
            for made in _attach_configs(sets_there, configs[directory])
        ]
    return sorted(groups, key=lambda group: group.files[0].path)


def _as(file: LocalFile, role: FileRole) -> LocalFile:
    return file if file.role == role else replace(file, role=role)


@dataclass(slots=True)
class _Set:
    """One file or the shards of one model, with the companions attached so far."""

    stem: str
    files: list[LocalFile]
    mark: str = ""

    def take(self, other: _Set) -> None:
        """Add the files of another set as shards of this one."""
        self.files += [_as(file, "shard") for file in other.files]


def _attach_sidecars(sets: list[_Set]) -> list[_Set]:
    """Give each projector and draft to its model, in each of its quantizations.

    One without a clear owner stays alone.
    """
    sidecars = {id(one): role for one in sets if (role := naming.sidecar(one.stem))}
    if not sidecars:
        return sets
    mains = [one for one in sets if not naming.is_secondary(one.stem)]
    mains.sort(key=lambda main: main.stem.lower())
    alone = []
    for one in sets:
        role = sidecars.get(id(one))
        owners = _owners(one.stem, mains) if role else []
        for owner in owners:
            owner.files += [_as(file, cast("FileRole", role)) for file in one.files]
        if not owners:
            alone.append(one)
    return alone


def _owners(stem: str, mains: list[_Set]) -> list[_Set]:
    """Return the quantizations of the one model that a sidecar belongs to; `mains` are sorted."""
    common = naming.main_stem(stem)
    first = bisect_left(mains, common, key=lambda main: main.stem.lower())
    owners = [
        main
        for main in mains[first : first + _MAX_NAMESAKES]
        if common and naming.extends(main.stem.lower(), common)
    ]
    if not owners and len(mains) <= _MAX_NAMESAKES:
        owners = [main for main in mains if naming.may_belong(common, main.stem)]
        owners = owners if len(owners) == len(mains) else []
    models = {naming.main_stem(main.stem) for main in owners}
    return owners if len(models) == 1 else []


def _attach_modules(sets: dict[str, list[_Set]]) -> None:
    """Give the layers that lie in directories of their own to the model above them."""
    for directory in [one for one in sets if is_module(os.path.basename(one))]:
        above = sets.get(os.path.dirname(directory), ())
        main = next((one for one in above if one.stem in MAIN_STEMS), None)
        if main is not None:
            for layer in sets.pop(directory):
                main.take(layer)


def _attach_configs(sets: list[_Set], configs: list[LocalFile]) -> list[_Set]:
    """Give each model of a directory its configuration and its index."""
    named = {file.name: file for file in configs}
    indexes = {
        file.name[: -len(INDEX_SUFFIX)]: file
        for file in configs
        if file.name.lower().endswith(INDEX_SUFFIX)
    }
    adapters = [one for one in sets if one.stem.startswith("adapter")]
    mains = [one for one in sets if not one.stem.startswith("adapter")]
    config = named.get(CONFIG) or named.get(_MISTRALS_CONFIG)
    if mains and indexes and config and indexes.keys().isdisjoint(main.stem for main in mains):
        # Only the index shows that these files are shards.
        shards = [_as(file, "shard") for one in mains for file in one.files]
        mains = [_Set(next(iter(indexes)), shards)]
    for one in adapters:
        if ADAPTER_CONFIG in named:
            one.files.append(_as(named[ADAPTER_CONFIG], "config"))
    indexed = _indexed(mains, indexes)
    mains = _with_extra_files(mains, indexed)
    for one in mains:
        if config and (len(mains) == 1 or one.stem.split(".")[0] in MAIN_STEMS):
            beside = [named[name] for name in QUANTIZER_FILES if name in named]
            one.files += [_as(file, "config") for file in (config, *beside)]
        if one.stem in indexed and indexed[one.stem] is one:
            one.files.append(_as(indexes[one.stem], "index"))
        if one.stem == "consolidated" and any(main.stem == "model" for main in mains):
            one.mark = one.stem  # Mistral publishes the same weights twice
    return adapters + mains


def _indexed(mains: list[_Set], indexes: Mapping[str, LocalFile]) -> dict[str, _Set]:
    """Return the set that each index describes: of two of one name, that with the shards."""
    return {
        one.stem: one
        for one in sorted(mains, key=lambda one: len(one.files))
        if one.stem in indexes
    }


def _with_extra_files(mains: list[_Set], indexed: Mapping[str, _Set]) -> list[_Set]:
    """Give an indexed model the files beside its shards, such as those of its draft layers.

    Their names are ``mtp``, or begin with that of the shards: ``model_mtp``,
    ``model_extra_tensors``. A name that ends with a number format is another variant.
    """
    main = next((indexed[stem] for stem in MAIN_STEMS if stem in indexed), None)
    if main is None:
        return mains
    extra = re.compile(rf"mtp|{main.stem}[-_].+", re.DOTALL)
    taken = [
        one
        for one in mains
        if one is not main and extra.fullmatch(one.stem) and not naming.encoding(one.stem)
    ]
    for one in taken:
        main.take(one)
    return [one for one in mains if all(one is not other for other in taken)]


def describe(group: Group, origin: Origin, context: Context) -> Found | Unchanged | Skipped:
    """Describe the model of a group; see `describe_gguf` and `describe_safetensors`."""
    if group.mark and origin.name is None:
        origin = replace(origin, name=group.name)
    if group.format == "gguf":
        return describe_gguf(group.files, origin, context)
    return describe_safetensors(group.files, origin, context)
