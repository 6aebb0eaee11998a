"""The members of a fleet: the replicas under one URL, each with its position.

``URL/HOST`` is the replica of one machine; over NATS, which has no directories, it is the bucket
``URL-HOST``. A member's position is the last transaction that any of its files names, so a listing
tells who has moved, and nothing is restored for that.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.replica.name import ReplicaName

_FILE = re.compile(r"[0-9a-f]{16}-([0-9a-f]{16})\.ltx")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class Member:
    """A machine's replica. `name` is outside text; `at` is in seconds since the epoch."""

    name: str
    txid: int
    at: float | None

    @property
    def position(self) -> str:
        """The position as Litestream writes it."""
        return f"{self.txid:016x}"

    @property
    def has_good_name(self) -> bool:
        """True for a host's name, which is safe as a part of a URL.

        Anything else might lead Litestream, and the keys that it has, to another server.
        """
        return _HOST.fullmatch(self.name) is not None


def members_of(fleet: ReplicaName, *, timeout: float) -> list[Member]:
    """Return the members under a URL, by name. `timeout` is in seconds, for each request.

    Raises `SourceError` where they cannot be listed.
    """
    scheme = urlsplit(fleet.url or "").scheme
    if fleet.directory is not None:
        files: Iterable[tuple[str, str, float | None]] = _files_below(fleet.directory, fleet.shown)
    elif scheme == "s3":
        from modelstore.replica.s3 import stored_objects

        files = (
            (*_ends(stored.name), stored.at) for stored in stored_objects(fleet, timeout=timeout)
        )
    elif scheme == "nats":
        from modelstore.replica.nats import stored_objects as objects_of_buckets

        files = objects_of_buckets(fleet, timeout=timeout)
    else:
        raise SourceError(
            f"the replicas under {fleet.shown} cannot be listed",
            hint="a fleet lies under s3://, nats:// or file://",
        )
    return newest(files)


def newest(files: Iterable[tuple[str, str, float | None]]) -> list[Member]:
    """Return the members that files make: each a member's name, a file's name and its time."""
    found: dict[str, Member] = {}
    for member, file, at in files:
        match = _FILE.fullmatch(file)
        if match is None or not member:
            continue
        known = found.get(member)
        txid = int(match[1], 16)
        if known is None or txid > known.txid:
            found[member] = Member(member, txid, at)
        elif txid == known.txid and at is not None and (known.at is None or at < known.at):
            # Compaction writes the same transactions anew: the first file has their time.
            found[member] = Member(member, txid, at)
    return [found[name] for name in sorted(found)]


def _ends(path: str) -> tuple[str, str]:
    return path.partition("/")[0], path.rpartition("/")[2]


def _files_below(directory: str, shown: str) -> Iterator[tuple[str, str, float | None]]:
    """Yield the files of each replica in ``directory/HOST/ltx/LEVEL``."""
    try:
        with os.scandir(directory) as hosts:
            names = [host.name for host in hosts if host.is_dir()]
    except OSError as error:
        raise SourceError(
            f"{shown} cannot be listed: {error.strerror}", hint="check the path"
        ) from None
    for name in names:
        for level in _listed(os.path.join(directory, name, "ltx")):
            for file in _listed(level.path):
                try:
                    yield name, file.name, file.stat().st_mtime
                except OSError:  # compaction has just deleted it
                    continue


def _listed(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []
