"""Databases with a log of a wanted size, left as a process that was killed leaves them."""

from __future__ import annotations

from pathlib import Path

from tests.bench.measure import output
from tests.bench.place import CHILDREN, Place, python


def make_log(place: Place, database: Path, size: int) -> Path:
    """Return the -wal, of about `size` bytes, of a new database; nobody folded it."""
    place.fresh(database.name)
    output([python(), CHILDREN / "make_log.py", database, str(size)])
    return Path(f"{database}-wal")
