"""``python -m tests.bench``: run the benchmarks and print a table, or JSON.

``--against COMMIT`` compares this tree with a commit instead, on the works that a person waits for.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import platformdirs

from tests.bench.against import TOLERANCE, compare
from tests.bench.measure import FailedError
from tests.bench.place import Place, machine, versions
from tests.bench.row import Row, table

BENCHES = {
    "startup": "--version, --help, completion, and a list of 18 models",
    "records": "the import of a million records",
    "listing": "list, search, sort and filter on a million rows; a table of 100,000",
    "headers": "GGUF headers beside the official reader",
    "trees": "cold import of 1,000 and 10,000 GGUF files, and the re-import",
    "hub": "a Hugging Face cache beside its own command",
    "scan": "the scan of a 1 GB WAL",
    "loss": "the loss report on a multi-GB database",
    "fold": "checkpoint of a WAL of 50 MB and of 500 MB",
    "recovering": "recover beside VACUUM INTO",
    "waiting": "what another writer waits while commands run",
    "holders": "the look at the processes that hold a database, among 50,000 descriptors",
    "verifying": "verify on a database of 0.1 GB and of 2 GB",
    "growth": "times at 1, 10 and 100 times the size, with the exponent",
}


def main(arguments: list[str]) -> int:
    """Run what is asked for; exit 1 where a budget is not met or a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHES, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small data: about a minute")
    parser.add_argument("--json", action="store_true", help="results for a machine")
    parser.add_argument("--list", action="store_true", help="name the benchmarks")
    parser.add_argument("--against", metavar="COMMIT", help="compare with a commit, not with peers")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help=f"how much slower than COMMIT is still noise (default: {TOLERANCE})",
    )
    parser.add_argument("--directory", help="where the data go (10 GB in a full run)")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{name:10} {what}" for name, what in BENCHES.items()))
        return 0
    rows: list[Row] = []
    failures: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelstore-bench-", dir=options.directory) as scratch:
        cache = Path(platformdirs.user_cache_dir("modelstore-bench", appauthor=False))
        place = Place(Path(scratch), cache, options.quick)
        for name, measured in _chosen(options, place):
            try:
                for row in measured():
                    rows.append(row)
                    _say(row)
            except FailedError as error:
                failures.append(f"{name}: {error}")
                print(failures[-1], file=sys.stderr)
        about = {
            "machine": machine(),
            "versions": versions(place),
            "quick": options.quick,
            "not compared": [f"{row.what}: {row.note}" for row in rows if row.measured is None],
            "seconds": round(time.monotonic() - begun),
        }
    if options.json:
        answer = about | {"failures": failures, "rows": [row.as_json() for row in rows]}
        print(json.dumps(answer, indent=1, ensure_ascii=False))
    else:
        print(table(rows))
        print(json.dumps(about, ensure_ascii=False))
    return int(bool(failures) or any(row.met is False for row in rows))


def _chosen(
    options: argparse.Namespace, place: Place
) -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    """Yield the names of what is asked for, each with the function that measures it."""
    if options.against is not None:
        yield "against", lambda: compare(place, options.against, options.tolerance)
        return
    for name in options.only or BENCHES:
        module = import_module(f"tests.bench.{name}")
        yield name, partial(module.bench, place)


def _say(row: Row) -> None:
    figure = "-" if row.measured is None else f"{row.measured:.3g} {row.unit}"
    verdict = {True: "", False: " OVER BUDGET", None: ""}[row.met]
    print(f"{row.bench}: {row.what}: {figure}{verdict} {row.note}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
