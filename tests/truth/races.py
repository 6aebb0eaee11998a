"""Looks beside two writers that checkpoint by themselves: what is read in a race is no damage.

``python -m tests.truth --races LOOKS --jobs J``: the library looks in J processes, and now and then
the program does. A raced look says that it knows nothing: no alarm, but more than a few are a
failure too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager

from modelstore.render.statements import statements
from modelstore.wal.inspection import Inspection, inspect_log
from modelstore.wal.loss_report import LossReport
from modelstore.wal.main_file import MainState
from tests.cli.program import ROOT
from tests.truth.life import Child, scratch
from tests.truth.program import Ran, run

_SIZE = 200 << 20  # bytes of the database
_BATCH = 500  # looks of the library for one of the program
_FEW = 0.05  # of all looks may be raced
_ROW = 3_600  # bytes of a row at the start, which is most of a page

# It gives way to the looks: on two cores they would else have no time. It keeps the size.
_WRITER = """
import os, random, sys
import apsw
os.nice(5)
conn = apsw.Connection(sys.argv[1])
conn.set_busy_timeout(20000)
chance = random.Random(int(sys.argv[2]))
rows = int(sys.argv[3])
print("ready", flush=True)
parent = os.getppid()
while os.getppid() == parent:  # not beyond looks that were killed
    row, text = chance.randint(1, rows), "z" * chance.randint(0, 3000)
    kind = chance.random()
    if kind < 0.6:
        conn.execute("UPDATE a SET text = ? WHERE id = ?", (text, row))
    elif kind < 0.85:
        conn.execute("REPLACE INTO a VALUES (?, ?, ?)", (row, chance.randrange(60000), text))
    else:
        conn.execute("DELETE FROM a WHERE id = ?", (row,))
"""

_SETUP = """
import sys
import apsw
conn = apsw.Connection(sys.argv[1])
for sql in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF",
            "CREATE TABLE a(id INTEGER PRIMARY KEY, key, text)", "CREATE INDEX i ON a(key)"):
    list(conn.execute(sql))
list(conn.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) "
                  "INSERT INTO a SELECT i, i * 7919 % 60000, printf('%03400d', i) FROM n",
                  (int(sys.argv[2]),)))
"""

Looks = tuple[Counter[str], list[str], set[tuple[int, int]]]
"""What some looks counted, their complaints, and the salts of the logs that they saw."""


def main(looks: int, jobs: int = 1, size: int = _SIZE) -> int:
    """Look that often; 1 if a look called it damage, or if more than a few were raced."""
    began = time.monotonic()
    counts, wrong = race(looks, jobs, size)
    seconds = time.monotonic() - began
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    print(
        f"{looks:,} looks in {seconds:.0f} s ({looks / seconds:.0f}/s): {len(wrong)} false alarms, "
        f"{counts['raced'] / looks:.2%} raced; {told}"
    )
    for complaint in wrong[:20]:
        print(f"  {complaint}")
    return int(bool(wrong) or counts["raced"] > _FEW * looks)


def race(looks: int, jobs: int, size: int) -> tuple[Counter[str], list[str]]:
    """Look beside two writers; return what was counted, and a complaint for each false alarm."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    salts: set[tuple[int, int]] = set()
    rows = str(max(1, size // _ROW))
    with scratch() as place, ExitStack() as stack:
        path = str(place / "app.db")
        subprocess.run([sys.executable, "-c", _SETUP, path, rows], cwd=ROOT, check=True)
        writers = [stack.enter_context(_writer(path, seed, rows)) for seed in range(2)]
        pool = stack.enter_context(ProcessPoolExecutor(jobs))
        batches = range(0, looks, _BATCH)
        made = [pool.submit(look_often, path, at, min(looks, at + _BATCH)) for at in batches]
        for done in as_completed(made):
            more, complaints, seen = done.result()
            counts += more
            wrong += complaints
            salts |= seen
            if any(writer.poll() is not None for writer in writers):
                wrong.append("a writer ended")
                pool.shutdown(cancel_futures=True)
                break
        counts["MB of the database"] = os.stat(path).st_size >> 20
    counts["restarts of the log seen"] = len(salts)
    return counts, wrong


@contextmanager
def _writer(path: str, seed: int, rows: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _WRITER, path, str(seed), rows]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def look_often(path: str, first: int, end: int) -> Looks:
    """Look once with the program, then with the library."""
    counts: Counter[str] = Counter()
    salts: set[tuple[int, int]] = set()
    with Child("tests.truth.program") as program:
        wrong = [f"look {first}: {complaint}" for complaint in _look_as_program(program, path)]
    counts["programs run"] += 2
    for number in range(first, end):
        found = inspect_log(path)
        if found.scan.header is not None:
            salts.add(found.scan.header.salt)
        wrong += [f"look {number}: {complaint}" for complaint in _judge(found, counts)]
    return counts, wrong, salts


def _judge(found: Inspection, counts: Counter[str]) -> Iterator[str]:
    loss = found.loss
    counts["raced"] += loss.raced
    counts["inexact"] += not loss.raced and not loss.is_exact
    counts["attempts"] += loss.attempts
    counts[f"main file {loss.main.state.value}"] += not loss.raced
    if found.is_damaged or found.main_problem is not None or (not loss.raced and _is_wrong(loss)):
        yield str([said.text for said in statements(found)])


def _look_as_program(program: Child, path: str) -> Iterator[str]:
    """Inspect and verify with the program."""
    ran = run(program, "inspect-wal", "--no-checkpoint", "--json", path)
    if ran.code != 0 or ran.json.get("damaged"):
        yield f"inspect-wal exits {ran.code}: {_why(ran)}"
    checks = ("--only", "log", "--only", "file", "--skip", "environment")
    ran = run(program, "verify", *checks, "--no-checkpoint", "--json", path)
    for finding in ran.json.get("findings", [{"result": "fail", "code": ran.first_line}]):
        if finding["result"] == "fail" and finding["code"] != "log.pending":
            yield f"verify: {finding}"


def _is_wrong(loss: LossReport) -> bool:
    """Tell if a look that was not raced shows what no state of these writers has.

    While a checkpoint is under way, the main file alone may well be unreadable.
    """
    is_unreadable = not loss.main.readable and loss.main.state is not MainState.MIXED
    return loss.main.state is MainState.TORN or loss.unattributed > 0 or is_unreadable


def _why(ran: Ran) -> str:
    return str(ran.json.get("state") or ran.first_line)[:300]
