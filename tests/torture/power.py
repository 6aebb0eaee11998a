"""Power loss: what the disk may hold is built from a recording of every write and sync.

Each image opens, is sound, and is one of the states that the recorded run went through, not older
than the last one that was acknowledged; after exit 0, that holds of the main file alone. No image
has an import of one file in part.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture import loads, shim
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.client import Outcome, Server
from tests.torture.images import Disk, Image
from tests.torture.oracle import Found, look, workplace
from tests.torture.recording import (
    Recording,
    Servers,
    State,
    record_run,
    script,
    simple_script,
    states_of,
)
from tests.torture.shim import Kind, Op, Record

_SUFFIXES = {Kind.DB: "", Kind.WAL: "-wal", Kind.JOURNAL: "-journal", Kind.SHM: "-shm"}
_POINTS = 70  # crash points of one recording
_IMAGES = 13  # mixtures at each of them, besides all and nothing
_LOOKS = 40  # one image in so many is opened by the program as well


@dataclass(slots=True)
class _Judge:
    """Looks at images, at each different one once."""

    place: Path
    known: dict[bytes, Found] = field(default_factory=dict)

    def look(self, image: Image) -> Found:
        digest = hashlib.blake2b(digest_size=16)
        for kind, content in sorted(image.items()):
            digest.update(b"%d %d " % (kind, len(content)))
            digest.update(content)
        key = digest.digest()
        if key not in self.known:
            self.known[key] = look(self.write(image))
        return self.known[key]

    def write(self, image: Image, noise: bytes | None = None) -> Path:
        """Put an image on disk; `noise` is what the -shm, which no crash preserves, holds."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        for kind, content in image.items():
            (self.place / f"models.db{_SUFFIXES[kind]}").write_bytes(content)
        if noise is not None:
            (self.place / "models.db-shm").write_bytes(noise)
        return self.place / "models.db"


@dataclass(slots=True)
class _Bench:
    place: Path
    server: Server
    points: int = 0
    images: int = 0
    distinct: int = 0
    opened: int = 0
    blocked: int = 0  # imports that a reader kept in the log
    asked: int = 0  # images that the program drops a part of only when told to


def attack(plan: Plan, program: str = "modelstore") -> Result:
    """Record runs of a program, and cut the power at many points of each."""
    reason = shim.why_not()
    if reason is not None:
        return Result(0, skipped=reason)
    failures: list[Failure] = []
    cases = 0
    with ExitStack() as stack:
        place = stack.enter_context(workplace(shim.workplace()))
        server = stack.enter_context(Server(place / "server", program))
        other = stack.enter_context(Server(place / "application", "application"))
        bench = _Bench(place, server)
        steps = script if program == "modelstore" else simple_script
        points = 12 if plan.quick else _POINTS
        for number, rng in plan.cases():
            cases += 1
            directory = place / f"case-{number}"
            directory.mkdir()
            recording = record_run(Servers(server, other), directory, rng, steps)
            codes = [step.code for step in recording.steps if step.what.startswith("import")]
            bench.blocked += codes.count(4)
            failures += [
                Failure(number, f"while recording, import says {code}")
                for code in codes
                if code not in {0, 4}
            ]
            failures += [
                Failure(number, what) for what in _cut(bench, recording, rng, points, program)
            ]
            shutil.rmtree(directory)
    figures = {
        "crash points": bench.points,
        "images": bench.images,
        "different images": bench.distinct,
        "imports with exit 4": bench.blocked,
        "opened by the program": bench.opened,
        "dropped unsynced commits when told to": bench.asked,
    }
    return Result(cases, tuple(failures), figures)


def _cut(
    bench: _Bench, recording: Recording, rng: random.Random, count: int, program: str
) -> Iterator[str]:
    """Cut the power at every sync and at random points, and yield what is wrong."""
    judge = _Judge(bench.place / "image")
    recording.states = list(states_of(recording.records, judge))
    points = _points(recording.records, rng, count)
    disk = Disk()
    acknowledged, alone = 0, False  # the state that was, and whether the main file alone holds it
    for at, record in enumerate(recording.records, 1):
        disk.apply(record)
        if record.op is Op.NOTE:
            step = recording.steps[record.offset]
            if step.durable:
                acknowledged = _latest(recording.states, at)
                alone = step.alone
        elif record.kind is Kind.DB and record.op in {Op.WRITE, Op.TRUNCATE}:
            alone = False  # a later checkpoint: from here on it is whole with its log
        if at not in points and record.op is not Op.NOTE:
            continue
        bench.points += 1
        allowed = {
            state.digest
            for state in recording.states[acknowledged : _latest(recording.states, at) + 1]
        }
        where = f"cut after call {at} ({_told(recording, at)})"
        for image in disk.images(rng, _IMAGES):
            bench.images += 1
            yield from _wrong(judge.look(image), allowed, where)
            yield from _torn(judge.look(image), recording, where)
            if program == "modelstore" and rng.randrange(_LOOKS) == 0:
                bench.opened += 1
                there = judge.write(image, _noise(rng))
                yield from _opened(bench, there, allowed, where, is_new=not acknowledged)
        if alone:
            bench.images += 1
            main: Image = {k: raw for k, raw in disk.durable().items() if k is Kind.DB}
            yield from _wrong(judge.look(main), allowed, f"{where}, the main file alone")
    bench.distinct += len(judge.known)


def _points(records: list[Record], rng: random.Random, count: int) -> set[int]:
    """Choose where to cut: before and after each sync, and at random points between."""
    syncs = [at for at, record in enumerate(records, 1) if record.op is Op.SYNC]
    edges = sorted({point for at in syncs for point in (at - 1, at)} - {0})
    chosen = set(edges if len(edges) <= count // 2 else rng.sample(edges, count // 2))
    others = [at for at in range(1, len(records) + 1) if at not in chosen]
    return chosen | set(rng.sample(others, min(len(others), count - len(chosen))))


def _latest(states: list[State], at: int) -> int:
    return max(number for number, state in enumerate(states) if state.at <= at)


def _told(recording: Recording, at: int) -> str:
    noted = [r.offset for r in recording.records[:at] if r.op is Op.NOTE]
    step = noted[-1] if noted else None
    told = "nothing ended" if step is None else f"{recording.steps[step].what} had ended"
    return f"{recording.records[at - 1].op.name} {recording.records[at - 1].kind.name}, {told}"


def _wrong(found: Found, allowed: set[str], where: str) -> Iterator[str]:
    if found.trouble is not None:
        yield f"{where}: {found.trouble}"
    elif found.digest not in allowed:
        yield f"{where}: it is none of the states since the last acknowledgement"


def _torn(found: Found, recording: Recording, where: str) -> Iterator[str]:
    if any(load.is_torn(found.names) for load in recording.loads):
        yield f"{where}: an import of one file is there in part"


def _noise(rng: random.Random) -> bytes | None:
    return rng.choice((None, b"", bytes(32768), rng.randbytes(32768)))


def _opened(
    bench: _Bench, database: Path, allowed: set[str], where: str, *, is_new: bool
) -> Iterator[str]:
    """Go on with an image as a person would: list what is there, and import something."""
    more = bench.place / "more.jsonl"
    if not more.exists():
        loads.jsonl(more, "More", 2)

    def run(*arguments: str) -> Outcome:
        return bench.server.run([*arguments, "--db", str(database)])

    done = run("list", "--json")
    if done.code != 0 and not (is_new and done.code == 3):
        yield f"{where}: list says {done.code}: {done.err}"
    if "is not folded" in done.err:
        # Writes that never were synced arrived without those before them. Nobody can tell that
        # from a log that was damaged later: the program asks before it drops them.
        bench.asked += 1
        done = run("import", str(more))
        if done.code != 3:
            yield f"{where}: import into a damaged log says {done.code}: {done.err}"
        done = run("checkpoint", "--discard-damaged", "--yes")
        if done.code != 0:
            yield f"{where}: checkpoint --discard-damaged says {done.code}: {done.err}"
    yield from _wrong(look(database), allowed, f"{where}, opened by the program")
    done = run("import", str(more))
    if done.code != 0:
        yield f"{where}: import says {done.code}: {done.err}"


def _twin(program: str) -> Twin:
    def run(seed: int) -> Result:
        result = attack(Plan(seed=seed, count=1, quick=True), program)
        return result.of("none of the states", "integrity_check", "cannot be read")

    return Twin(program, run)


ATTACK = SimpleAttack(
    name="power",
    summary="the power is cut: unsynced writes and names are lost, reordered, torn",
    quick=2,
    full=60,
    attack=attack,
    twins=tuple(_twin(name) for name in ("never-syncs", "ignores-busy", "never-checkpoints")),
)
