"""Kill: the program dies at a random moment while it writes, or at one of its system calls.

What was acknowledged before is whole, and so is the database; a file that was being imported is
there wholly or not at all, in every table; and the next import goes on as if nothing had happened.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from tests.torture import loads, shim
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.bench import BASES, Bench, BrokenError, require, require_all, require_alone
from tests.torture.client import Outcome
from tests.torture.loads import Load
from tests.torture.oracle import copy, examine
from tests.torture.shim import Action, Counted, Op, Trap

_CALLS = shim.CHANGES | {Op.OPEN, Op.LOCK, Op.MMAP}
_KINDS = {
    "stdin": 15,
    "jsonl": 15,
    "json": 10,
    "csv": 10,
    "gguf": 15,
    "preset": 10,
    "directory": 10,
    "catalogue": 10,
    "large": 4,
    "batches": 1,
}
"""What is imported, and how often of a hundred times."""


@dataclass(slots=True)
class _Tally:
    bench: Bench
    killed: int = 0
    on_calls: int = 0
    in_time: int = 0  # runs that ended before the kill
    spans: dict[str, tuple[Counted, Counted]] = field(default_factory=dict)


def attack(plan: Plan, program: str = "modelstore") -> Result:
    """Run the cases against a program: modelstore, or a broken twin of it."""
    reason = shim.why_not()
    if reason is not None:
        return Result(0, skipped=reason)
    failures: list[Failure] = []
    cases = 0
    with ExitStack() as stack:
        tally = _Tally(stack.enter_context(Bench.opened(program)))
        try:
            tally.bench.build_bases()
        except BrokenError as broken:
            return Result(1, (Failure(0, f"before any kill: {broken}"),))
        for number, rng in plan.cases():
            cases += 1
            try:
                _case(tally, rng, simple=program != "modelstore")
            except BrokenError as broken:
                failures.append(Failure(number, str(broken)))
    figures = {
        "killed": tally.killed,
        "on system calls": tally.on_calls,
        "done before the kill": tally.in_time,
    }
    return Result(cases, tuple(failures), figures)


def _case(tally: _Tally, rng: random.Random, *, simple: bool) -> None:
    bench = tally.bench
    base = rng.choice(BASES[:3] if simple else BASES)
    kind = "twin" if simple else rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    load = _make(bench, kind, rng)
    spans = _measure(tally, base, kind, load)
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
        tally.killed += done.was_killed
        tally.on_calls += done.was_killed and trap.action is not Action.TIMER
        tally.in_time += not done.was_killed
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


def _make(bench: Bench, kind: str, rng: random.Random) -> Load:
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
    elif kind == "twin":
        load = loads.jsonl(place / "load.jsonl", "New", 400)
        load = replace(load, names=load.names | {f"roots:{load.arguments[1]}"})
    else:
        load = loads.MAKERS[kind](place, rng)
    bench.loads[name] = load
    return load


def _measure(tally: _Tally, base: str, kind: str, load: Load) -> tuple[Counted, Counted]:
    """Let it run through once: what it changes and how long that takes, and all of its calls."""
    name = f"{base} {load.arguments}"
    if name not in tally.spans:
        counted = []
        for ops in (shim.CHANGES, _CALLS):
            tally.bench.base(base)
            done = tally.bench.run(load, Trap(ops=ops))
            require(done.code == 0, f"{kind} on {base}, not killed: {done}")
            counted.append(tally.bench.control.read())
        tally.spans[name] = (counted[0], counted[1])
    return tally.spans[name]


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


def _after(bench: Bench, what: str, done: Outcome, load: Load, known: list[Load]) -> None:
    """Check what the kill left, and whether what was said before it was true."""
    require(done.was_killed or done.code in {0, 4}, f"{what}: it ended otherwise: {done}")
    found = require_all(bench.database, what, *known)
    require(not load.is_torn(found.names), f"{what}: the load is there in part")
    if not done.was_killed:
        require(load.is_whole(found.names), f"{what}: exit {done.code}, but rows are missing")
        known.append(load)
    if done.code == 0:
        require_alone(bench.database, what, *known)


def _go_on(bench: Bench, what: str, load: Load, known: list[Load], company: str) -> None:
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
        found = require_all(bench.database, f"{what}, exit 4", *known)
    require(not load.is_torn(found.names), f"{what}: of the load, a part came back or vanished")
    if company == "none":
        # With somebody attached, a transaction that died between its last frame and its mark in
        # the wal-index is overwritten by the next one: it was never acknowledged.
        after = found.names & load.names
        require(before == after, f"{what}: {len(before)} of the load before, {len(after)} after")


_TWIN_TURNS = 10


def _twin(program: str, *because: str) -> Twin:
    def run(seed: int) -> Result:
        """Attack until it is caught: when a kill arrives depends on how busy the machine is."""
        for turn in range(_TWIN_TURNS):
            result = attack(Plan(seed=seed + turn, count=20, quick=True), program).of(*because)
            if result.failures or result.skipped is not None:
                break
        return result

    return Twin(program, run)


ATTACK = SimpleAttack(
    name="kill",
    summary="SIGKILL at a random moment of an import's write window, or at a system call of it",
    quick=15,
    full=3_200,  # of which more than 2,500 are killed: the others are done before
    attack=attack,
    twins=(
        _twin("row-by-row", "is there in part"),
        _twin("root-later", "is there in part"),
        _twin("no-journal", "is there in part", "integrity_check", "cannot be read"),
        _twin("says-so-first", "not in the main file alone"),
        _twin("never-checkpoints", "not in the main file alone"),
    ),
)
