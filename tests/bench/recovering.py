"""Recover a sound database into a new file, beside ``VACUUM INTO`` in the shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import FailedError, Sample, alternate, output, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database, shell
from tests.bench.row import Row, compared, missing

_MODELS = "SELECT count(*) AS rows, sum(id) AS ids, sum(length(content)) AS size FROM models"
_CHANGED = "SELECT count(*) AS rows, sum(n) AS numbers, sum(length(body)) AS size FROM t"
_PEER = "sqlite3, VACUUM INTO"


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows: a log of a few commits, and one that changes a row in every tenth page."""
    size = place.size(500_000_000, 10_000_000)
    yield _row(place, "make_large.py", size, "with 130 frames of log", _MODELS)
    size = place.size(2_000_000_000, 10_000_000)
    yield _row(place, "make_changed.py", size, "with a tenth of it in the log", _CHANGED)


def _row(place: Place, maker: str, size: int, log: str, sql: str) -> Row:
    what = f"recover of {size / 1e9:.2g} GB {log}"
    sqlite = shell()
    if sqlite is None:
        return missing("recovering", what, _PEER)
    database = place.fresh("recover.db")
    output([python(), CHILDREN / maker, database, str(size)])
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
    if _count(sqlite, ours, sql) != _count(sqlite, theirs, sql):
        raise FailedError("the two new databases hold different rows")
    for path in (database, ours, theirs, copy):
        remove_database(path)
    limit = place.limit(2.0)
    return compared("recovering", what, _PEER, pairs, limit=limit, note="same number of rows")


def _count(sqlite: str, database: Path, sql: str) -> object:
    return json.loads(output([sqlite, "-json", database, sql]))
