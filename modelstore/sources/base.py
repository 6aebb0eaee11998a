"""The protocol of a source of models: a target and a context go in, items come out.

A source module declares ``KIND`` and ``read(target, context)``, a generator of items. It reads
only, raises `SourceError` if the whole target cannot be read, and yields `Skipped` for each part
that cannot: one bad file never ends an import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from modelstore.found import Found, KnownFile, Machine, Naming, Place, Skipped
from modelstore.progress import Progress, silent
from modelstore.text import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A model whose files did not change since the catalogue read them. No file was opened."""

    locator: str
    place: Place | None = None
    naming: Naming | None = None  # where the place may have given it another one


BATCH = 100  # rows: with the records that they are made of they fit a processor's cache


class Rows(NamedTuple):
    """Many models at once: tuples in the order of ``MODEL_COLUMNS``, `tags` as JSON text."""

    rows: list[tuple[object, ...]]


class Note(NamedTuple):
    """A message for the user that is not a fault, such as a database with a log that was read."""

    text: str


Item = Found | Unchanged | Skipped | Rows | Note | Machine


class Target(NamedTuple):
    """The thing to read: a path, an address, or standard input (text ``-``, with its stream)."""

    text: str  # as the person wrote it
    stream: BinaryIO | None = None

    @property
    def is_url(self) -> bool:
        """True for an HTTP address."""
        return self.text.startswith(("http://", "https://"))

    @property
    def real_path(self) -> str:
        """The canonical absolute path."""
        return os.path.realpath(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The surroundings of an import, the same for every source that it reads."""

    host: str  # the name of the machine that the files are on
    now: str  # ISO-8601 UTC, the same for a whole import
    known: Mapping[str, KnownFile] = field(default_factory=dict)  # by real path
    known_below: Callable[[str], Mapping[str, KnownFile]] = lambda _root: {}
    """Returns `known` of another root: of a store within the one that is read."""
    positions: Callable[[str], Mapping[str, str]] = lambda _fleet: {}
    """Returns the position of each machine of a fleet at the last import, by host."""
    owners: Callable[[str], Mapping[str, str]] = lambda _fleet: {}
    """Returns the machine of a fleet that a host belongs to, for hosts other than their names."""
    environ: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    timeout: float = DEFAULT_TIMEOUT  # seconds of patience with a server
    api_key: str | None = field(default=None, repr=False)  # secret: never stored, never shown
    progress: Progress = silent  # the thing that is read, and the models so far


class Source(Protocol):
    """The protocol of one kind of source, implemented by a module of this package."""

    KIND: str

    def read(self, target: Target, context: Context) -> Iterator[Item]:
        """Yield the items of the target. Raises `SourceError` if it cannot be read at all."""
        ...


def at_place(item: Found | Unchanged | Skipped, place: Place) -> Found | Unchanged | Skipped:
    """Return the item of a model for another place that shows the same files."""
    return item if isinstance(item, Skipped) else replace(item, place=place)


def fill_unknown(found: Found, columns: Mapping[str, Any]) -> Found:
    """Return the model with its unknown columns filled from a store's own notes.

    Capabilities add up: a store may know some that the files do not show.
    """
    known = {name: value for name, value in columns.items() if getattr(found.model, name) is None}
    told = columns.get("capabilities")
    if told and found.model.capabilities is not None:
        known["capabilities"] = tuple(sorted({*found.model.capabilities, *told}))
    return replace(found, model=found.model._replace(**known))
