"""The loss report: its cost grows with the log, not with the database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.measure import output
from tests.bench.place import CHILDREN, Place, python, remove_database
from tests.bench.row import Row, seconds


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    sizes = (20_000_000, 200_000_000) if place.quick else (40_000_000, 400_000_000, 4_000_000_000)
    found = [_one(place, size) for size in sizes]
    for size, answer in zip(sizes, found, strict=True):
        yield Row(
            bench="loss",
            what=f"loss report, {answer['frames']} frames on {size / 1e9:.2g} GB: pages read",
            measured=answer["reads"] / answer["pages"],
            unit="of the pages",
            ours=f"{answer['reads']:,} of {answer['pages']:,}, {seconds(answer['seconds'])}",
            note=f"{answer['lost']} rows lost",
            facts=answer,
        )
    first, last = found[0], found[-1]
    yield Row(
        bench="loss",
        what=f"loss report: reads at {sizes[-1] // sizes[0]} times the size of the database",
        measured=last["reads"] / first["reads"] / (last["pages"] / first["pages"]),
        unit="× the growth of the database",
        limit=0.5,
        ours=f"{last['reads'] / first['reads']:.1f} times the reads",
    )

    for shape in ("append-only", "random", "many tables"):
        yield _growth(place, shape)


def _growth(place: Place, shape: str) -> Row:
    """Return the growth of the cost with the size of a log of some shape: the exponent."""
    sizes = (8 << 20, 64 << 20) if place.quick else (64 << 20, 512 << 20)
    found = []
    for size in sizes:
        database: Path = place.fresh(f"log-{size}.db")
        output([python(), CHILDREN / "make_log.py", database, str(size), shape])
        found.append(json.loads(output([python(), CHILDREN / "log_loss.py", database])))
        remove_database(database)
    first, last = found
    exponent = math.log(last["seconds"] / first["seconds"]) / math.log(
        last["frames"] / first["frames"]
    )
    return Row(
        bench="loss",
        what=f"loss report, {shape} log of {sizes[0] >> 20} to {sizes[1] >> 20} MiB",
        measured=exponent,
        unit="exponent of the processor time",
        limit=1.1,
        ours=f"{seconds(first['seconds'])} to {seconds(last['seconds'])}",
        facts=last,
    )


def _one(place: Place, size: int) -> Any:
    database: Path = place.fresh(f"loss-{size}.db")
    output([python(), CHILDREN / "make_large.py", database, str(size)])
    answer = json.loads(output([python(), CHILDREN / "our_loss.py", database]))
    remove_database(database)
    return answer
