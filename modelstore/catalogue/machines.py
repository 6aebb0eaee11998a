"""The machines of fleets, as rows of ``roots``: their positions, and who is silent.

A machine has a row of its own name. It has a further row for each other host that its models have,
because the hosts in a catalogue need not be the name in the URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database.sqlite_text import from_sqlite_text, to_sqlite_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.database.handle import Database
    from modelstore.found import Machine

_SOURCE = "fleet"


def known_positions(db: Database, fleet: str) -> dict[str, str]:
    """Return the position of each machine at its last import, by host; `fleet` is the URL."""
    rows = db.table("roots").rows_where(
        "source = ? AND position IS NOT NULL AND root IN (? || '/' || host, ? || '-' || host)",
        [_SOURCE, *[to_sqlite_text(fleet.rstrip("/"))] * 2],
        select="host, position",
    )
    return {from_sqlite_text(row["host"]): row["position"] for row in rows}


def known_hosts(db: Database, fleet: str) -> dict[str, str]:
    """Return the machine that each host belongs to, for hosts other than the machines' names."""
    start = to_sqlite_text(fleet.rstrip("/"))
    rows = db.table("roots").rows_where(
        "source = ? AND position IS NOT NULL AND substr(root, 1, ?) IN (? || '/', ? || '-')",
        [_SOURCE, len(start) + 1, start, start],
        select="host, root",
    )
    owners = {from_sqlite_text(row["host"]): row["root"][len(start) + 1 :] for row in rows}
    return {host: machine for host, machine in owners.items() if host != machine}


def news_of_machines(db: Database, machines: Sequence[Machine]) -> list[Machine]:
    """Return the machines that were read, or went silent, or came back, since they were noted."""
    if not machines:
        return []
    columns = "host, root, position, status"
    noted = {}
    hosts: dict[str, set[str]] = {}
    for row in db.table("roots").rows_where("source = ?", [_SOURCE], select=columns):
        root = from_sqlite_text(row["root"])
        noted[root] = (row["position"], row["status"])
        hosts.setdefault(root, set()).add(from_sqlite_text(row["host"]))
    return [
        machine
        for machine in machines
        if noted.get(machine.root) != (machine.position, _status(machine))
        or (machine.is_read and hosts[machine.root] != {machine.host, *machine.hosts})
    ]


def record_machines(db: Database, machines: Sequence[Machine], now: str) -> None:
    """Note the machines in the transaction of their models. An unchanged one is not written."""
    table = db.table("roots")
    for machine in news_of_machines(db, machines):
        root, status = to_sqlite_text(machine.root), _status(machine)
        where, of_root = "source = ? AND root = ?", [_SOURCE, root]
        if not machine.is_read:
            # plain SQL: table.update changes one row
            db.execute(f"UPDATE roots SET status = ? WHERE {where}", [status, *of_root])
            continue
        table.delete_where(where, of_root)
        noted = {"source": _SOURCE, "imported_at": now, "position": machine.position}
        table.insert_all(
            noted | {"host": to_sqlite_text(host), "root": root, "status": status}
            for host in (machine.host, *machine.hosts)
        )


def _status(machine: Machine) -> str:
    return "offline" if machine.is_silent else "online"
