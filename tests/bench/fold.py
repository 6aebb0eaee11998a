"""Checkpoint of a WAL of 50 MB and of 500 MB beside the shell's pragma."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path

from tests.bench.logs import make_log
from tests.bench.measure import Command, FailedError, Sample, alternate, run
from tests.bench.place import Place, program, remove_database, shell
from tests.bench.row import Row, compared, missing

_BUDGETS = {50_000_000: 1.5, 500_000_000: 1.15}  # bytes of the WAL


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    for size, budget in _BUDGETS.items():
        yield from _one(place, place.size(size, size // 10), place.limit(budget))


def _one(place: Place, size: int, budget: float | None) -> Iterator[Row]:
    what, peer = f"checkpoint of a WAL of {size / 1e6:.0f} MB", "sqlite3, wal_checkpoint(TRUNCATE)"
    sqlite = shell()
    if sqlite is None:
        yield missing("fold", what, peer)
        return
    master = place.directory / "fold.db"
    make_log(place, master, size)
    mine, other = place.directory / "mine.db", place.directory / "other.db"

    def on_copy(copy: Path, command: Command) -> Sample:
        remove_database(copy)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{master}{suffix}", f"{copy}{suffix}")
        return run(command)

    pairs = alternate(
        lambda: on_copy(mine, [*program(), "checkpoint", mine]),
        lambda: on_copy(other, [sqlite, other, "PRAGMA wal_checkpoint(TRUNCATE)"]),
        place.rounds,
    )
    if _digest(mine) != _digest(other):
        raise FailedError("the two main files differ")
    yield compared("fold", what, peer, pairs, limit=budget, note="same main file, byte for byte")
    for path in (master, mine, other):
        remove_database(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
