"""Times at 1, 10 and 100 times a size, with the exponent fitted: what is not linear is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from tests.bench.data import records, write_lines
from tests.bench.listing import filled
from tests.bench.logs import make_log
from tests.bench.measure import Sample, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database
from tests.bench.row import Row, seconds
from tests.bench.trees import make_tree

_LINEAR = 1.15  # an exponent above this is named
Work = Callable[[int], Sample]


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    rows = place.size(10_000, 300)
    files = place.size(100, 10)
    log = place.size(10_000_000, 500_000)
    works: tuple[tuple[str, str, int, Work], ...] = (
        ("import JSONL", "records", rows, lambda size: _import(place, size)),
        ("import again, unchanged", "records", rows, lambda size: _import_again(place, size)),
        ("list -f jsonl", "rows", rows, lambda size: _list(place, size, "-f", "jsonl")),
        ("list -f tsv", "rows", rows, lambda size: _list(place, size, "-f", "tsv")),
        ("list -f table", "rows", rows, lambda size: _list(place, size, "-f", "table")),
        ("search", "rows", rows, lambda size: _list(place, size, "variant-0000", "-f", "jsonl")),
        ("sort by name", "rows", rows, lambda size: _list(place, size, "-s", "name", "-f", "tsv")),
        ("import GGUF files", "files", files, lambda size: _tree(place, size, again=False)),
        ("re-import GGUF files", "files", files, lambda size: _tree(place, size, again=True)),
        ("scan of a WAL", "bytes", log, lambda size: _scan(place, size)),
        ("checkpoint", "bytes", log, lambda size: _checkpoint(place, size)),
        ("verify", "rows", rows, lambda size: run([*program(), "verify", filled(place, size)])),
    )
    for what, unit, smallest, work in works:
        sizes = [smallest, smallest * 10, smallest * 100]
        times = [_best(work, size, place) for size in sizes]
        yield _row(what, unit, sizes, times, place)


def _best(work: Work, size: int, place: Place) -> float:
    """Return the least of a few runs: noise only ever adds."""
    return min(work(size).wall for _ in range(place.size(3, 2)))


def _row(what: str, unit: str, sizes: Sequence[int], times: Sequence[float], place: Place) -> Row:
    power = exponent(*times)
    return Row(
        bench="growth",
        what=f"{what}, {sizes[0]:,} to {sizes[-1]:,} {unit}: exponent",
        measured=power,
        unit="",
        limit=place.limit(_LINEAR),
        ours=", ".join(seconds(time) for time in times),
        note="not linear" if power > _LINEAR and not place.quick else "",
        facts={"sizes": list(sizes), "seconds": list(times)},
    )


def exponent(one: float, ten: float, hundred: float) -> float:
    """Return p of ``a + b * size ** p`` through the times at 1, 10 and 100 times a size.

    What is the same at every size, such as the start of the program, falls out.
    """
    return math.log10(max(hundred - ten, 1e-4) / max(ten - one, 1e-4))


def _import(place: Place, size: int) -> Sample:
    lines = write_lines(place.directory / f"growth-{size}.jsonl", records(size))
    database = place.fresh("growth.db")
    return run([*program(), "import", lines, "--db", database])


def _import_again(place: Place, size: int) -> Sample:
    lines = write_lines(place.directory / f"growth-{size}.jsonl", records(size))
    return run([*program(), "import", lines, "--db", filled(place, size)])


def _list(place: Place, size: int, *arguments: str) -> Sample:
    return run([*program(), "list", *arguments, "--db", filled(place, size)])


def _tree(place: Place, size: int, *, again: bool) -> Sample:
    tree = make_tree(place.directory / f"tree-{size}", size)
    database = place.fresh("growth.db")
    first = run([*program(), "import", tree, "--db", database])
    return run([*program(), "import", tree, "--db", database]) if again else first


def _scan(place: Place, size: int) -> Sample:
    log = place.directory / f"growth-{size}.db-wal"
    if not log.exists():
        make_log(place, place.directory / f"growth-{size}.db", size)
    return run([python(), CHILDREN / "our_scan.py", log])


def _checkpoint(place: Place, size: int) -> Sample:
    database = place.directory / "growth-fold.db"
    make_log(place, database, size)
    sample = run([*program(), "checkpoint", database])
    remove_database(database)
    return sample
