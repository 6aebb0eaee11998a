"""The machines of fleets, as rows of ``roots``: their positions, and who is silent."""

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


def news_of_machines(db: Database, machines: Sequence[Machine]) -> list[Machine]:
    """Return the machines that were read, or went silent, or came back, since they were noted."""
    if not machines:
        return []
    rows = db.table("roots").rows_where("source = ?", [_SOURCE], select="root, position, status")
    noted = {from_sqlite_text(row["root"]): (row["position"], row["status"]) for row in rows}
    return [
        machine
        for machine in machines
        if noted.get(machine.root) != (machine.position, _status(machine))
    ]


def record_machines(db: Database, machines: Sequence[Machine], now: str) -> None:
    """Note the machines in the transaction of their models. An unchanged one is not written."""
    table = db.table("roots")
    for machine in news_of_machines(db, machines):
        key = {"host": to_sqlite_text(machine.host), "root": to_sqlite_text(machine.root)}
        if machine.is_read:
            row = {"source": _SOURCE, "imported_at": now, "position": machine.position}
            table.upsert(key | row | {"status": _status(machine)}, pk=("host", "root"))
        else:
            table.update(tuple(key.values()), {"status": _status(machine)})


def _status(machine: Machine) -> str:
    return "offline" if machine.is_silent else "online"
