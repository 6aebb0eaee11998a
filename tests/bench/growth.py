"""Times at 1, 10 and 100 times a size, with the exponent fitted: what is not linear is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from tests.bench.data import records, write_lines
from tests.bench.listing import filled
from tests.bench.logs import make_log
from tests.bench.measure import Sample, middle, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database
from tests.bench.row import Row, seconds
from tests.bench.trees import make_tree

_LINEAR = 1.15  # an exponent above this is named
Work = Callable[[int], Sample]


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    start = middle([run([*program(), "--version"]) for _ in range(5)]).wall
    rows = place.size(10_000, 1_000)
    files = place.size(100, 20)
    log = place.size(10_000_000, 1_000_000)
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
        yield _row(what, unit, sizes, times, start)


def _best(work: Work, size: int, place: Place) -> float:
    """Return the least of a few runs: noise only ever adds."""
    return min(work(size).wall for _ in range(place.size(3, 2)))


def _row(what: str, unit: str, sizes: Sequence[int], times: Sequence[float], start: float) -> Row:
    # What the smallest size takes beyond the start-up is hardly to be measured: its share of the
    # fit is what it is, and an exponent below 1 says only that fixed costs are spread.
    net = [max(time - start, 1e-3) for time in times]
    exponent = slope([math.log(size) for size in sizes], [math.log(time) for time in net])
    return Row(
        bench="growth",
        what=f"{what}, {sizes[0]:,} to {sizes[-1]:,} {unit}: exponent",
        measured=exponent,
        unit="",
        limit=_LINEAR,
        ours=", ".join(seconds(time) for time in times),
        note="not linear" if exponent > _LINEAR else "",
        facts={"sizes": list(sizes), "seconds": list(times), "start_up": start},
    )


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the line of least squares."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    across = sum((a - x) ** 2 for a in xs)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / across


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
