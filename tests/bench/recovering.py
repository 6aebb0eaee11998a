"""Recover a sound database into a new file, beside ``VACUUM INTO`` in the shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import FailedError, Sample, alternate, output, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database, shell
from tests.bench.row import Row, compared, missing


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    size = place.size(500_000_000, 10_000_000)
    what, peer = f"recover of {size / 1e9:.2g} GB with 130 frames of log", "sqlite3, VACUUM INTO"
    sqlite = shell()
    if sqlite is None:
        yield missing("recovering", what, peer)
        return
    database = place.fresh("recover.db")
    output([python(), CHILDREN / "make_large.py", database, str(size)])
    ours, theirs = place.directory / "recovered.db", place.directory / "vacuumed.db"
    copy = place.directory / "vacuum-source.db"  # the shell folds what it opens
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{database}{suffix}").read_bytes())

    def recover() -> Sample:
        remove_database(ours)
        return run([*program(), "recover", database, "--into", ours])

    def vacuum() -> Sample:
        remove_database(theirs)
        return run([sqlite, copy, f"VACUUM INTO '{theirs}'"])

    pairs = alternate(recover, vacuum, place.size(3, 2))
    if _count(sqlite, ours) != _count(sqlite, theirs):
        raise FailedError("the two new databases hold different rows")
    limit = place.limit(2.0)
    yield compared("recovering", what, peer, pairs, limit=limit, note="same number of rows")
    for path in (database, ours, theirs, copy):
        remove_database(path)


def _count(sqlite: str, database: Path) -> object:
    sql = "SELECT count(*) AS rows, sum(id) AS ids, sum(length(content)) AS size FROM models"
    return json.loads(output([sqlite, "-json", database, sql]))
