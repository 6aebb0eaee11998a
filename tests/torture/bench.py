"""A database that the cases of an attack begin with, what it acknowledged, and what must hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.torture import loads, shim
from tests.torture.client import Outcome, Server, Setting
from tests.torture.loads import Load
from tests.torture.oracle import Companion, Found, copy, examine, workplace
from tests.torture.shim import Control, Kind, Trap

BASES = ("none", "small", "big", "pending")
"""No database; 20 rows; 1,500 rows; 20 rows and a log of another application's."""


class BrokenError(AssertionError):
    """The promise was broken in a case."""


def require(holds: bool, what: str) -> None:
    """Raise `BrokenError` unless it holds."""
    if not holds:
        raise BrokenError(what)


@dataclass(slots=True)
class Bench:
    """What the cases of one run share."""

    place: Path
    server: Server
    companion: Companion
    loads: dict[str, Load] = field(default_factory=dict)
    elsewhere: Path | None = None

    @classmethod
    @contextmanager
    def opened(cls, program: str) -> Iterator[Self]:
        """Yield one in a directory of its own, in memory if there is such a place."""
        with ExitStack() as stack:
            place = stack.enter_context(workplace(shim.workplace()))
            server = stack.enter_context(Server(place / "server", program))
            yield cls(place, server, stack.enter_context(Companion()))

    @property
    def database(self) -> Path:
        """The database of the case."""
        return self.elsewhere or self.place / "here" / "models.db"

    @property
    def inodes(self) -> dict[Kind, int]:
        """Which file is which, in the records of the shim."""
        files = {Kind.DB: self.database, Kind.WAL: Path(f"{self.database}-wal")}
        return {kind: path.stat().st_ino for kind, path in files.items() if path.exists()}

    @property
    def control(self) -> Control:
        """The shim's control block, as the last run left it."""
        return Control(self.place / "control", self.database, self.server.scratch)

    def run(self, load: Load, trap: Trap | None = None, **around: Any) -> Outcome:
        """Run a load on the database; `around` is what else `Setting` takes."""
        control = self.control
        control.set(trap or Trap())
        arguments = (*load.arguments, "--db", str(self.database), "--timeout", "0.3")
        return self.server.run(arguments, Setting(stdin=load.stdin, control=control, **around))

    def base(self, name: str) -> Load | None:
        """Put the base of a case in place; return what it acknowledged before."""
        shutil.rmtree(self.database.parent, ignore_errors=True)
        self.database.parent.mkdir()
        if name == "none":
            return None
        copy(self.place / "bases" / name / "models.db", self.database)
        return self.loads[name]

    def build_bases(self) -> None:
        """Import what is acknowledged before each case, and prove that it is."""
        for name in BASES[1:]:
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


def require_alone(database: Path, what: str, *acknowledged: Load) -> Found:
    """Require that what was acknowledged is in the main file alone, and that it is sound."""
    found = examine(database, alone=True)
    require(found.trouble is None, f"{what}: the main file alone: {found.trouble}")
    for load in acknowledged:
        missing = len(load.names - found.names)
        require(not missing, f"{what}: {missing} acknowledged rows are not in the main file alone")
    return found


def require_all(database: Path, what: str, *acknowledged: Load) -> Found:
    """Require that what was acknowledged is in the database and its log, and that it is sound."""
    found = examine(database)
    require(found.trouble is None, f"{what}: {found.trouble}")
    for load in acknowledged:
        missing = len(load.names - found.names)
        require(not missing, f"{what}: {missing} acknowledged rows are gone")
    require(not found.torn, f"{what}: {found.torn} models without their files")
    return found
