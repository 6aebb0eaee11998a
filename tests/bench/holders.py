"""The look at the processes that hold a database, on a machine with very many descriptors.

Seconds of CPU are counted: a crowd of processes makes the wall clock say little.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.bench.data import records, write_lines
from tests.bench.measure import Command, output, run
from tests.bench.place import CHILDREN, Place, program, python
from tests.bench.row import Row

_LIMIT = 60.0  # milliseconds more, with 500 processes and 50,000 descriptors


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    processes, descriptors = place.size(500, 50), 100
    database = place.fresh("holders.db")
    lines = write_lines(place.directory / "holders.jsonl", records(18))
    output([*program(), "import", lines, "--db", database])
    commands = {"checkpoint": ("checkpoint",), "list": ("list", "--json")}
    alone = {name: _medians(place, database, words) for name, words in commands.items()}
    look = _look(str(database))
    with _crowd(lines, processes, descriptors):
        beside = {name: _medians(place, database, words) for name, words in commands.items()}
        crowded = _look(str(database))
    what = f"{processes} processes with {processes * descriptors:,} descriptors"
    for name in commands:
        yield Row(
            bench="holders",
            what=f"{name} beside {what}",
            measured=(beside[name] - alone[name]) * 1e3,
            unit="ms of CPU more",
            limit=place.limit(_LIMIT),
            ours=f"{beside[name] * 1e3:.0f} ms",
            theirs=f"{alone[name] * 1e3:.0f} ms without them",
        )
    yield Row(
        bench="holders",
        what=f"one look at {what}",
        measured=(crowded - look) * 1e3,
        unit="ms of CPU more",
        ours=f"{crowded * 1e3:.1f} ms",
        theirs=f"{look * 1e3:.1f} ms without them",
    )


def _medians(place: Place, database: Path, words: tuple[str, ...]) -> float:
    command: Command = [*program(), *words, "--db", database]
    return median(run(command).cpu for _ in range(place.rounds * 3))


def _look(path: str) -> float:
    from modelstore.database.holders import look_at_holders

    def once() -> float:
        began = time.thread_time()
        look_at_holders(path)
        return time.thread_time() - began

    return median(once() for _ in range(9))


@contextmanager
def _crowd(file: Path, processes: int, descriptors: int) -> Iterator[None]:
    words = [python(), "-I", "-S", CHILDREN / "hold_descriptors.py", file]
    crowd = subprocess.Popen(
        [*map(str, words), str(processes), str(descriptors)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert crowd.stdout is not None
    assert crowd.stdin is not None
    crowd.stdout.readline()
    try:
        yield
    finally:
        crowd.stdin.close()
        crowd.wait(60)
        crowd.stdout.close()
