"""Looks beside two writers that checkpoint by themselves: what is read in a race is no damage.

``python -m tests.truth --races LOOKS``: the library looks in this process, and at every hundredth
look the program looks too. A raced look says that it knows nothing: no alarm, but it is counted.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modelstore.render.statements import statements
from modelstore.wal.inspection import inspect_log
from modelstore.wal.loss_report import LossReport
from modelstore.wal.main_file import MainState
from tests.cli.program import ROOT
from tests.truth.life import Child, scratch
from tests.truth.program import Ran, run

_SIZE = 200 << 20  # bytes of the database before the first look

_WRITER = """
import random, sys
import apsw
conn = apsw.Connection(sys.argv[1])
conn.set_busy_timeout(20000)
chance = random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    size = chance.randint(0, 3000)
    key = chance.randrange(60000)
    if chance.random() < 0.7:
        conn.execute("INSERT INTO a VALUES (NULL, ?, ?)", (key, "y" * size))
    else:
        conn.execute("UPDATE a SET text = ? WHERE id = ?", ("z" * size, key))
    if chance.random() < 0.01:
        conn.execute("DELETE FROM a WHERE key = ?", (key,))
"""

_SETUP = """
import sys
import apsw
conn = apsw.Connection(sys.argv[1])
for sql in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF",
            "CREATE TABLE a(id INTEGER PRIMARY KEY, key, text)", "CREATE INDEX i ON a(key)"):
    list(conn.execute(sql))
rows = int(sys.argv[2]) // 3600
list(conn.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) "
                  "INSERT INTO a SELECT i, i * 7919 % 60000, printf('%03400d', i) FROM n", (rows,)))
"""


def main(looks: int, size: int = _SIZE) -> int:
    """Look that often; 1 if a look called it damage."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    wrong = list(race(looks, size, counts))
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    print(f"{looks:,} looks in {time.monotonic() - began:.0f} s: {len(wrong)} false alarms; {told}")
    for complaint in wrong[:20]:
        print(f"  {complaint}")
    return int(bool(wrong))


def race(looks: int, size: int, counts: Counter[str]) -> Iterator[str]:
    """Look beside two writers, and yield a complaint for each look that calls it damage."""
    with scratch() as place, ExitStack() as stack:
        path = str(place / "app.db")
        subprocess.run([sys.executable, "-c", _SETUP, path, str(size)], cwd=ROOT, check=True)
        writers = [stack.enter_context(_writer(path, seed)) for seed in range(2)]
        program = stack.enter_context(Child("tests.truth.program"))
        for number in range(looks):
            yield from _look(program, path, number, counts)
            dead = [writer.args for writer in writers if writer.poll() is not None]
            if dead:
                yield f"look {number}: a writer ended"
                return
        counts["bytes of the database"] = Path(path).stat().st_size


@contextmanager
def _writer(path: str, seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _WRITER, path, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def _look(program: Child, path: str, number: int, counts: Counter[str]) -> Iterator[str]:
    """Look with the library; now and then inspect and verify with the program."""
    found = inspect_log(path)
    loss = found.loss
    counts["raced"] += loss.raced
    counts["inexact"] += not loss.raced and not loss.is_exact
    counts["attempts"] += loss.attempts
    counts[f"main file {loss.main.state.value}"] += not loss.raced
    if found.is_damaged or found.main_problem is not None or (not loss.raced and _is_wrong(loss)):
        yield f"look {number}: {[said.text for said in statements(found)]}"
    if number % 100:
        return
    counts["programs run"] += 2
    ran = run(program, "inspect-wal", "--no-checkpoint", "--json", path)
    if ran.code != 0 or ran.json.get("damaged"):
        yield f"look {number}: inspect-wal exits {ran.code}: {_why(ran)}"
    checks = ("--only", "log", "--only", "file", "--skip", "environment")
    ran = run(program, "verify", *checks, "--no-checkpoint", "--json", path)
    for finding in ran.json.get("findings", [{"result": "fail", "code": ran.first_line}]):
        if finding["result"] == "fail" and finding["code"] != "log.pending":
            yield f"look {number}: verify: {finding}"


def _is_wrong(loss: LossReport) -> bool:
    """Tell if a look that was not raced shows what no state of these writers has.

    While a checkpoint is under way, the main file alone may well be unreadable.
    """
    is_unreadable = not loss.main.readable and loss.main.state is not MainState.MIXED
    return loss.main.state is MainState.TORN or loss.unattributed > 0 or is_unreadable


def _why(ran: Ran) -> str:
    return str(ran.json.get("state") or ran.first_line)[:300]
