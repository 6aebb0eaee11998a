"""Kill: the program dies at a random moment while it writes, or at one of its system calls.

What was acknowledged before is whole, and so is the database; a data file that was being imported
is there wholly or not at all; and the next import goes on as if nothing had happened.
"""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture import loads, shim
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.client import Outcome, Server, Setting
from tests.torture.loads import Load
from tests.torture.oracle import Companion, Found, copy, examine, workplace
from tests.torture.shim import Action, Control, Counted, Op, Trap

_CALLS = shim.CHANGES | {Op.OPEN, Op.LOCK, Op.MMAP}
_KINDS = ("stdin", "jsonl", "json", "csv", "directory", "catalogue", "large", "batches")
_WEIGHTS = (20, 20, 10, 15, 15, 15, 4, 1)
_BASES = ("none", "small", "big", "pending")


class BrokenError(AssertionError):
    """The promise was broken in a case."""


@dataclass(slots=True)
class _Bench:
    """What the cases of one run share."""

    place: Path
    server: Server
    companion: Companion
    killed: int = 0
    in_time: int = 0  # runs that ended before the kill
    on_calls: int = 0
    loads: dict[str, Load] = field(default_factory=dict)
    spans: dict[str, tuple[Counted, Counted]] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.place / "here" / "models.db"

    def run(self, load: Load, trap: Trap | None = None) -> Outcome:
        """Run a load on the database, as a command line would."""
        control = Control(self.place / "control", self.database, self.server.scratch)
        if trap is not None:
            control.set(trap)
        arguments = (*load.arguments, "--db", str(self.database), "--timeout", "0.3")
        return self.server.run(arguments, Setting(stdin=load.stdin, control=control))

    def base(self, name: str) -> Load | None:
        """Put the base of a case in place; return what it acknowledged before."""
        shutil.rmtree(self.database.parent, ignore_errors=True)
        self.database.parent.mkdir()
        if name == "none":
            return None
        copy(self.place / "bases" / name / "models.db", self.database)
        return self.loads["big" if name == "big" else "small"]

    def build_bases(self) -> None:
        """Import what is acknowledged before each case, and prove that it is."""
        for name in _BASES[1:]:
            count = 1500 if name == "big" else 20
            self.base("none")
            load = loads.jsonl(self.place / f"{name}.jsonl", "Base", count)
            done = self.run(load)
            require(done.code == 0, f"the base could not be imported: {done.code} {done.err}")
            require_alone(self.database, "the base", load)
            if name == "pending":  # rows of another application, in a log that nobody folded
                self.companion.tell("open", self.database)
                self.companion.tell("commit")
            self.loads[name] = load
            kept = self.place / "bases" / name
            kept.mkdir(parents=True)
            copy(self.database, kept / "models.db", ("", "-wal"))
            if name == "pending":
                self.companion.tell("close")


def require(holds: bool, what: str) -> None:
    """Raise `BrokenError` unless it holds."""
    if not holds:
        raise BrokenError(what)


def require_alone(database: Path, what: str, *acknowledged: Load) -> Found:
    """Require that what was acknowledged is in the main file alone, and that it is sound."""
    found = examine(database, alone=True)
    require(found.trouble is None, f"{what}: the main file alone: {found.trouble}")
    for load in acknowledged:
        missing = len(load.names - found.names)
        require(not missing, f"{what}: {missing} acknowledged rows are not in the main file alone")
    return found


def attack(plan: Plan, program: str = "modelstore") -> Result:
    """Run the cases against a program: modelstore, or a broken twin of it."""
    reason = shim.why_not()
    if reason is not None:
        return Result(0, skipped=reason)
    failures: list[Failure] = []
    cases = 0
    with ExitStack() as stack:
        place = stack.enter_context(workplace(shim.workplace()))
        server = stack.enter_context(Server(place / "server", program))
        bench = _Bench(place, server, stack.enter_context(Companion()))
        try:
            bench.build_bases()
        except BrokenError as broken:
            return Result(1, (Failure(0, f"before any kill: {broken}"),))
        for number, rng in plan.cases():
            cases += 1
            try:
                _case(bench, rng, simple=program != "modelstore")
            except BrokenError as broken:
                failures.append(Failure(number, str(broken)))
        figures = {
            "killed": bench.killed,
            "on system calls": bench.on_calls,
            "done before the kill": bench.in_time,
        }
    return Result(cases, tuple(failures), figures)


def _case(bench: _Bench, rng: random.Random, *, simple: bool) -> None:
    base = rng.choice(_BASES[:3] if simple else _BASES)
    kind = "jsonl" if simple else rng.choices(_KINDS, _WEIGHTS)[0]
    load = _make(bench, kind, rng)
    spans = _measure(bench, base, kind, load)
    acknowledged = bench.base(base)
    company = "none" if simple or base == "none" else rng.choice(("none", "none", "idle", "reader"))
    if company != "none":
        bench.companion.tell("open", bench.database)
    if company == "reader":
        bench.companion.tell("begin")
    try:
        trap = _trap(rng, spans)
        what = f"{kind} on {base}, company {company}, {_describe(trap)}"
        done = bench.run(load, trap)
        bench.killed += done.was_killed
        bench.on_calls += done.was_killed and trap.action is not Action.TIMER
        bench.in_time += not done.was_killed
        known = [acknowledged] if acknowledged else []
        _after(bench, what, done, load, known)
        _go_on(bench, what, load, known, company)
    finally:
        if company == "reader":
            bench.companion.tell("end")
        if company != "none":
            bench.companion.tell("close")
    if company == "reader":
        folded = bench.run(Load(arguments=("checkpoint",)))
        require(folded.code == 0, f"{what}: checkpoint after the reader: {folded}")
        require_alone(bench.database, what, *known)


def _make(bench: _Bench, kind: str, rng: random.Random) -> Load:
    name = f"load-{kind}-{rng.choice((1, 2))}"
    if name in bench.loads:
        return bench.loads[name]
    place = bench.place / name
    place.mkdir()
    if kind == "catalogue":
        load = loads.jsonl(place / "load.jsonl", "New", rng.choice((5, 200)))
        bench.base("none")
        done = bench.run(load)
        require(done.code == 0, f"the catalogue to import was not made: {done}")
        copy(bench.database, place / "other.db", ("",))
        load = Load(arguments=("import", str(place / "other.db")), names=load.names)
    else:
        load = loads.MAKERS[kind](place, rng)
    bench.loads[name] = load
    return load


def _measure(bench: _Bench, base: str, kind: str, load: Load) -> tuple[Counted, Counted]:
    """Let it run through once: what it changes and how long that takes, and all of its calls."""
    name = f"{base} {load.arguments}"
    if name not in bench.spans:
        counted = []
        for ops in (shim.CHANGES, _CALLS):
            bench.base(base)
            done = bench.run(load, Trap(ops=ops))
            require(done.code == 0, f"{kind} on {base}, not killed: {done}")
            control = Control.__new__(Control)
            control.path = bench.place / "control"
            counted.append(control.read())
        bench.spans[name] = (counted[0], counted[1])
    return bench.spans[name]


def _trap(rng: random.Random, spans: tuple[Counted, Counted]) -> Trap:
    """Choose when to kill: a third falls on system calls, the others between and during them."""
    changes, calls = spans
    if rng.random() < 2 / 3:
        return Trap(nth=1, action=Action.TIMER, argument=1 + int(rng.random() * changes.span))
    action = rng.choice((Action.KILL_BEFORE, Action.KILL_AFTER))
    if rng.random() < 2 / 3:
        return Trap(nth=rng.randint(1, changes.seen), action=action)
    return Trap(ops=_CALLS, nth=rng.randint(1, calls.seen), action=action)


def _describe(trap: Trap) -> str:
    if trap.action is Action.TIMER:
        return f"killed {trap.argument / 1e6:.3f} ms after its first write"
    return f"{trap.action.name} call {trap.nth}"


def _after(bench: _Bench, what: str, done: Outcome, load: Load, known: list[Load]) -> None:
    """Check what the kill left, and whether what was said before it was true."""
    require(done.was_killed or done.code in {0, 4}, f"{what}: it ended otherwise: {done}")
    found = examine(bench.database)
    require(found.trouble is None, f"{what}: afterwards: {found.trouble}")
    for before in known:
        missing = len(before.names - found.names)
        require(not missing, f"{what}: {missing} rows acknowledged before are gone")
    require(not load.is_torn(found.names), f"{what}: the load is there in part")
    require(not found.torn, f"{what}: {found.torn} models without their files")
    if not done.was_killed:
        require(load.is_whole(found.names), f"{what}: exit {done.code}, but rows are missing")
        known.append(load)
    if done.code == 0:
        require_alone(bench.database, what, *known)


def _go_on(bench: _Bench, what: str, load: Load, known: list[Load], company: str) -> None:
    """Import something else: it must work, and keep the interrupted load whole or absent."""
    more = bench.loads.get("more") or loads.jsonl(bench.place / "more.jsonl", "More", 3)
    bench.loads["more"] = more
    before = examine(bench.database).names & load.names
    done = bench.run(more)
    expected = {0, 4} if company == "reader" else {0}
    require(done.code in expected, f"{what}: the next import: {done}")
    known.append(more)
    if done.code == 0:
        found = require_alone(bench.database, what, *known)
    else:
        found = examine(bench.database)
        missing = sum(len(one.names - found.names) for one in known)
        require(not missing, f"{what}: exit 4, but {missing} rows are not in database + WAL")
    after = found.names & load.names
    require(before == after, f"{what}: {len(before)} of the load before, {len(after)} after")


def _twin(program: str) -> Twin:
    return Twin(program, lambda seed: attack(Plan(seed=seed, count=25, quick=True), program))


ATTACK = SimpleAttack(
    name="kill",
    summary="SIGKILL at a random moment of an import's write window, or at a system call of it",
    quick=40,
    full=2_500,
    attack=attack,
    twins=tuple(
        _twin(name) for name in ("row-by-row", "says-so-first", "never-checkpoints", "no-journal")
    ),
)
