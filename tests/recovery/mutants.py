"""Wrong inputs: through the readers in process, and through the command, each run in a child.

A failure is an exception that is no refusal, a hang, more memory than the bound, an exit code that
is none of the documented ones, a result that SQLite finds malformed, or a changed input.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.forkserver import Ran, fork_server
from tests.recovery.readers import READERS, wrong_pair
from tests.recovery.victims import digests
from tests.torture import parsers
from tests.torture.attack import Failure, Plan, Result

CODES = frozenset((0, 3, 4, 5))
REFUSED = 3  # then there is no new file, and nothing on stdout
_PATIENCE = 20.0  # seconds for one run
_COMMANDS = (
    ("recover", "--into"),
    ("recover", "--into"),
    ("recover", "--deleted", "--into"),
    ("recover",),
    ("inspect-wal", "--no-checkpoint"),
    ("verify", "--no-checkpoint"),
)


def mutate(readers: int, commands: int, seed: int, first: int) -> int:
    """Run both; print what came of it, and return 1 if anything failed."""
    failures: list[Failure] = []
    for name, count, run in (("readers", readers, attack_readers), ("command", commands, attack)):
        if not count:
            continue
        began = time.monotonic()
        result = run(Plan(seed, count, first=first, report=_report))
        print(f"\r{name}: {result.cases:,} wrong inputs in {time.monotonic() - began:,.0f} s, "
              f"{len(result.failures)} failures; {dict(result.figures)}")  # fmt: skip
        failures += result.failures
    for failure in failures[:20]:
        print(f"    {failure.case}: {failure.what}")
    return int(bool(failures))


def _report(text: str) -> None:
    print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


def attack_readers(plan: Plan) -> Result:
    """Feed mutants to the readers of recovery."""
    return parsers.attack(plan, names=tuple(reader.name for reader in READERS))


def attack(plan: Plan) -> Result:
    """Run the command on mutants."""
    if not hasattr(os, "pidfd_open"):
        return Result(0, skipped="needs Linux")
    failures: list[Failure] = []
    codes: Counter[str] = Counter()
    peak = cases = 0
    slowest = 0.0
    for number, rng in plan.cases():
        cases += 1
        with tempfile.TemporaryDirectory(prefix="mutant-") as work:
            ran, faults = _run(Path(work), rng)
        codes[f"exit {ran.code}"] += 1
        peak, slowest = max(peak, ran.peak), max(slowest, ran.seconds)
        failures += [Failure(number, fault) for fault in faults]
    figures = {**codes, "MB at most": peak >> 20, "ms at most": round(1000 * slowest)}
    return Result(cases, tuple(failures), figures)


def _run(work: Path, rng: random.Random) -> tuple[Ran, list[str]]:
    files = work / "files"
    files.mkdir()
    main, log = wrong_pair(rng)
    (files / "app.db").write_bytes(main)
    if log or rng.random() < 0.5:
        (files / "app.db-wal").write_bytes(log)
    if rng.random() < 0.1:
        shutil.move(files / "app.db", work / "else.db")
    name, *options = rng.choice(_COMMANDS)
    new = work / "new.db"
    wanted = [str(new)] if "--into" in options else []
    before = digests(files)
    ran = fork_server().run(name, files / "app.db", *options, *wanted, patience=_PATIENCE)
    return ran, list(faults(ran, name, new, is_unchanged=before == digests(files)))


def faults(ran: Ran, name: str, new: Path, *, is_unchanged: bool) -> Iterator[str]:
    """Yield what is wrong with one run."""
    if ran.timed_out:
        yield f"{name} hangs"
    elif ran.code not in CODES:
        yield f"{name} exits {ran.code}: {ran.said[-300:]}"
    if not is_unchanged:
        yield f"{name} changed its input"
    if ran.code == REFUSED and (ran.out or new.exists()):
        yield f"{name} refuses, and answers"
    if new.exists():
        with closing(sqlite3.connect(f"file:{new}?immutable=1", uri=True)) as conn:
            try:
                conn.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            except sqlite3.Error as error:
                yield f"the new file cannot be read: {error}"
