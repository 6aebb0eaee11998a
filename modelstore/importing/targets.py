"""The targets of an import: sources that were named or discovered, each with its kind."""

from __future__ import annotations

import os
import sys
from io import BufferedReader, BytesIO
from typing import TYPE_CHECKING, NamedTuple

from modelstore.errors import UsageError
from modelstore.sources.base import Context, Target
from modelstore.text import host_name, utc_now, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

API_KEY_VARIABLE = "MODELSTORE_API_KEY"
_MAX_KEY = 8192  # bytes


class Chosen(NamedTuple):
    """One target, and the kind of source that reads it."""

    target: Target
    kind: str
    optional: bool = False  # discovered, not named: it may hold no model
    detected: bool = False  # its kind: the models beside a store are read as well
    absent: str | None = None  # why there is nothing to read

    @property
    def shown(self) -> str:
        """The name for people: a URL without the query, which holds settings."""
        text = self.target.text
        return text.partition("?")[0] if "://" in text else text

    @property
    def root(self) -> str:
        """The canonical name under which the catalogue keeps the places of its models."""
        return self.target.text if "://" in self.target.text else self.target.real_path


def make_context(host: str | None, timeout: float, api_key_file: str | None) -> Context:
    """Return the context that all sources of this import share. `timeout` is in seconds.

    Raises `UsageError` for a bad host name or key file.
    """
    return Context(
        host=_host(host),
        now=utc_now(),
        environ=dict(os.environ),
        home=os.path.expanduser("~"),
        timeout=timeout,
        api_key=_api_key(api_key_file),
    )


def _host(given: str | None) -> str:
    name = host_name() if given is None else given.strip()
    if not name or len(name) > 255 or not name.isprintable() or "/" in name:
        raise UsageError(
            f"'{visible(name, 60)}' is not a host name", hint="--host NAME, without a /"
        )
    return name


def _api_key(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(API_KEY_VARIABLE) or None
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_KEY + 1)
    except OSError as error:
        raise UsageError(
            f"the key file {visible(path, 200)} cannot be read: {error.strerror}",
            hint="--api-key-file names a file that holds the key and nothing else",
        ) from None
    key = raw.decode("utf-8", "replace").strip()
    if not key or len(raw) > _MAX_KEY or not key.isprintable():
        raise UsageError(
            f"the key file {visible(path, 200)} holds no key",
            hint="it should hold the key and nothing else",
        )
    return key


def choose_targets(
    sources: Sequence[str], kind: str | None, context: Context, *, discover: bool
) -> list[Chosen]:
    """Return the targets of an import, each once.

    `sources` are paths, addresses or ``-``; `kind` overrides detection. Without `sources`, `kind`
    alone stands for its usual places, and `discover` for those of every kind. Raises `UsageError`,
    and `SourceError` for a source that is missing.
    """
    from modelstore.sources.kinds import kind_info

    if kind is not None:
        kind_info(kind)
    if discover:
        return _discovered(context)
    if not sources and kind is not None:
        return _usual(kind, context)
    if sum(source == "-" for source in sources) > 1:
        raise UsageError("stdin can be read once", hint="give - one time")
    chosen = []
    seen = set()
    for source in sources:
        if source == "":
            raise UsageError("a SOURCE is empty", hint="an unset variable in a script?")
        one = _named(source, kind)
        if one.root not in seen:
            seen.add(one.root)
            chosen.append(one)
    return chosen


def _named(source: str, kind: str | None) -> Chosen:
    from modelstore.sources.detect import detect, peek

    if source == "-":
        if sys.stdin is None:
            raise UsageError("stdin is closed", hint="name a file instead of -")
        target = Target("-", sys.stdin.buffer)
        if kind is None and not peek(target):
            # It has ended: another read would wait for a second Ctrl-D on a terminal.
            target = Target("-", BufferedReader(BytesIO()))
    elif kind == "fleet":
        from modelstore.replica.engine import find_engine
        from modelstore.replica.name import ReplicaName

        if ReplicaName.parse(source).url is None:
            raise UsageError("a fleet is a URL", hint="such as s3://bucket/fleet")
        find_engine()
        target = Target(source)
    elif Target(source).is_url:
        from modelstore.sources.address import Address

        target = Target(Address.parse(source).url)  # canonical, without a password
    else:
        target = Target(source)
    if kind is not None:
        return Chosen(target, kind)
    return Chosen(target, detect(target), detected=True)


def _usual(kind: str, context: Context) -> list[Chosen]:
    from modelstore.sources.kinds import usual_places

    places = usual_places(kind, context)
    if not places:
        raise UsageError(f"--from {kind} has no usual place", hint="name a SOURCE")
    there = [place for place in places if place.startswith("http") or os.path.exists(place)]
    if not there:
        looked = ", ".join(visible(place, 200) for place in places)
        raise UsageError(f"no {kind} source is in its usual place", hint=f"looked at: {looked}")
    return [Chosen(Target(place), kind) for place in there]


def _discovered(context: Context) -> list[Chosen]:
    from modelstore.sources.discover import places

    return [
        Chosen(
            Target(place.path),
            place.kind,
            optional=True,
            absent=None if place.exists else place.why,
        )
        for place in places(context)
    ]
