"""Runs of the program, of other writers and readers, with every write and sync of theirs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.torture import loads, shim
from tests.torture.client import Outcome, Server, Setting
from tests.torture.images import Disk, Image
from tests.torture.loads import Load
from tests.torture.oracle import EMPTY, Companion, Found
from tests.torture.shim import Control, Kind, Log, Op, Record

_WRITERS = ("import", "tag", "forget", "checkpoint")


@dataclass(frozen=True, slots=True)
class Step:
    """What was run, and what that acknowledged."""

    what: str
    code: int
    durable: bool  # what it wrote is on disk
    alone: bool  # and in the main file alone


@dataclass(frozen=True, slots=True)
class State:
    at: int  # records that lead to it
    digest: str


@dataclass(slots=True)
class Recording:
    steps: list[Step]
    records: list[Record]
    loads: tuple[Load, ...] = ()  # imports whose rows nothing else in the run touches
    states: list[State] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Servers:
    """The program, and another application that commits to the same database."""

    program: Server
    application: Server


class Judge(Protocol):
    """Tells what an image holds."""

    def look(self, image: Image) -> Found:
        """Look at an image."""
        ...


class Recorder:
    """Runs steps on one database, and keeps what each said."""

    def __init__(self, servers: Servers, directory: Path) -> None:
        self._servers = servers
        self.directory = directory
        self.database = directory / "here" / "models.db"
        self.database.parent.mkdir()
        self.log = Log(directory / "log")
        self.control = Control(directory / "control", self.database, servers.program.scratch)
        self.steps: list[Step] = []
        self.loads: list[Load] = []

    def run(self, load: Load) -> Outcome:
        arguments = (*load.arguments, "--db", self.database, "--timeout", "0.1")
        done = self._run(self._servers.program, arguments, load.stdin)
        writes = load.arguments[0] in _WRITERS
        pending = "--allow-pending" in load.arguments
        self.steps.append(
            Step(
                " ".join(load.arguments[:4]),
                done.code,
                durable=writes and done.code in {0, 4, 6},
                alone=writes and done.code in {0, 6} and not pending,
            )
        )
        return done

    def commit(self) -> None:
        """Let another application commit."""
        number = len(self.steps)
        self._run(self._servers.application, (self.database, f"note {number}"), None)
        self.steps.append(Step("application", 0, durable=False, alone=False))

    def _run(self, server: Server, arguments: tuple[object, ...], stdin: Path | None) -> Outcome:
        setting = Setting(stdin=stdin, control=self.control, log=self.log, step=len(self.steps))
        return server.run([str(argument) for argument in arguments], setting)


Script = Callable[[Recorder, Companion, random.Random], None]


def record_run(servers: Servers, directory: Path, rng: random.Random, script: Script) -> Recording:
    """Run a script in a directory, and return all that it wrote."""
    recorder = Recorder(servers, directory)
    preload = {"LD_PRELOAD": str(shim.compiled())}
    with Companion((str(recorder.control.path), str(recorder.log.path)), preload) as companion:
        script(recorder, companion, rng)
    return Recording(recorder.steps, list(recorder.log.records()), tuple(recorder.loads))


def script(recorder: Recorder, companion: Companion, rng: random.Random) -> None:
    """Import this and that, with other commands, another writer and a reader in between."""
    place = recorder.directory
    kinds = rng.choices(("stdin", "jsonl", "csv", "json", "gguf", "preset", "directory"), k=4)
    made = []
    reading = False
    for number, kind in enumerate(kinds):
        (place / str(number)).mkdir()
        load = loads.MAKERS[kind](place / str(number), rng)
        pending = ("--allow-pending",) if rng.random() < 0.2 else ()
        made.append(Load(arguments=(*load.arguments, *pending), stdin=load.stdin))
        if kind in {"gguf", "preset"}:
            recorder.loads.append(load)
        recorder.run(made[-1])
        for _ in range(rng.randint(1, 2)):
            verb = rng.choice(_VERBS)
            if verb == "commit":
                recorder.commit()
            elif verb == "reader" and not reading:
                companion.tell("open", recorder.database)
                companion.tell("begin")
                reading = True
            elif verb == "again":
                recorder.run(rng.choice(made))
            elif verb in _COMMANDS:
                recorder.run(Load(arguments=_COMMANDS[verb]))
        if reading and rng.random() < 0.3:
            companion.tell("end")
            companion.tell("close")
            reading = False


_VERBS = ("tag", "forget", "checkpoint", "list", "again", "commit", "commit", "reader", "reader")
_COMMANDS = {
    "tag": ("tag", "New-0", "--add", "mine"),
    "forget": ("forget", "New-0", "--yes"),
    "checkpoint": ("checkpoint",),
    "list": ("list", "--json"),
}


def simple_script(recorder: Recorder, companion: Companion, rng: random.Random) -> None:
    """Import three files, the last two beside a reader."""
    for number in range(3):
        load = loads.jsonl(
            recorder.directory / f"{number}.jsonl", f"N{number}", rng.choice((3, 40))
        )
        recorder.run(load)
        if number == 0:
            companion.tell("open", recorder.database)
            companion.tell("begin")


def states_of(records: list[Record], judge: Judge) -> Iterator[State]:
    """Yield the states that the run went through: after each commit, and each acknowledgement."""
    disk = Disk()
    last = EMPTY.digest
    yield State(0, last)
    commit = False
    for at, record in enumerate(records, 1):
        disk.apply(record)
        if record.kind is Kind.WAL and record.op is Op.WRITE and record.length == 24:
            commit = record.data[4:8] != bytes(4)
            continue
        ends = record.op is Op.NOTE or (record.kind is Kind.WAL and record.op is Op.WRITE)
        ends = ends and (commit or record.op is Op.NOTE)
        if ends or (record.kind is Kind.JOURNAL and record.op in {Op.UNLINK, Op.TRUNCATE}):
            commit = False
            found = judge.look(disk.now())
            if found.trouble is None and found.digest != last:
                last = found.digest
                yield State(at, last)
