"""The usual places of models on this machine. No model is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.sources import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.sources.base import Context

_SERVER_TIMEOUT = 1.0  # seconds; those asked are on this machine


@dataclass(frozen=True, slots=True)
class DiscoveredPlace:
    """A place that models may be imported from."""

    kind: str  # of source
    path: str  # or the address of a server
    exists: bool  # and can be read
    why: str  # a summary of the source, or why it cannot be read


def places(context: Context, *, ask_servers: bool = False) -> Iterator[DiscoveredPlace]:
    """Yield the usual places of every kind of source, whether they exist or not.

    A place that two kinds share is yielded once. `ask_servers` also asks the servers on this
    machine; nothing else here uses the network.
    """
    seen: set[str] = set()
    for kind, info in kinds.KINDS.items():
        is_server = info.is_server
        if is_server and not ask_servers:
            continue
        for path in kinds.usual_places(kind, context):
            same = path if is_server else os.path.realpath(path)
            if same not in seen:
                seen.add(same)
                yield (_server if is_server else _on_disk)(kind, path, context)


def _on_disk(kind: str, path: str, _context: Context) -> DiscoveredPlace:
    try:
        if os.path.isdir(path):
            with os.scandir(path) as listed:
                next(listed, None)
        else:
            os.stat(path)
    except FileNotFoundError:
        return DiscoveredPlace(kind, path, exists=False, why="does not exist")
    except PermissionError:
        return DiscoveredPlace(kind, path, exists=False, why="cannot be read by this user")
    except (OSError, ValueError) as error:
        return DiscoveredPlace(kind, path, exists=False, why=f"cannot be read: {error}")
    return DiscoveredPlace(kind, path, exists=True, why=kinds.KINDS[kind].summary)


def _server(kind: str, url: str, context: Context) -> DiscoveredPlace:
    from modelstore.errors import SourceError
    from modelstore.sources.address import Address
    from modelstore.sources.servers.http import Client
    from modelstore.sources.servers.live import identify

    place = DiscoveredPlace(kind, url, exists=False, why="does not answer")
    try:
        timeout = min(_SERVER_TIMEOUT, context.timeout)
        found = identify(Client(Address.parse(url), timeout)).KIND
    except SourceError as error:
        return replace(place, why=error.message)
    return replace(place, kind=found, exists=True, why=kinds.KINDS[found].summary)
