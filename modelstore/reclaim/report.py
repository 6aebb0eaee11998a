"""The report on the bytes that could be freed: of one catalogue and the stores that it knows."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.found import Place
from modelstore.reclaim import commands
from modelstore.reclaim.downloads import in_docker, in_tree
from modelstore.reclaim.duplicates import Owner, Recorded, find_duplicates, recorded_files
from modelstore.reclaim.result import Inode, Leftover, Reclaim
from modelstore.reclaim.stores import HubCache, Notes, in_ollama, inode_of
from modelstore.sources.kinds import KINDS
from modelstore.sources.stores.huggingface import PREFIX, has_repository
from modelstore.sources.stores.ollama_manifests import has_manifests
from modelstore.sources.stores.store_files import contains

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from modelstore.database.handle import Database

_ROOTS = """SELECT DISTINCT source, root FROM (
    SELECT source, root FROM roots WHERE host IN (:here, '')
    UNION ALL SELECT source, root FROM model_places WHERE host IN (:here, ''))
ORDER BY root, source"""
_PLACES = """SELECT model_id, root, locator, source, name, state FROM model_places
WHERE model_id IN (SELECT model_id FROM model_files GROUP BY model_id HAVING count(size) > 0)
ORDER BY model_id, root, locator"""


@dataclass(frozen=True, slots=True)
class Known:
    """What a catalogue knows of the files and stores; read it, close the catalogue, then look."""

    here: str  # the name of this machine
    records: tuple[Recorded, ...]
    places: dict[str, list[Place]]  # by the model's id
    roots: tuple[tuple[str, str], ...]  # kind and path, on this machine
    models: frozenset[str] | None = None  # the ids that one of some copies must have

    @classmethod
    def read(cls, db: Database, here: str, models: Collection[str] | None = None) -> Known:
        """Read it from a catalogue; `models` are the ids that one of some copies must have."""
        records = recorded_files(db)
        wanted = {record.model for record in records}
        places: dict[str, list[Place]] = {}
        for row in db.query(_PLACES):
            model = row.pop("model_id")
            if model in wanted:
                place = Place(**{k: v and from_sqlite_text(v) for k, v in row.items()})
                places.setdefault(model, []).append(place)
        roots = [
            (str(row["source"]), from_sqlite_text(row["root"]))
            for row in db.query(_ROOTS, {"here": here})
        ]
        kept = tuple((kind, root) for kind, root in roots if os.path.isabs(root))
        wanted_models = None if models is None else frozenset(models)
        return cls(here, tuple(records), places, kept, wanted_models)


def duplicates_of(known: Known) -> Reclaim:
    """Return the duplicates alone."""
    look = _Look(known, 0.0)
    found = find_duplicates(known.records, known.here, look.owner)
    if known.models is not None:
        found = [one for one in found if any(copy.model in known.models for copy in one.copies)]
    return Reclaim(tuple(found))


def reclaim(known: Known, now: float) -> Reclaim:
    """Return everything. A file that a leftover frees is no copy of a duplicate."""
    look = _Look(known, now)
    leftovers = sorted(look.leftovers(), key=lambda one: (-one.size, one.paths))
    gone: set[Inode] = set().union(*(one.inodes for one in leftovers))
    found = find_duplicates(known.records, known.here, look.owner, gone)
    return Reclaim(
        tuple(found), tuple(one for one in leftovers if one.size), tuple(look.notes.sentences)
    )


@dataclass(slots=True)
class _Look:
    """One look at the stores of a machine; each is read once."""

    known: Known
    now: float
    notes: Notes = field(init=False)
    _hubs: dict[tuple[str, str | None], HubCache] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.notes = Notes(self.now)

    def hub(self, path: str) -> HubCache:
        """Return the cache at a path, or the one repository of a cache."""
        only: str | None = None
        if os.path.basename(path).startswith(PREFIX):
            path, only = os.path.split(path)
        return self._hubs.setdefault((path, only), HubCache(path, self.notes, only))

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the leftovers of every store, and of the trees of loose files."""
        pending = list(self.known.roots)
        done: set[tuple[str, str]] = set()
        while pending:
            kind, root = pending.pop()
            store = _store(kind, root)
            if store is None or store in done:
                continue
            done.add(store)
            kind, path = store
            if kind == "ollama":
                yield from in_ollama(path, self.notes)
            elif kind == "huggingface":
                yield from self.hub(path).leftovers()
            elif kind == "docker-models":
                yield from in_docker(path, self.notes)
            elif not any(contains(tree, path) for what, tree in done if what == "tree"):
                yield from in_tree(path, self.notes, pending)

    def owner(self, model: str, paths: Sequence[str]) -> Owner:
        """Return the program that has a copy of a model at some paths, and its command."""
        for place in self.known.places.get(model, ()):
            if not contains(os.path.realpath(place.root), paths[0]):
                continue
            names = [
                one.name
                for one in self.known.places[model]
                if (one.source, one.root) == (place.source, place.root)
            ]
            if place.source == "ollama":
                builds = {name.partition("@")[0]: None for name in names}  # removed together
                return Owner("ollama", commands.ollama_remove(builds))
            if place.source == "docker-models":
                return Owner("docker-models", commands.docker_remove(names))
            if (targets := self._targets(paths)) is not None:
                return Owner("huggingface", targets)
            if place.source in KINDS and KINDS[place.source].is_store:
                return Owner(place.source, commands.remove(paths))
        return Owner("directory", commands.remove(paths))

    def _targets(self, paths: Sequence[str]) -> str | None:
        """Return the command that removes files from a hub's cache; None if they are in none."""
        hub = _hub_of(paths[0])
        if hub is None:
            return None
        targets: set[str] = set()
        for path in paths:
            with suppress(OSError, KeyError):
                targets |= self.hub(hub).targets(inode_of(os.stat(path)))
        return commands.hub_remove(sorted(targets), hub) if targets else None


def _hub_of(path: str) -> str | None:
    """Return the directory of a hub's cache that a blob lies in."""
    before, found, _ = path.partition(os.sep + PREFIX)
    return before if found else None


def _store(kind: str, root: str) -> tuple[str, str] | None:
    """Return the kind and the real path of a store that is here; "tree" for loose files."""
    real = os.path.realpath(root)
    if not os.path.isdir(real):
        return None
    if kind == "ollama":
        below = os.path.join(real, "models")
        return kind, real if has_manifests(real) else below
    if kind in ("huggingface", "llama-cache"):
        below = os.path.join(real, "hub")
        is_repo = os.path.basename(real).startswith(PREFIX)
        hub = os.path.realpath(below) if os.path.isdir(below) and not is_repo else real
        if kind == "huggingface" or has_repository(hub):
            return "huggingface", hub
    return (kind, real) if kind == "docker-models" else ("tree", real)
