"""Contention: importers, long readers, checkpointers and another program's writer, all at once.

Every import that exited 0 must be whole in the main file alone, every one that exited 4 in
database and log, and of one that exited 7 there must be nothing. Now and then everybody is stopped
where they are, and another SQLite looks at copies. Who is called busy must be one of the crowd.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.program import ROOT, environment, modelstore, records
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.looks import Look, look

_ROWS = 20  # models of one import
_PATIENCE = 60.0
COMMAND: tuple[str, ...] = ("-m", "modelstore")

_READER = """
import random, select, sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
rng = random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    conn.execute("BEGIN")
    conn.execute("SELECT count(*) FROM models").fetchone()
    if select.select([sys.stdin], [], [], rng.uniform(0.2, 1.5))[0]:
        break  # whoever started this is gone
    conn.execute("COMMIT")
"""


@dataclass
class Crowd:
    """Everybody at one database, and what they were told."""

    path: Path
    command: tuple[str, ...]
    seed: int
    ending: threading.Event = field(default_factory=threading.Event)
    gate: threading.Lock = field(default_factory=threading.Lock)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    pids: set[int] = field(default_factory=set)
    told: dict[int, set[str]] = field(default_factory=lambda: {0: set(), 4: set(), 7: set()})
    written: int = 0  # rows that the other program's writer was told are committed
    faults: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    listed: list[float] = field(default_factory=list)  # seconds

    def start(self, arguments: Sequence[str], stderr: int | None = None) -> subprocess.Popen[bytes]:
        with self.gate:  # nobody starts while all are stopped
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env=environment(),
            )
            self.running[process.pid] = process
            self.pids.add(process.pid)
        return process

    def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Run the program to its end."""
        process = self.start([sys.executable, *self.command, *arguments], subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=_PATIENCE)
        said = err.decode("utf-8", "replace")
        if process.returncode not in {0, 4, 7} or "Traceback" in said:
            self.faults.append(f"{arguments[0]}: exit {process.returncode}: {said[-400:]!r}")
        return process.returncode, out, said


def _import(crowd: Crowd, number: int) -> None:
    """Import again and again, each time models that nobody else imports."""
    for turn in range(10_000):
        if crowd.ending.is_set():
            return
        prefix = f"c{number}-{turn}"
        data = records(_ROWS, prefix)
        code, out, _ = crowd.run("import", "-", "--json", "--db", str(crowd.path), stdin=data)
        crowd.figures["imports"] += 1
        crowd.figures[f"imports, exit {code}"] += 1
        with crowd.gate:
            crowd.told.setdefault(code, set()).add(prefix)
        if code in {0, 4}:
            _judge_summary(crowd, prefix, code, out)


def _judge_summary(crowd: Crowd, prefix: str, code: int, out: bytes) -> None:
    try:
        said = json.loads(out)
    except ValueError:
        crowd.faults.append(f"{prefix}: exit {code} without a summary: {out[:200]!r}")
        return
    if said["added"] != _ROWS or said["in_main_file"] is not (code == 0):
        crowd.faults.append(
            f"{prefix}: exit {code}, and says {said['added']}, {said['in_main_file']}"
        )
    _judge_blockers(crowd, said["checkpoint"])


def _judge_blockers(crowd: Crowd, checkpoint: dict[str, object]) -> None:
    """Hold who is named as being in the way to who is there."""
    blockers = checkpoint["blockers"]
    assert isinstance(blockers, list)
    for blocker in blockers:
        if blocker["pid"] not in crowd.pids:
            crowd.faults.append(f"a blocker that is none of the crowd: {blocker}")
        crowd.figures["blockers named"] += 1


def _checkpoint(crowd: Crowd, _number: int) -> None:
    while not crowd.ending.is_set():
        code, out, _ = crowd.run("checkpoint", "--json", "--timeout", "1s", str(crowd.path))
        crowd.figures[f"checkpoints, exit {code}"] += 1
        if code in {0, 4}:
            said = json.loads(out)
            if code == 4 and not said["left"] and not said["busy"]:
                crowd.faults.append(f"exit 4, and nothing is left or busy: {said}")
            _judge_blockers(crowd, said)


def _list(crowd: Crowd, _number: int) -> None:
    while not crowd.ending.is_set():
        began = time.monotonic()
        code, out, said = crowd.run("list", "--count", "--db", str(crowd.path))
        crowd.listed.append(time.monotonic() - began)
        if code != 0 or not out.strip().isdigit():
            crowd.faults.append(f"list: exit {code}, {out[:100]!r}: {said[-200:]!r}")
        time.sleep(0.2)


def _write(crowd: Crowd, _number: int) -> None:
    """Be another program: SQLite's own shell, with its checkpoints after 1000 pages."""
    shell = shutil.which("sqlite3")
    if shell is None:
        return
    process = crowd.start([shell, "-batch", str(crowd.path)])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(
        b".timeout 10000\nCREATE TABLE IF NOT EXISTS app (n INTEGER PRIMARY KEY);\n"
    )
    while not crowd.ending.is_set():
        number = crowd.written
        process.stdin.write(
            b"INSERT INTO app VALUES (%d); SELECT n FROM app WHERE n = %d;\n" % (number, number)
        )
        process.stdin.flush()
        if process.stdout.readline().strip() != b"%d" % number:
            crowd.faults.append(f"the shell could not write row {number}")
            return
        crowd.written += 1
        time.sleep(0.005)
    process.stdin.close()
    process.wait(_PATIENCE)


@contextmanager
def _stopped(crowd: Crowd) -> Iterator[None]:
    """Stop everybody where they are."""
    with crowd.gate:
        living = [process for process in crowd.running.values() if process.poll() is None]
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in living:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)


def _look(crowd: Crowd, scratch: Path) -> None:
    """Look at the files while nobody moves, and hold them to what everybody was told so far."""
    with _stopped(crowd):
        safe, pending = set(crowd.told[0]), set(crowd.told[4])
        written = crowd.written
        time.sleep(0.02)  # for the last of them to stop
        for suffix in ("", "-wal"):
            if Path(f"{crowd.path}{suffix}").exists():
                shutil.copyfile(f"{crowd.path}{suffix}", scratch / f"kept.db{suffix}")
            elif suffix:
                (scratch / "kept.db-wal").unlink(missing_ok=True)
    crowd.figures["looks"] += 1
    both = look(scratch / "kept.db", scratch / "both")
    alone = look(scratch / "kept.db", scratch / "alone", log=False)
    _judge(crowd, both, safe | pending, "database and log")
    if both.count("app") is not None and (both.count("app") or 0) < written:
        crowd.faults.append(f"{written} rows of the other program, {both.count('app')} are there")
    if alone.sound:
        _judge(crowd, alone, safe, "the main file alone")
    else:
        crowd.figures["looks amid a checkpoint"] += 1


def _judge(crowd: Crowd, found: Look, wanted: set[str], where: str) -> None:
    if not found.sound:
        crowd.faults.append(f"{where} is not sound: {found.problem}")
        return
    counts = Counter(str(name).rpartition("-")[0] for name in found.column("name"))
    missing = [prefix for prefix in wanted if counts[prefix] != _ROWS]
    if missing:
        crowd.faults.append(f"{where} lacks rows of imports that were told done: {missing[:3]}")


def crowd_at(
    path: Path,
    seed: int,
    seconds: float,
    scratch: Path,
    *,
    who: dict[str, int],
    command: tuple[str, ...] = COMMAND,
) -> Crowd:
    """Let a crowd work on a database for a while, then judge what is left of it."""
    crowd = Crowd(path, command, seed)
    rng = random.Random(seed)
    readers = [
        crowd.start([sys.executable, "-c", _READER, str(path), str(rng.randrange(1000))])
        for _ in range(who.get("readers", 0))
    ]
    for process in readers:
        assert process.stdout is not None
        process.stdout.readline()
    work: dict[str, Callable[[Crowd, int], None]] = {
        "importers": _import,
        "checkpointers": _checkpoint,
        "listers": _list,
        "writers": _write,
    }
    threads = [
        threading.Thread(target=_guarded, args=(crowd, work[name], number))
        for name in work
        for number in range(who.get(name, 0))
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(rng.uniform(0.3, 1.5), max(0.0, deadline - time.monotonic())))
        _look(crowd, scratch)
    crowd.ending.set()
    for thread in threads:
        thread.join(_PATIENCE)
    for process in readers:
        process.kill()
        process.communicate()
    _finish(crowd, scratch)
    return crowd


def _guarded(crowd: Crowd, work: Callable[[Crowd, int], None], number: int) -> None:
    try:
        work(crowd, number)
    except Exception as error:  # noqa: BLE001  # a thread's fault must reach the result
        crowd.faults.append(f"{work.__name__}: {error!r}")


def _finish(crowd: Crowd, scratch: Path) -> None:
    """Judge the files that the crowd left: no process has them open any more."""
    alone = look(crowd.path, scratch / "alone", log=False)
    both = look(crowd.path, scratch / "both")
    if crowd.told[0]:
        _judge(crowd, alone, crowd.told[0], "at the end, the main file alone")
    _judge(crowd, both, crowd.told[0] | crowd.told[4], "at the end, database and log")
    names = {str(name).rpartition("-")[0] for name in both.column("name")}
    if crowd.told[7] & names:
        crowd.faults.append(f"rows of an import that exited 7: {sorted(crowd.told[7] & names)[:3]}")
    if (both.count("app") or 0) < crowd.written:
        crowd.faults.append(f"the other program lost rows: {crowd.written}, {both.count('app')}")
    crowd.figures["rows of the other program"] += crowd.written


FULL_HOUSE = {"importers": 8, "readers": 4, "checkpointers": 2, "writers": 1, "listers": 1}
FOUR_AND_THREE = {"importers": 4, "readers": 3, "listers": 1}
QUICK_HOUSE = {"importers": 2, "readers": 2, "checkpointers": 1, "writers": 1}


def attack(
    plan: Plan, *, command: tuple[str, ...] = COMMAND, who: dict[str, int] | None = None
) -> Result:
    """Bring crowds to fresh databases: the full house, then four importers and three readers."""
    if sys.platform != "linux":
        return Result(0, skipped="needs Linux")
    failures: list[Failure] = []
    figures: Counter[str] = Counter()
    listed: list[float] = []
    cases = 0
    for number, rng in plan.cases():
        house = who or (QUICK_HOUSE if plan.quick else (FULL_HOUSE, FOUR_AND_THREE)[number % 2])
        with tempfile.TemporaryDirectory(prefix="modelstore-crowd-") as name:
            scratch = Path(name)
            path = scratch / "crowded.db"
            assert modelstore("import", "-", "--db", path, stdin=records(1, "first")).code == 0
            crowd = crowd_at(
                path,
                rng.randrange(1 << 30),
                3.0 if plan.quick else 20.0,
                scratch,
                who=house,
                command=command,
            )
        cases += 1
        failures += [Failure(number, fault) for fault in dict.fromkeys(crowd.faults)]
        figures.update(crowd.figures)
        if house is FOUR_AND_THREE:
            listed += crowd.listed
            done, all_of_them = crowd.figures["imports, exit 0"], crowd.figures["imports"]
            figures["four and three: imports"] += all_of_them
            figures["four and three: exit 0"] += done
            if done < 0.95 * all_of_them:
                failures.append(Failure(number, f"{done} of {all_of_them} imports exited 0"))
        plan.report(f"{cases} of {plan.count}")
    if listed:
        figures["four and three: list, ms in the middle"] = round(1000 * statistics.median(listed))
        figures["four and three: list, ms at most"] = round(1000 * max(listed))
    return Result(cases, tuple(failures), figures)


def _twin(name: str, who: dict[str, int]) -> Twin:
    command = ("-m", "tests.torture.broken_contention", name)
    return Twin(
        name.replace("_", " "),
        lambda seed: attack(Plan(seed, 1, quick=True), command=command, who=who),
    )


ATTACK = SimpleAttack(
    name="contention",
    summary="importers, long readers, checkpointers and the sqlite3 shell on one database",
    quick=1,
    full=20,
    attack=attack,
    twins=(
        _twin("never_folds", {"importers": 2, "readers": 1}),
        _twin("swallows_locked", {"importers": 4, "readers": 1}),
    ),
)
