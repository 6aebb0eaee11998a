"""WAL-reset: our fold against a writer that restarts the log at the same moment.

SQLite 3.7.0 to 3.51.2 loses acknowledged rows there (sqlite.org/wal.html#walresetbug). Tried are
the SQLite that ships, the way round it on the interpreter's own, and both beside each other.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from modelstore.database.sqlite import has_wal_reset_bug
from tests.cli.program import ROOT, environment
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.looks import in_memory
from tests.torture.race import database
from tests.waiting import PATIENCE


@dataclass(frozen=True, slots=True)
class Pair:
    """Who folds and who writes, each on which SQLite."""

    name: str
    folder: str
    folder_sqlite: str
    writer: str
    writer_sqlite: str
    is_ours: bool = True  # a loss is our fault


PAIRS = (
    Pair("shipped", "fold_ours", "shipped", "write_plain", "shipped"),
    Pair("fallback", "fold_ours", "own", "write_plain", "own"),
    Pair("our fold, own writer", "fold_ours", "shipped", "write_plain", "own"),
    Pair("our fallback, shipped writer", "fold_ours", "own", "write_plain", "shipped"),
    Pair("our writer, own checkpointer", "fold_passive", "own", "write_ours", "shipped", False),
)
BY_HAND = Pair("by hand", "fold_by_hand", "shipped", "write_plain", "shipped")
NAIVE = Pair("naive", "fold_passive", "own", "write_plain", "own")


def slow_munmap(directory: Path) -> dict[str, str]:
    """Return the environment that widens the window; {} where there is no compiler."""
    compiler = shutil.which("cc")
    library = directory / "slow_munmap.so"
    source = Path(__file__).with_name("slow_munmap.c")
    if compiler is None:
        return {}
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}


def _start(side: str, which: str, path: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.race", side, which, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(env),
    )


def race(
    pair: Pair, template: Path, directory: Path, seconds: float, env: dict[str, str]
) -> tuple[Counter[str], str]:
    """Let a pair race; return what they did, and what was lost."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    path = directory / "raced.db"
    shutil.copyfile(template, path)
    folder = _start(pair.folder, pair.folder_sqlite, path, env)
    writer = _start(pair.writer, pair.writer_sqlite, path, {})
    sides = (folder, writer)
    ready = [side.stdout.readline() for side in sides if side.stdout is not None]
    if ready == ['"ready"\n'] * 2:
        time.sleep(seconds)
    outputs = [side.communicate(input="\n", timeout=PATIENCE) for side in (writer, folder)]
    try:
        wrote, folded = (json.loads(output.splitlines()[-1]) for output, _ in outputs)
    except (ValueError, IndexError):
        return Counter(), " ".join(error.strip()[-300:] for _, error in outputs)
    counts = Counter(races=folded["races"], folds=folded["folds"], rows=wrote["acknowledged"])
    connection = sqlite3.connect(path)
    try:
        (kept,) = connection.execute("SELECT count(*) FROM acknowledged").fetchone()
        (sound,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        return counts, str(error)
    finally:
        connection.close()
    lost = wrote["acknowledged"] - kept
    if lost or sound != "ok":
        return counts, f"{lost} of {wrote['acknowledged']} acknowledged rows lost; {sound}"
    return counts, ""


def attack(plan: Plan, *, pairs: tuple[Pair, ...] = PAIRS, seconds: float | None = None) -> Result:
    """Race each pair in turn."""
    if sys.platform != "linux":
        return Result(0, skipped="needs Linux")
    failures = []
    figures: Counter[str] = Counter()
    cases = 0
    last = seconds or (0.6 if plan.quick else 2.0)  # a beginning is where some bugs are
    with in_memory("modelstore-race-") as name:
        template = Path(name) / "template.db"
        database(str(template), 700)
        slow = slow_munmap(Path(name))
        for number, _ in plan.cases():
            pair = pairs[number % len(pairs)]
            # Some pairs lose rows in a wide window only, and some in a narrow one only.
            window = {} if number // len(pairs) % 2 else slow
            counts, fault = race(pair, template, Path(name) / "case", last, window)
            cases += 1
            figures[f"races, {pair.name}"] += counts["races"]
            figures["rows"] += counts["rows"]
            if fault and pair.is_ours:
                failures.append(Failure(number, f"{pair.name}: {fault}"))
            elif fault:
                figures[f"lost by the other's SQLite, {pair.name}"] += 1
            plan.report(f"{number + 1} of {plan.count}")
    return Result(cases, tuple(failures), figures)


def _until_lost(pair: Pair, seed: int) -> Result:
    """Let a wrong pair race until rows are lost: often at once, but when is up to the machine."""
    for _ in range(6):
        result = attack(Plan(seed, 2), pairs=(pair,), seconds=1.0)
        if result.failures or result.skipped is not None:
            return result
    return Result(12)


def _naive(seed: int) -> Result:
    """Checkpoint as most programs do, on an SQLite that loses rows then: in a third of races."""
    if not has_wal_reset_bug(sqlite3.sqlite_version):
        return Result(0, skipped="needs an SQLite with the WAL-reset bug")
    return _until_lost(NAIVE, seed)


ATTACK = SimpleAttack(
    name="walreset",
    summary="our fold against a writer that restarts the log at that moment, on two SQLites",
    quick=3,
    full=40 * len(PAIRS),
    attack=attack,
    twins=(
        Twin(
            "cuts the log by hand",
            lambda seed: _until_lost(BY_HAND, seed),
        ),
        Twin("a passive checkpoint on an affected SQLite", _naive),
    ),
)
