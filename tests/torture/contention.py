"""Contention: importers, long readers, checkpointers and other programs' writers, all at once.

Every import that exited 0 must be whole in the main file alone, every one that exited 4 in
database and log, and of one that exited 7 there must be nothing. Now and then everybody is stopped
where they are, and another SQLite looks at copies. Who is called busy must be one of the crowd.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from tests.waiting import PATIENCE

_ROUND = 20.0  # seconds; with its beginning, its end and its looks, a round takes some 25
_ROWS = 20  # models of one import
COMMAND: tuple[str, ...] = ("-m", "modelstore")

_READER = """
import random, select, sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
rng = random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    conn.execute("BEGIN")
    conn.execute("SELECT count(*) FROM models").fetchone()
    if select.select([sys.stdin], [], [], rng.uniform(0.2, 1.5))[0]:
        break  # whoever started this is gone
    conn.execute("COMMIT")
"""

_NODE = """
const { DatabaseSync } = require("node:sqlite");
const db = new DatabaseSync(process.argv[1]);
db.exec("PRAGMA busy_timeout = 60000; CREATE TABLE IF NOT EXISTS app_node (n INTEGER PRIMARY KEY)");
const row = db.prepare("INSERT INTO app_node VALUES (?)");
const lines = require("node:readline").createInterface({ input: process.stdin });
lines.on("line", (line) => { row.run(Number(line)); console.log(line); });
"""


@dataclass(frozen=True, slots=True)
class Application:
    """A program of others that writes: it commits a row for each line, then says its number."""

    name: str
    table: str
    arguments: tuple[str, ...]  # the database's path comes last
    begin: str
    line: str  # with {n}
    probe: tuple[str, ...]  # succeeds where the program is here

    @property
    def is_here(self) -> bool:
        if shutil.which(self.probe[0]) is None:
            return False
        return subprocess.run(self.probe, capture_output=True, check=False).returncode == 0


SHELL = Application(
    "the sqlite3 shell",
    "app_shell",
    ("sqlite3", "-batch"),
    ".timeout 60000\nCREATE TABLE IF NOT EXISTS app_shell (n INTEGER PRIMARY KEY);\n",
    "INSERT INTO app_shell VALUES ({n}); SELECT n FROM app_shell WHERE n = {n};\n",
    ("sqlite3", "-version"),
)
NODE = Application(
    "node:sqlite",
    "app_node",
    ("node", "-e", _NODE),
    "",
    "{n}\n",
    ("node", "-e", "require('node:sqlite')"),
)
APPLICATIONS = (SHELL, NODE)


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
    written: Counter[str] = field(default_factory=Counter)  # rows by table, told to be committed
    faults: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    listed: list[float] = field(default_factory=list)  # seconds
    listed_alone: list[float] = field(default_factory=list)  # where nobody else is, meanwhile

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
        out, err = process.communicate(stdin, timeout=PATIENCE)
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
    """List in the crowd and, in turn, where nobody else is: the same machine, as busy."""
    quiet = crowd.path.with_name("quiet.db")
    while not crowd.ending.is_set():
        for path, seconds in ((crowd.path, crowd.listed), (quiet, crowd.listed_alone)):
            began = time.monotonic()
            code, out, said = crowd.run("list", "--count", "--db", str(path))
            seconds.append(time.monotonic() - began)
            if code != 0 or not out.strip().isdigit():
                crowd.faults.append(f"list: exit {code}, {out[:100]!r}: {said[-200:]!r}")
        time.sleep(0.2)


def _write(crowd: Crowd, number: int) -> None:
    """Be another program, with the checkpoints that its SQLite makes by itself."""
    program = APPLICATIONS[number]
    if not program.is_here:
        crowd.figures[f"absent here: {program.name}"] = 1
        return
    process = crowd.start([*program.arguments, str(crowd.path)])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(program.begin.encode())
    while not crowd.ending.is_set():
        row = crowd.written[program.table]
        process.stdin.write(program.line.format(n=row).encode())
        process.stdin.flush()
        if process.stdout.readline().strip() != b"%d" % row:
            crowd.faults.append(f"{program.name} could not write row {row}")
            return
        crowd.written[program.table] += 1
        crowd.figures[f"rows of {program.name}"] += 1
        time.sleep(0.005)
    process.stdin.close()
    process.wait(PATIENCE)


@contextmanager
def _stopped(crowd: Crowd) -> Iterator[None]:
    """Stop everybody where they are."""
    with crowd.gate:
        living = [process for process in crowd.running.values() if process.poll() is None]
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGSTOP)
        for process in living:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
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
        written = Counter(crowd.written)
        for suffix in ("", "-wal"):
            if Path(f"{crowd.path}{suffix}").exists():
                shutil.copyfile(f"{crowd.path}{suffix}", scratch / f"kept.db{suffix}")
            elif suffix:
                (scratch / "kept.db-wal").unlink(missing_ok=True)
    crowd.figures["looks"] += 1
    both = look(scratch / "kept.db", scratch / "both")
    alone = look(scratch / "kept.db", scratch / "alone", log=False)
    _judge(crowd, both, safe | pending, "database and log")
    _judge_written(crowd, both, written)
    if alone.sound:
        _judge(crowd, alone, safe, "the main file alone")
    else:
        crowd.figures["looks amid a checkpoint"] += 1


def _judge_written(crowd: Crowd, found: Look, written: Counter[str]) -> None:
    for table, rows in written.items():
        if (found.count(table) or 0) < rows:
            crowd.faults.append(f"{table}: {rows} rows were acknowledged, {found.count(table)} are")


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
    """Let a crowd work on a database for a while, or to its first fault; judge what is left."""
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
    while time.monotonic() < deadline and not crowd.faults:
        time.sleep(min(rng.uniform(0.3, 1.5), max(0.0, deadline - time.monotonic())))
        _look(crowd, scratch)
    crowd.ending.set()
    for thread in threads:
        thread.join(PATIENCE)
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
    _judge_written(crowd, both, crowd.written)


FULL_HOUSE = {"importers": 8, "readers": 4, "checkpointers": 2, "writers": 2, "listers": 1}
FOUR_AND_THREE = {"importers": 4, "readers": 3, "listers": 1}
QUICK_HOUSE = {"importers": 2, "readers": 2, "checkpointers": 1, "writers": 1}


def attack(
    plan: Plan,
    *,
    command: tuple[str, ...] = COMMAND,
    who: dict[str, int] | None = None,
    seconds: float | None = None,
) -> Result:
    """Bring crowds to fresh databases: the full house, then four importers and three readers."""
    if sys.platform != "linux":
        return Result(0, skipped="needs Linux")
    failures: list[Failure] = []
    figures: Counter[str] = Counter()
    listed: list[float] = []
    alone: list[float] = []
    cases = 0
    for number, rng in plan.cases():
        house = who or (QUICK_HOUSE if plan.quick else (FULL_HOUSE, FOUR_AND_THREE)[number % 2])
        with tempfile.TemporaryDirectory(prefix="modelstore-crowd-") as name:
            scratch = Path(name)
            path = scratch / "crowded.db"
            for begun in (path, scratch / "quiet.db"):
                assert modelstore("import", "-", "--db", begun, stdin=records(1, "a")).code == 0
            crowd = crowd_at(
                path,
                rng.randrange(1 << 30),
                seconds or (3.0 if plan.quick else _ROUND),
                scratch,
                who=house,
                command=command,
            )
        cases += 1
        failures += [Failure(number, fault) for fault in dict.fromkeys(crowd.faults)]
        figures.update(crowd.figures)
        if house is FOUR_AND_THREE:
            listed += crowd.listed
            alone += crowd.listed_alone
            figures["four and three: imports"] += crowd.figures["imports"]
            figures["four and three: exit 0"] += crowd.figures["imports, exit 0"]
        plan.report(f"{cases} of {plan.count}")
    if listed and alone:
        told = _told_of_lists(listed, alone, figures)
        failures += [Failure(cases - 1, fault) for fault in told]
    return Result(cases, tuple(failures), figures)


def _told_of_lists(listed: list[float], alone: list[float], figures: Counter[str]) -> list[str]:
    """Note how long lists took, and return what was promised and did not hold.

    A list answers within a second. On a machine that is too busy for that, it takes no longer
    than twice (at worst: three times) what one takes of a database that nobody else uses.
    """
    faults = []
    for name, measure, times in (("in the middle", statistics.median, 2), ("at most", max, 3)):
        took, took_alone = measure(listed), measure(alone)
        figures[f"four and three: list, ms {name}"] = round(1000 * took)
        figures[f"list of a database of its own, ms {name}"] = round(1000 * took_alone)
        if took > max(1.0, times * took_alone):
            faults.append(f"list took {took:.2f} s {name}, and {took_alone:.2f} s by itself")
    figures["lists timed"] = len(listed)
    done, imports = figures["four and three: exit 0"], figures["four and three: imports"]
    if done < 0.95 * imports:
        faults.append(f"{done} of {imports} imports beside three long readers exited 0")
    return faults


def _twin(name: str, who: dict[str, int]) -> Twin:
    command = ("-m", "tests.torture.broken_contention", name)
    return Twin(
        name.replace("_", " "),
        lambda seed: attack(Plan(seed, 1, quick=True), command=command, who=who, seconds=PATIENCE),
    )


ATTACK = SimpleAttack(
    name="contention",
    summary="importers, readers, checkpointers, the sqlite3 shell and node at once; 8 minutes",
    quick=1,
    full=18,
    attack=attack,
    twins=(
        _twin("never_folds", {"importers": 2, "readers": 1}),
        _twin("swallows_locked", {"importers": 4, "readers": 1}),
    ),
)
