"""What another writer waits while our commands run, idle and beside a reader that blocks."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.data import records, write_lines
from tests.bench.measure import FailedError, environment, output
from tests.bench.place import CHILDREN, Place, program, python
from tests.bench.row import Row, least

_LIMIT = 0.1  # seconds beyond our own transaction


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    count = place.size(200_000, 5_000)
    lines = write_lines(place.directory / "waiting.jsonl", records(count))
    commands: dict[str, tuple[str, ...]] = {
        "nothing": (),
        "list": ("list", "-f", "jsonl"),
        "checkpoint": ("checkpoint",),
        "inspect-wal": ("inspect-wal",),
        "verify": ("verify",),
        f"import of {count:,} records": ("import", str(lines)),
    }
    patience = ("--timeout", "500ms") if place.quick else ()  # 5 s, with a reader in the way
    for reader in (False, True):
        for name, command in commands.items():
            arguments = (*command, *patience) if command else ()
            yield least(partial(_one, place, name, arguments, lines, reader=reader))


def _one(place: Place, name: str, arguments: tuple[str, ...], lines: Path, *, reader: bool) -> Row:
    database = place.fresh("waiting.db")
    first = lines if arguments[:1] != ("import",) else place.directory / "one-record.jsonl"
    write_lines(first, records(1))
    output([*program(), "import", first, "--db", database])
    repeats = place.size(3, 1)
    locked = 0.0
    with ExitStack() as stack:
        if reader:
            stack.enter_context(_child("hold_reader.py", database))
        writer = stack.enter_context(_child("write_steadily.py", database))
        for _ in range(repeats):
            locked = max(locked, _run(arguments, database, writer))
        waits = _answer(writer)
    longest = max(waits)
    suffix = ", a reader blocking" if reader else ""
    quantiles = statistics.quantiles(waits, n=100)
    return Row(
        bench="waiting",
        what=f"another writer's wait beside {name}{suffix}: p50, p99, max",
        measured=max(0.0, longest - locked) * 1e3,
        unit="ms beyond our transaction",
        limit=_LIMIT * 1e3 if arguments else None,
        ours=", ".join(f"{value * 1e3:.1f}" for value in (quantiles[49], quantiles[98], longest))
        + " ms",
        note=f"our transaction {locked * 1e3:.0f} ms" if locked else f"{len(waits):,} commits",
    )


def _run(arguments: tuple[str, ...], database: Path, writer: subprocess.Popen[str]) -> float:
    """Run our command beside the writer; return how long it says that it held the write lock."""
    if not arguments:
        try:
            writer.wait(1.0)
        except subprocess.TimeoutExpired:
            return 0.0
        raise FailedError("the other writer ended")
    command = [*program(), *arguments, "--db", str(database)]
    command += ["--json"] if arguments[0] == "import" else []
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode not in (0, 4, 5):  # a busy log, or a check that strangers' commits fail
        raise FailedError(f"{command} exited {done.returncode}: {done.stderr[-500:]}")
    if arguments[0] != "import":
        return 0.0
    answer: Any = json.loads(done.stdout)
    return float(answer["write_lock_seconds"])


@contextmanager
def _child(script: str, database: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script that says ``ready`` first and ends when its stdin does."""
    process = subprocess.Popen(
        [python(), str(CHILDREN / script), str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        process.wait(30)


def _answer(writer: subprocess.Popen[str]) -> list[float]:
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.close()
    waits: list[float] = json.loads(writer.stdout.read())
    return waits
