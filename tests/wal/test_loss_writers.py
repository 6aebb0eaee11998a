"""Loss beside writers: killed in the middle, and alive all the time."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore.wal.loss import analyse_loss
from modelstore.wal.loss_report import LossReport
from modelstore.wal.main_file import MainState
from tests.waiting import wait_until
from tests.wal.loss_oracle import check, contents, copy_files

if TYPE_CHECKING:
    from collections.abc import Iterator

# Every commit adds three rows to one table and one to another, and changes one of a third, so
# that the number of commits that the main file lacks tells every figure of the report. The
# interpreter's own SQLite may have the WAL-reset bug, which would corrupt what is tested here.
WRITER = """
import random, sys, time
try:
    from pysqlite3 import dbapi2 as sqlite3
except ImportError:
    import sqlite3
path, name, fold = sys.argv[1:]
conn = sqlite3.connect(path, isolation_level=None, timeout=60)
conn.execute("PRAGMA wal_autocheckpoint = 0")
conn.execute("PRAGMA synchronous = OFF")
conn.execute("PRAGMA cache_size = 5")
pick = random.Random(name)
print("ready", flush=True)
number = 0
while True:
    number += 1
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("UPDATE counter SET n = n + 1")
    for _ in range(3):
        size = pick.choice([10, 200, 6000])
        conn.execute("INSERT INTO rows(data) VALUES (randomblob(?))", (size,))
    conn.execute("INSERT INTO keyed VALUES (?, randomblob(40))", (f"{name} {number}",))
    conn.execute("COMMIT")
    print(flush=True)
    time.sleep(0.002)
    if fold == "yes" and number % 25 == 0:
        mode = pick.choice(["PASSIVE", "PASSIVE", "TRUNCATE"])
        conn.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
"""
SETUP = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
conn.executescript('''
    PRAGMA page_size = 1024; PRAGMA journal_mode = WAL;
    CREATE TABLE rows(id INTEGER PRIMARY KEY, data);
    CREATE TABLE keyed(key TEXT PRIMARY KEY, data) WITHOUT ROWID;
    CREATE TABLE counter(n); INSERT INTO counter VALUES (0)
''')
conn.close()
"""


@contextlib.contextmanager
def writers(path: str, *names: str, fold: bool = True) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, name, "yes" if fold else "no"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def expect_figures(report: LossReport) -> None:
    """Assert the loss that follows from the number of commits missing in the main file."""
    assert report.live_problem is None
    assert report.unattributed == 0
    if report.main.state is not MainState.CONSISTENT:
        return
    assert report.main.commit is not None
    lacking = report.scan.commit_count - report.main.commit
    losses = {
        table.name: (table.lost.count, table.reverted.count, table.returning.count)
        for table in report.tables
    }
    expected = {"rows": (3 * lacking, 0, 0), "keyed": (lacking, 0, 0), "counter": (0, 1, 0)}
    assert losses == (expected if lacking else {})
    assert report.main.readable
    assert report.is_exact


def test_two_live_writers(tmp_path: Path) -> None:
    path = str(tmp_path / "models.db")
    subprocess.run([sys.executable, "-c", SETUP, path], check=True)
    seen: Counter[str] = Counter()
    salts: set[tuple[int, int]] = set()  # another one each time that the log begins anew
    with writers(path, "one", "other") as processes:

        def look() -> bool:
            report = analyse_loss(path)
            if report.scan.header is not None:
                salts.add(report.scan.header.salt)
            seen["raced" if report.raced else report.main.state.value] += 1
            if not report.raced:
                expect_figures(report)
            return seen["consistent"] >= 10 and len(salts) > 1

        wait_until(look, *processes)
    assert not seen["torn"] + seen["foreign"] + seen["absent"], seen


def test_writers_killed_at_any_moment(tmp_path: Path) -> None:
    path = str(tmp_path / "models.db")
    subprocess.run([sys.executable, "-c", SETUP, path], check=True)
    pick = random.Random(1)
    for turn in range(12):
        with writers(path, f"turn {turn}", fold=turn % 3 > 0) as (writer,):
            assert writer.stdout is not None
            for _ in range(pick.randrange(30)):
                assert writer.stdout.readline() == "\n"  # a commit
        copy = copy_files(path, str(tmp_path / f"copy{turn}"), shm=turn % 2 > 0)
        live = copy_files(path, str(tmp_path / f"live{turn}"))
        report = analyse_loss(copy, limit=1_000_000)
        check(report, contents(live, "mode=ro"), contents(copy, "immutable=1"))
        expect_figures(report)
