"""Times at 1, 10 and 100 times a size, with the exponent fitted: what is not linear is named.

Beside it stands the exponent of the floor, a bare program that does the same work: an index that
outgrows the cache costs both of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench.data import records, write_lines
from tests.bench.hub import make_cache
from tests.bench.listing import filled
from tests.bench.logs import make_log
from tests.bench.measure import Sample, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database, shell
from tests.bench.records import write_tables
from tests.bench.row import Row, seconds
from tests.bench.trees import make_tree

_LINEAR = 1.15  # an exponent above this is named, and one below its inverse too
_LONG = 8.0  # seconds of runs after which no more are made
_EVERY = "SELECT * FROM models"
Work = Callable[[int], Sample]


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    rows = place.size(10_000, 300)
    files = place.size(100, 4)
    log = place.size(10_000_000, 500_000)
    works: list[tuple[str, str, int, Work]] = [
        ("import JSONL", "records", rows, lambda size: _import(place, size)),
        ("import again, unchanged", "records", rows, lambda size: _import_again(place, size)),
        ("list -f jsonl", "rows", rows, lambda size: _list(place, size, "-f", "jsonl")),
        ("list -f tsv", "rows", rows, lambda size: _list(place, size, "-f", "tsv")),
        ("list -f table", "rows", rows, lambda size: _list(place, size, "-f", "table")),
        ("search", "rows", rows, lambda size: _list(place, size, "variant-0000", "-f", "jsonl")),
        ("filter", "rows", rows, lambda size: _list(place, size, "--arch", "phi3", "-f", "jsonl")),
        ("sort by name", "rows", rows, lambda size: _list(place, size, "-s", "name", "-f", "tsv")),
        ("import GGUF files", "files", files, lambda size: _tree(place, size, again=False)),
        ("re-import GGUF files", "files", files, lambda size: _tree(place, size, again=True)),
        ("import a Hugging Face cache", "repositories", files // 2, lambda size: _hub(place, size)),
        ("scan of a WAL", "bytes", log, lambda size: _scan(place, size)),
        ("checkpoint", "bytes", log, lambda size: _checkpoint(place, size)),
        ("verify", "rows", rows, lambda size: run([*program(), "verify", filled(place, size)])),
    ]
    reader = place.peer("gguf", "python")
    if reader is not None:  # it writes the files
        few = place.size(10_000, 1_000)
        works.append(("GGUF header", "tokens", few, lambda size: _header(place, reader, size)))
    if not place.quick:  # the smallest database that has such a log is too large for that
        works.append(("loss report", "bytes of database", 6_000_000, lambda s: _loss(place, s)))
    floors = _floors(place)
    for what, unit, smallest, work in works:
        sizes = [smallest, smallest * 10, smallest * 100]
        times = [_best(work, size, place) for size in sizes]
        floor = floors.get(what)
        beside = None if floor is None else [_best(floor, size, place) for size in sizes]
        yield _row(what, unit, sizes, times, beside, place)


def _floors(place: Place) -> dict[str, Work]:
    """Return the floor of each work that has one."""
    found: dict[str, Work] = {
        "import JSONL": lambda size: _bare_import(place, size),
        "import GGUF files": lambda size: run(
            [python(), CHILDREN / "our_tree.py", make_tree(place.directory / f"tree-{size}", size)]
        ),
    }
    sqlite = shell()
    if sqlite is None:
        return found

    def ask(*words: str) -> Work:
        *flags, sql = words
        return lambda size: run([sqlite, *flags, filled(place, size), sql])

    return found | {
        "list -f jsonl": ask("-json", f"{_EVERY} ORDER BY name COLLATE NOCASE, id"),
        "list -f tsv": ask("-tabs", f"{_EVERY} ORDER BY name COLLATE NOCASE, id"),
        "sort by name": ask("-tabs", f"{_EVERY} ORDER BY name COLLATE NOCASE, id"),
        "search": ask("-json", f"{_EVERY} WHERE name LIKE '%variant-0000%' ORDER BY name"),
        "filter": ask("-json", f"{_EVERY} WHERE architecture = 'phi3' ORDER BY name"),
        "verify": ask("PRAGMA integrity_check"),
        "checkpoint": lambda size: _bare_checkpoint(place, sqlite, size),
    }


def _best(work: Work, size: int, place: Place) -> float:
    """Return the least of a few runs, of fewer where they are long: noise only ever adds."""
    walls = [work(size).wall]
    while len(walls) < place.size(3, 1) and sum(walls) < _LONG:
        walls.append(work(size).wall)
    return min(walls)


def _row(
    what: str,
    unit: str,
    sizes: Sequence[int],
    times: Sequence[float],
    beside: Sequence[float] | None,
    place: Place,
) -> Row:
    power = exponent(*times)
    theirs = ""
    if beside is not None:
        theirs = f"{exponent(*beside):.2f}: " + ", ".join(seconds(time) for time in beside)
    return Row(
        bench="growth",
        what=f"{what}, {sizes[0]:,} to {sizes[-1]:,} {unit}: exponent",
        peer="" if beside is None else "the floor's own",
        measured=power,
        unit="",
        ours=", ".join(seconds(time) for time in times),
        theirs=theirs,
        note="" if place.quick else named(power),
        facts={"sizes": list(sizes), "seconds": list(times), "floor": list(beside or ())},
    )


def named(power: float) -> str:
    """Say in words what is not linear."""
    if power > _LINEAR:
        return "grows faster than its size: not linear"
    return "" if power >= 1 / _LINEAR else "grows slower than its size: not linear"


def exponent(one: float, ten: float, hundred: float) -> float:
    """Return p of ``a + b * size ** p`` through the times at 1, 10 and 100 times a size.

    What is the same at every size, such as the start of the program, falls out.
    """
    return math.log10(max(hundred - ten, 1e-4) / max(ten - one, 1e-4))


def _import(place: Place, size: int) -> Sample:
    lines = write_lines(place.directory / f"growth-{size}.jsonl", records(size))
    database = place.fresh("growth.db")
    return run([*program(), "import", lines, "--db", database])


def _bare_import(place: Place, size: int) -> Sample:
    lines = write_lines(place.directory / f"growth-{size}.jsonl", records(size))
    tables = write_tables(place)
    return run([python(), CHILDREN / "floor.py", lines, place.fresh("floor.db"), tables])


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


def _hub(place: Place, size: int) -> Sample:
    cache = place.directory / f"hub-{size}"
    if not cache.exists():
        make_cache(cache, size)
    database = place.fresh("growth.db")
    return run([*program(), "import", cache, "--from", "huggingface", "--db", database])


def _header(place: Place, reader: Path, size: int) -> Sample:
    made = place.directory / f"tokens-{size}.gguf"
    if not made.exists():
        run([reader, CHILDREN / "make_gguf.py", made, str(size)])
    return run([python(), CHILDREN / "our_header.py", made])


def _loss(place: Place, size: int) -> Sample:
    database = place.directory / f"loss-{size}.db"
    if not database.exists():
        run([python(), CHILDREN / "make_large.py", database, str(size)])
    return run([python(), CHILDREN / "our_loss.py", database])


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


def _bare_checkpoint(place: Place, sqlite: str, size: int) -> Sample:
    database = place.directory / "floor-fold.db"
    make_log(place, database, size)
    sample = run([sqlite, database, "PRAGMA wal_checkpoint(TRUNCATE)"])
    remove_database(database)
    return sample
