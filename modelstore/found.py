"""The values that a source yields: models with their files and places, and what it had to skip.

Apart from `modelstore.model`, because a listing needs the columns alone: the classes here would
cost it 3 % of its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from modelstore.model import Model

FileRole = Literal["model", "shard", "projector", "draft", "adapter", "config", "index"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, by its real path, as a later scan compares it without reading it."""

    path: str
    role: FileRole
    size: int | None = None  # bytes
    mtime_ns: int | None = None
    sha256: str | None = None  # lower-case hex, of the content
    device: int | None = None  # st_dev and st_ino: two names of one file are one model
    inode: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place that a model was seen in: a path, a store's own name, or a server's address."""

    root: str  # what was imported: a directory, a store, an address; canonical
    locator: str  # the place within it, unique under the root
    source: str  # kind
    name: str  # what the model is called there
    state: str | None = None  # as the place says it: loaded, unloaded, …


@dataclass(frozen=True, slots=True)
class Naming:
    """The words that a place has for a model, which may change while its files do not.

    What is None stays as it is.
    """

    name: str | None = None
    source_id: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A model that a source read, with its files and the place it was seen in."""

    model: Model
    files: tuple[ModelFile, ...] = ()  # none if it is known without its files
    place: Place | None = None


class Machine(NamedTuple):
    """A machine of a fleet, as an import found it. `host` and `root` are outside text.

    `root` is the name of its replica, `position` the last transaction in it, and `changed_at` the
    time of that, in seconds since the epoch; None if the replica is gone. `position` is empty if a
    part of its catalogue was skipped: then it is read again next time. `hosts` are the hosts, other
    than its name, that its models have: outside text.
    """

    host: str
    root: str
    position: str
    changed_at: float | None
    is_silent: bool  # no new position for a long time
    is_read: bool  # its catalogue was read by this import
    hosts: tuple[str, ...] = ()


class Skipped(NamedTuple):
    """Something that could not become a model, and why. Both are outside text: not escaped."""

    what: str
    reason: str


class KnownFile(NamedTuple):
    """A file as the catalogue recorded it when it last read it."""

    size: int  # bytes
    mtime_ns: int
    locator: str  # of the model that it belongs to
    sha256: str | None = None
    model_file_count: int = 1  # files of that copy of the model
