"""The look at the processes that hold a database, on a machine with very many descriptors.

Seconds of CPU are counted: a crowd of processes makes the wall clock say little. The kernel shows
what a descriptor is open on by one system call each, so a program in C that reads every link is
the floor that a look cannot be below.
"""

from __future__ import annotations

import shutil
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

_LIMIT = 1.6  # times the floor: what a command takes more, however often it looks


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    processes, descriptors = place.size(500, 50), 100
    database = place.fresh("holders.db")
    lines = write_lines(place.directory / "holders.jsonl", records(18))
    output([*program(), "import", lines, "--db", database])
    commands = {name: (name,) for name in ("checkpoint", "list", "inspect-wal", "verify")}
    alone = {name: _medians(place, database, words) for name, words in commands.items()}
    look = _look(str(database))
    with _crowd(lines, processes, descriptors):
        beside = {name: _medians(place, database, words) for name, words in commands.items()}
        crowded = _look(str(database))
        floor = _floor(place)
    what = f"{processes} processes with {processes * descriptors:,} descriptors"
    more = {name: (beside[name] - alone[name]) * 1e3 for name in commands}
    for name, milliseconds in (*more.items(), ("one look", (crowded - look) * 1e3)):
        yield Row(
            bench="holders",
            what=f"{name} beside {what}",
            peer="all links read in C",
            measured=milliseconds / floor if floor else None,
            limit=place.limit(_LIMIT),
            ours=f"{milliseconds:.0f} ms of CPU more",
            theirs=f"{floor:.0f} ms" if floor else "",
            note="" if floor else "needs a C compiler",
        )


def _floor(place: Place) -> float | None:
    """Return the milliseconds that a program in C takes; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    reader = place.directory / "look"
    subprocess.run([compiler, "-O2", "-o", reader, CHILDREN / "look.c"], check=True)
    return median(float(output([str(reader)])) for _ in range(9))


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
