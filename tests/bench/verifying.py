"""Verify a database of 0.1 GB and of 2 GB beside ``PRAGMA integrity_check`` in the shell."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from tests.bench.measure import Command, FailedError, environment, in_turn, output
from tests.bench.place import CHILDREN, Place, program, python, remove_database, shell
from tests.bench.row import Row, compared, missing

_BUDGETS = {100_000_000: 1.5, 2_000_000_000: 1.0}  # bytes of the database


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    for size, budget in _BUDGETS.items():
        yield from _one(place, place.size(size, size // 20), place.limit(budget))


def _one(place: Place, size: int, budget: float | None) -> Iterator[Row]:
    what, peer = f"verify of {size / 1e9:.2g} GB", "sqlite3, integrity_check"
    sqlite = shell()
    if sqlite is None:
        yield missing("verifying", what, peer)
        return
    database = place.fresh("verify.db")
    output([python(), CHILDREN / "make_large.py", database, str(size)])
    output([sqlite, database, "PRAGMA wal_checkpoint(TRUNCATE)"])
    theirs: Command = [sqlite, database, "PRAGMA integrity_check"]
    ours: Command = [*program(), "verify", database]
    said = subprocess.run(
        [*map(str, ours), "--json"], capture_output=True, text=True, env=environment(), check=False
    )
    if output(theirs).strip() != "ok" or said.returncode or not json.loads(said.stdout):
        raise FailedError(f"{said.stdout[-500:]} {said.stderr[-500:]}")
    pairs = in_turn(ours, theirs, place.size(3, 2))
    yield compared("verifying", what, peer, pairs, limit=budget, note="both find nothing wrong")
    quick: Command = [*ours, "--quick"]
    pairs = in_turn(quick, [sqlite, database, "PRAGMA quick_check"], place.size(3, 2))
    yield compared("verifying", f"{what} --quick", "sqlite3, quick_check", pairs)
    remove_database(database)
