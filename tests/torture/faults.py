"""Faults: each system call on the database's files fails in turn, once or from there on.

Each time: one clear sentence, a documented exit code that is right, a sound database, and success
only where the data would outlive even a power cut. A failed sync counts as data lost, for the
kernel forgets the pages that it could not write.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.torture import shim, surroundings
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.bench import Bench, BrokenError, require
from tests.torture.scenes import Scene, go_on, judge, judge_on_disk, scenes
from tests.torture.shim import Action, Kind, Log, Op, Trap

_ERRORS: dict[Op, tuple[int, ...]] = {
    Op.OPEN: (errno.EACCES, errno.EIO, errno.EMFILE),
    Op.READ: (errno.EIO, 0),
    Op.WRITE: (errno.EIO, errno.ENOSPC, errno.EDQUOT, 0),
    Op.SYNC: (errno.EIO, errno.ENOSPC),
    Op.TRUNCATE: (errno.EIO,),
    Op.MMAP: (errno.ENOMEM,),
    Op.UNLINK: (errno.EACCES,),
    Op.LOCK: (errno.ENOLCK, errno.EIO),
}
"""What each call fails with; 0 is a call that does half of its work."""

_IN_TURN = {Op.LOCK: 12}
"""Calls that there are very many of: so many of them, spread evenly, fail in turn."""


@dataclass(frozen=True, slots=True)
class _Fault:
    scene: Scene
    op: Op
    kind: Kind
    nth: int
    error: int
    persist: bool

    def __str__(self) -> str:
        error = errno.errorcode.get(self.error, "half of it")
        lasting = " and all that follow" if self.persist else ""
        return f"{self.op.name} {self.kind.name} number {self.nth}{lasting}: {error}"

    @property
    def trap(self) -> Trap:
        return Trap(
            ops=frozenset((self.op,)),
            kinds=frozenset((self.kind,)),
            nth=self.nth,
            action=Action.FAIL if self.error else Action.SHORT,
            error=self.error,
            persist=self.persist,
            hurry=True,
        )


def attack(plan: Plan, program: str = "modelstore", ops: Collection[Op] = frozenset(Op)) -> Result:
    """Let each call of `ops` fail; take away space, rights, descriptors, the files themselves."""
    reason = shim.why_not()
    if reason is not None:
        return Result(0, skipped=reason)
    failures: list[Failure] = []
    figures: dict[str, int] = {}
    cases = 0
    simple = program != "modelstore"
    with Bench.opened(program) as bench:
        bench.build_bases()
        every = [fault for fault in _faults(bench, simple=simple) if fault.op in ops]
        special = [] if simple else [*surroundings.cases(bench)]
        random.Random(plan.seed).shuffle(every)
        random.Random(plan.seed).shuffle(special)
        mixed = _mixed(every, special)
        for number, _ in plan.cases():
            if number >= len(mixed):
                break
            cases += 1
            case = mixed[number]
            try:
                if isinstance(case, _Fault):
                    code = _fail(bench, case)
                    name = f"{case.op.name.lower()} faults"
                else:
                    code = case.run(bench)
                    name = case.name
            except BrokenError as broken:
                failures.append(Failure(number, str(broken)))
                continue
            figures[name] = figures.get(name, 0) + 1
            plan.report(f"{case}: {code}")
    return Result(cases, tuple(failures), dict(sorted(figures.items())))


def _mixed(
    every: list[_Fault], special: list[surroundings.Case]
) -> list[_Fault | surroundings.Case]:
    """Put the two lists together so that any part of the whole holds some of both."""
    result: list[_Fault | surroundings.Case] = []
    step = max(1, len(every) // (len(special) + 1))
    rest = iter(special)
    for number, fault in enumerate(every):
        if number % step == 0:
            result.extend([case] if (case := next(rest, None)) is not None else [])
        result.append(fault)
    return [*result, *rest]


def _faults(bench: Bench, *, simple: bool) -> Iterator[_Fault]:
    """Count the calls of each scene, and yield a fault for every one."""
    for scene in scenes(bench, simple=simple):
        with _company(bench, scene):
            done = bench.run(scene.load, Trap(ops=frozenset(Op)))
        expected = {0, 4} if scene.company == "reader" else {0}
        require(done.code in expected, f"{scene.name} without a fault: {done}")
        for (op, kind), count in sorted(bench.control.read().counts.items()):
            for error in _ERRORS.get(op, ()):
                step = max(1, count // _IN_TURN.get(op, count))
                for nth in range(1, count + 1, step):
                    for persist in _lasting(op, error):
                        yield _Fault(scene, op, kind, nth, error, persist)


def _lasting(op: Op, error: int) -> tuple[bool, ...]:
    """Return whether a fault comes once, or with all calls that follow, or first the one."""
    if error == errno.EDQUOT:
        return (True,)  # of itself, a quota does not grow
    if not error and op is Op.READ:
        return (False,)  # a file that ends halfway, wherever it is read, is no fault of reading
    return (False, True)


@contextmanager
def _company(bench: Bench, scene: Scene) -> Iterator[None]:
    """Put the base of a scene in place, and a reader beside it where the scene has one."""
    bench.base(scene.base)
    if scene.company != "reader":
        yield
        return
    bench.companion.tell("open", bench.database)
    bench.companion.tell("begin")
    try:
        yield
    finally:
        bench.companion.tell("end")
        bench.companion.tell("close")


def _fail(bench: Bench, fault: _Fault) -> int:
    scene = fault.scene
    log = Log(bench.place / "log")
    with _company(bench, scene):
        before = bench.inodes
        done = bench.run(scene.load, fault.trap, log=log)
        judge(bench, scene, done, str(fault))
        judge_on_disk(bench, scene, done, str(fault), log, before)
    go_on(bench, scene, str(fault))
    return done.code


def _twin(program: str, because: str, *ops: Op) -> Twin:
    def run(seed: int) -> Result:
        return attack(Plan(seed=seed, count=10, quick=True), program, ops).of(because)

    return Twin(program, run)


ATTACK = SimpleAttack(
    name="faults",
    summary="system calls fail; space, rights, descriptors, files and the clock change",
    quick=25,
    full=20_000,  # more than there are: each once
    attack=attack,
    twins=(
        _twin("swallows-errors", "rows are missing", Op.WRITE),
        _twin("prints-tracebacks", "Traceback", Op.OPEN),
        _twin("one-sentence-for-all", "though it says that none was", Op.SYNC, Op.TRUNCATE),
        _twin("trusts-the-second-sync", "then a power cut", Op.SYNC),
    ),
)
