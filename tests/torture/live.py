"""Scenes with live applications: what is drawn by lot, and the stage that they are played on.

A scene has an application with rows in its log, perhaps with company, and something odd about its
files. `play` plays it, and judges what a command of the program did.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.torture.applications import LIBRARIES, NODE, SHELL, Node, Nursery, Python, Shell

App = Python | Shell | Node

INSERT = "INSERT INTO t (x) VALUES ('later')"
TABLE = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)"
_COMMANDS = (
    ("checkpoint",),
    ("checkpoint",),
    ("checkpoint", "--mode", "passive"),
    ("checkpoint", "--mode", "restart"),
    ("inspect-wal",),
    ("inspect-wal", "--no-checkpoint"),
    ("verify",),
    ("verify",),
    ("verify", "--no-checkpoint"),
    ("list",),
    ("list", "--no-checkpoint"),
    ("show", "Base"),
    ("import", "MODELS"),
    ("tag", "Base", "--add", "x"),
)
JUDGES = ("checkpoint", "verify")
_OPENING, _MOST_CALLS = 20, 110  # calls on the database's files: at first, and in a whole command


class Label(Enum):
    """What is right about a scene."""

    DANGER = "danger"  # a living process uses other files, or without locks: refuse, and name it
    GONE = "gone"  # there is nothing at the path: not 0
    WELL = "well"  # no alarm
    OPEN = "open"  # no more than no harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is odd about the applications' files. `spoil` returns the path that the command gets."""

    name: str
    label: Label
    start: Callable[[Stage], App]
    spoil: Callable[[Stage], Path]
    libraries: tuple[str, ...] = (*LIBRARIES, SHELL, NODE)
    setup: tuple[str, ...] = ()  # before anything else
    parameters: str = ""  # of the URI
    has_company: bool = True
    has_moment: bool = True  # it may come about while the command runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is drawn by lot. `moment` is the call of the command at which it goes wrong."""

    kind: Kind
    library: str
    page_size: int
    folded: int  # rows in the main file
    logged: int  # rows in the log
    autocheckpoint: int
    is_catalogue: bool
    company: tuple[str, ...]
    newcomer: str | None  # how it ends, where there is one
    moment: int | None
    later: tuple[str, ...]
    end: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        about = [self.kind.name, self.library, f"then {self.end}"]
        about += ["a catalogue"] * self.is_catalogue + list(self.company)
        about += [f"newcomer: {self.newcomer}"] if self.newcomer else []
        about += [f"at call {self.moment}"] if self.moment else []
        return f"{' '.join(self.command)} [{', '.join(about)}]"


def draw(rng: random.Random, kinds: Sequence[Kind]) -> Scene:
    """Draw a scene of one of these kinds."""
    kind = rng.choice(kinds)
    is_catalogue = rng.random() < 0.3 and not kind.setup and not kind.parameters
    commands = [one for one in _COMMANDS if is_catalogue or one[0] not in {"import", "tag", "show"}]
    command = rng.choice(commands)
    if command[0] in {*JUDGES, "inspect-wal"} and rng.random() < 0.5:
        command = (*command, "--json")
    if command[0] == "verify":
        command = (*command, "--skip", "environment")
    company: tuple[str, ...] = ()
    if kind.has_company and rng.random() < 0.4:
        company = tuple(rng.sample(("reader", "idle", "writer"), rng.randint(1, 2)))
    checkpoint = f"PRAGMA wal_checkpoint({rng.choice(('PASSIVE', 'TRUNCATE'))})"
    update = "UPDATE t SET x = x || '!' WHERE id <= 2"
    later = [INSERT, *rng.choices((INSERT, INSERT, update, checkpoint), k=3)]
    calls = rng.choice((_OPENING, _MOST_CALLS))
    moment = rng.randint(1, calls) if kind.has_moment and rng.random() < 0.25 else None
    newcomer = rng.choice(("crash", "close", "stay")) if rng.random() < 0.2 else None
    return Scene(
        kind=kind,
        library=rng.choice(kind.libraries),
        page_size=rng.choice((512, 1024, 4096, 4096)),
        folded=rng.choice((0, 0, 3, 60)),
        logged=rng.choice((1, 5, 40)),
        autocheckpoint=rng.choice((0, 0, 1000, 3)),
        is_catalogue=is_catalogue,
        company=company,
        newcomer=newcomer if moment is None else None,  # its fate hangs on how far the fold was
        moment=moment,
        later=tuple(later),
        end=rng.choice(("crash", "close")),
        command=command,
    )


@dataclass
class Stage:
    """The directory of one play, and who is on it."""

    nursery: Nursery
    scene: Scene
    place: Path
    path: Path
    cast: list[App] = field(default_factory=list)
    first: tuple[str, ...] = ()  # statements before `later`
    aside: list[App] = field(default_factory=list)  # whose rows are no matter of the path's

    def start(
        self, path: Path, *setup: str, library: str | None = None, parameters: str = ""
    ) -> App:
        """Start an application."""
        app = self.nursery.start(library or self.scene.library, path, setup, parameters)
        self.cast.append(app)
        return app

    @property
    def app(self) -> App:
        """The application that the scene is about."""
        return self.cast[0]

    @property
    def setup(self) -> list[str]:
        """The statements that bring the database about."""
        scene = self.scene
        return [
            *([] if scene.is_catalogue else [f"PRAGMA page_size={scene.page_size}"]),
            *(scene.kind.setup or ("PRAGMA journal_mode=WAL",)),
            f"PRAGMA wal_autocheckpoint={scene.autocheckpoint}",
            "PRAGMA synchronous=OFF",
            TABLE,
            *_filled("old", scene.folded),
            *(["PRAGMA wal_checkpoint(TRUNCATE)"] if scene.folded else []),
            *_filled("new", scene.logged),
        ]

    def go_wrong(self) -> Path:
        """Do what the scene is about; return the path that the command is given."""
        path = self.scene.kind.spoil(self)
        if self.scene.newcomer is not None:
            statements = ("CREATE TABLE IF NOT EXISTS n (x)", "INSERT INTO n VALUES ('newcomer')")
            with suppress(OSError, sqlite3.Error):
                new = self.start(path, *statements, library="sqlite3")
                if self.scene.newcomer != "stay":
                    new.end(self.scene.newcomer)
                    self.cast.remove(new)
        return path


def start_plainly(stage: Stage) -> App:
    """Start the application at the path, as most are."""
    return stage.start(stage.path, *stage.setup, parameters=stage.scene.kind.parameters)


def leave_alone(stage: Stage) -> Path:
    """Do nothing."""
    return stage.path


def _filled(word: str, count: int) -> list[str]:
    rows = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    return [f"{rows} INSERT INTO t (x) SELECT '{word} ' || i FROM n"] if count else []
