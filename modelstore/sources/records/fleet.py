"""A fleet: the catalogues of many machines, each replicated by Litestream under one URL.

Only a machine whose position has moved since the last import is restored and read. A machine that
is silent is noted as offline; its models stay.

A host belongs to one machine: to the one of that name, else to the first whose models have it. If
two machines called their host alike, the same paths would be the same models, and each import would
replace those of one machine by the other's.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from typing import TYPE_CHECKING

from modelstore.catalogue.schema import is_catalogue
from modelstore.database.handle import connect
from modelstore.database.sqlite import sqlite3
from modelstore.errors import ModelstoreError
from modelstore.found import Machine, Skipped
from modelstore.replica.engine import Engine, Restored
from modelstore.replica.fleet import members_of
from modelstore.replica.name import ReplicaName
from modelstore.sources.records.catalogue import begin_to_read, hosts_of, models_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from modelstore.replica.engine import Outcome
    from modelstore.replica.fleet import Member
    from modelstore.sources.base import Context, Item, Target

KIND = "fleet"

SILENT = 24 * 3600.0
"""Seconds without a new position after which a machine counts as offline."""

_NAMED = 20  # hosts of another machine that are told
_AT_ONCE = 4  # restores: most of their time they wait for the store


def read(target: Target, context: Context) -> Iterator[Item]:
    """Yield the models of each machine that has moved, and every machine.

    A machine that cannot be restored or read is skipped, and is tried again next time. Raises
    `SourceError` if the fleet cannot be listed, also later on: Litestream tries a dead store for
    two minutes, and there may be a thousand machines.
    """
    fleet = ReplicaName.parse(target.text)
    before = context.positions(fleet.shown)
    patience = max(context.timeout, 1.0)
    members = members_of(fleet, timeout=patience)
    good = [member for member in members if member.has_good_name]
    for member in members:
        if not member.has_good_name:
            yield Skipped(member.name, "this is no host's name")
    now = datetime.fromisoformat(context.now).timestamp()
    moved = [member for member in good if before.get(member.name) != member.position]
    names = {*before, *(member.name for member in good)}
    owners = {**context.owners(fleet.shown), **{name: name for name in names}}
    for member, restored in _restored(fleet, moved):
        context.progress(member.name, 0)
        if not isinstance(restored, Restored):
            members_of(fleet, timeout=patience)  # raises if the store no longer answers
            yield Skipped(member.name, f"its replica cannot be restored: {restored.reason}")
            continue
        try:
            hosts, taken = yield from _models(restored.path, member.name, owners)
        except (ModelstoreError, sqlite3.Error) as error:
            yield Skipped(member.name, f"its replica cannot be read: {error}")
            continue
        owners.update(dict.fromkeys(hosts, member.name))
        read = _machine(fleet, member, now, is_read=True)
        yield read._replace(hosts=hosts, position="" if taken else read.position)
    for member in good:
        if before.get(member.name) == member.position:
            yield _machine(fleet, member, now, is_read=False)
    for name in sorted(before.keys() - {member.name for member in members}):
        root = fleet.below(name).shown
        yield Machine(name, root, before[name], None, is_silent=True, is_read=False)


def _models(
    path: str, name: str, owners: Mapping[str, str]
) -> Generator[Item, None, tuple[tuple[str, ...], list[str]]]:
    """Yield the models of a restored catalogue, but for those of another machine's hosts.

    Return the hosts other than its name that it has, and those that belong to another. Nobody else
    has the file open, so that it needs no look at all processes, which takes 35 ms on a busy
    machine.
    """
    with closing(connect(path, "immutable")) as db:
        is_catalogue(db, "its catalogue")  # raises for one that is too new
        begin_to_read(db, "its database")
        found = hosts_of(db)
        taken = [host for host in found if owners.get(host, name) != name]
        yield from models_of(db, but=taken)
        for host in taken[:_NAMED]:
            yield Skipped(
                name,
                f"its models of the host {host}, which belongs to the machine {owners[host]}; "
                "give each machine its own --host",
            )
        return tuple(host for host in found if host not in (name, *taken)), taken


def _machine(fleet: ReplicaName, member: Member, now: float, *, is_read: bool) -> Machine:
    is_silent = member.at is not None and now - member.at >= SILENT
    root = fleet.below(member.name).shown
    return Machine(
        member.name, root, member.position, member.at, is_silent=is_silent, is_read=is_read
    )


def _restored(
    fleet: ReplicaName, members: Sequence[Member]
) -> Iterator[tuple[Member, Restored | Outcome]]:
    """Restore some replicas, a few at once; each is deleted when the next one is asked for."""
    rest = iter(members)
    waiting: deque[tuple[Member, ExitStack, Future[Restored | Outcome]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool, ExitStack() as every:

        def begin() -> None:
            member = next(rest, None)
            if member is not None:
                stack = every.enter_context(ExitStack())
                replica = fleet.below(member.name)
                engine = stack.enter_context(Engine.ready(replica, member.name, need=0))
                waiting.append((member, stack, pool.submit(engine.restore)))

        for _ in range(_AT_ONCE):
            begin()
        while waiting:
            member, stack, future = waiting.popleft()
            with stack:
                yield member, future.result()
            begin()
