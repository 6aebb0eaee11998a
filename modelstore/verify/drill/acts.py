"""The three questions of the drill, each answered by processes that come and go."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from modelstore.database.handle import connect
from modelstore.database.sqlite import sqlite3
from modelstore.errors import ExitCode
from modelstore.text import human_bytes, human_seconds, plural
from modelstore.verify.drill.processes import DrillFailure
from modelstore.wal.format import DATABASE_HEADER_SIZE, DatabaseHeader
from modelstore.wal.scan import scan_wal

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.verify.drill.processes import Child, Outcome, Program

_FIRST = ("Model-Test-1", "Model-Test-2")
_MORE = ("Model-Test-3", "Model-Test-4")
_ALL = _FIRST + _MORE
_PAUSE = 0.01  # seconds between two looks for a commit

_UNABLE = "no catalogue can be kept here until that is mended"
_LOST = "what is reported as written is not in the file here: keep no database in this place"
_LOCKS = (
    "processes do not see each other's locks here: keep databases on a local disk, or let one "
    "process alone open them"
)
_RECOVERY = "a crash loses committed rows here: keep no database in WAL mode in this place"
_PREFIXES = {"did": "", "good": "ok: ", "bad": "FAILED: "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One sentence of the story, without a full stop; it may hold outside text, raw.

    `act` counts the questions from 1; steps before and after them have 0.
    """

    act: int
    kind: Literal["question", "did", "good", "bad"]
    text: str

    def __str__(self) -> str:
        """Return it as a line: a question, and what belongs to it indented below."""
        if self.kind == "question":
            return f"{self.act}. {self.text}"
        return ("   " if self.act else "") + _PREFIXES[self.kind] + self.text


class Story:
    """Passes on each step as it happens."""

    def __init__(self, tell: Callable[[Step], None]) -> None:
        self._tell = tell
        self._act = 0

    def ask(self, act: int, question: str) -> None:
        """Begin an act."""
        self._act = act
        self._add("question", question)

    def end(self) -> None:
        """Leave the last act."""
        self._act = 0

    def did(self, text: str) -> None:
        """Tell a fact."""
        self._add("did", text)

    def good(self, text: str) -> None:
        """Tell a success."""
        self._add("good", text)

    def bad(self, text: str) -> None:
        """Tell a failure."""
        self._add("bad", text)

    def _add(self, kind: Literal["question", "did", "good", "bad"], text: str) -> None:
        self._tell(Step(act=self._act, kind=kind, text=text))


@dataclass(slots=True)
class Stage:
    """The place of the drill; `figures` belong to the question at hand, for programs."""

    scratch: str
    program: Program
    story: Story
    figures: dict[str, object] = field(default_factory=dict)
    has_wal: bool = True  # False if no catalogue in this place can be in WAL mode

    @property
    def first(self) -> str:
        """The catalogue of the first question; the other questions begin with a copy of it."""
        return os.path.join(self.scratch, "models.db")

    def copy(self, source: str, name: str) -> str:
        """Copy a main file without its log to a new directory."""
        directory = os.path.join(self.scratch, name)
        os.mkdir(directory, 0o700)
        return shutil.copyfile(source, os.path.join(directory, "models.db"))

    def count(self, database: str) -> int:
        """Return the number of models that a new process finds; they must be the first ones."""
        outcome = self.program.run(
            *("the process that counts", "list", "--json", "-c", "name", "-s", "name"),
            *("--db", database),
        )
        if outcome.code or not isinstance(outcome.answer, list):
            raise DrillFailure(f"the models cannot be counted: {trouble(outcome)}", _LOST)
        names = [row.get("name") for row in outcome.answer]
        if names != list(_ALL[: len(names)]):
            raise DrillFailure(f"other models than the imported are found: {names}", _LOST)
        return len(names)

    def fold(self, database: str) -> None:
        """Let a new process fold the log, and tell how many frames it folded."""
        outcome = self.program.run("a checkpoint", "checkpoint", "--json", "--db", database)
        if outcome.code:
            raise DrillFailure(f"the WAL cannot be folded: {trouble(outcome)}", _RECOVERY)
        folded, log = outcome.get("checkpointed"), outcome.get("log")
        self.story.did(f"a new process finds the WAL and folds it: {folded} of {log} frames")

    def delete_log(self, database: str) -> str:
        """Delete the ``-wal``; return a sentence about it."""
        try:
            size = os.stat(database + "-wal").st_size
            os.unlink(database + "-wal")
        except FileNotFoundError:
            return "there is no WAL left to delete: it went with the fold"
        return f"its WAL of {human_bytes(size)} was deleted"

    def expect_all(self, database: str, wanted: int) -> None:
        """Delete the log, and let a new process count the models in the main file."""
        deleted = self.delete_log(database)
        found = self.figures["found"] = self.count(database)
        told = f"a new process counts {found} of {wanted} models in the main file alone"
        if found != wanted:
            raise DrillFailure(f"{deleted}, and {told}", _LOST)
        self.story.did(deleted)
        self.story.good(told)


@dataclass(frozen=True, slots=True)
class Act:
    """One question; `play` returns the measurement, or raises `DrillFailure`."""

    code: str
    question: str
    play: Callable[[Stage], str]


def trouble(outcome: Outcome) -> str:
    """Return the unexpected end of a process in words."""
    return f"exit {outcome.code}" + (f", {outcome.error}" if outcome.error else "")


def _importing(database: str, patience: str) -> tuple[str, ...]:
    return ("import", "-", "--from", "jsonl", "--json", "--timeout", patience, "--db", database)


def _records(names: tuple[str, ...]) -> str:
    return "".join(json.dumps({"name": name}) + "\n" for name in names)


def _survive_deletion(stage: Stage) -> str:
    """Import and end; delete the log; count."""
    outcome = stage.program.run(
        "the import", *_importing(stage.first, "10s"), stdin=_records(_FIRST)
    )
    stage.figures["import_exit"] = outcome.code
    if outcome.code:
        raise DrillFailure(f"an import of two models fails: {trouble(outcome)}", _UNABLE)
    stage.story.did(
        f"pid {outcome.pid} imported {' and '.join(_FIRST)}, folded "
        f"{plural(outcome.get('checkpoint', 'moved') or 0, 'frame')} and ended with exit 0 after "
        f"{human_seconds(outcome.seconds)}"
    )
    stage.expect_all(stage.first, len(_FIRST))
    with open(stage.first, "rb") as file:
        stage.has_wal = DatabaseHeader.parse(file.read(DATABASE_HEADER_SIZE)).is_wal
    return f"{len(_FIRST)} of {len(_FIRST)} models are there after the WAL was deleted"


def _survive_kill(stage: Stage) -> str:
    """Kill an import between its commit and its fold, which a reader holds up; recover."""
    database = stage.copy(stage.first, "killed")
    reader = stage.program.start_reader(database)
    importer = stage.program.start("the import", _importing(database, "1h"), stdin=_records(_MORE))
    _await_commit(stage, database, importer)
    importer.kill()
    reader.kill()
    log = scan_wal(database + "-wal")
    stage.figures |= {"frames": log.max_frame, "wal_size": log.size}
    stage.story.did(
        f"pid {importer.pid} imported {' and '.join(_MORE)}; it was killed after its commit and "
        f"before any checkpoint, with {plural(log.max_frame, 'frame')} "
        f"({human_bytes(log.size)}) in the WAL"
    )
    alone = stage.figures["main_file_alone"] = stage.count(stage.copy(database, "killed-alone"))
    stage.story.did(
        f"a copy of the main file alone has {alone} of {len(_ALL)} models: that is what a backup "
        "without the WAL would keep"
    )
    if alone != len(_FIRST):
        raise DrillFailure("the log was folded although a reader held it", _LOCKS)
    stage.fold(database)
    recovered = stage.figures["recovered"] = stage.count(database)
    if recovered != len(_ALL):
        raise DrillFailure(f"recovery brings back {recovered} of {len(_ALL)} models", _RECOVERY)
    stage.expect_all(database, len(_ALL))
    return (
        f"after a kill the main file alone has {alone} of {len(_ALL)} models, and recovery brings "
        f"back all {recovered}"
    )


def _await_commit(stage: Stage, database: str, importer: Child) -> None:
    """Wait until another process sees the rows of the import."""
    deadline = time.monotonic() + stage.program.patience()
    with closing(connect(database, "ro")) as db:
        while time.monotonic() < deadline:
            with suppress(sqlite3.OperationalError):  # locked, for a moment
                if db.table("models").count == len(_ALL):
                    return
            if importer.ended:
                outcome = importer.outcome(stage.program.patience())
                if outcome.code == 0:
                    raise DrillFailure("an import folded the log although a reader held it", _LOCKS)
                raise DrillFailure(f"an import of two models fails: {trouble(outcome)}", _UNABLE)
            time.sleep(_PAUSE)
    raise DrillFailure("the rows of an import are not seen by another process", _LOCKS)


def _admit_reader(stage: Stage) -> str:
    """Let a reader keep an import from folding; its exit code must say so."""
    database = stage.copy(stage.first, "read")
    reader = stage.program.start_reader(database)
    stage.story.did(f"pid {reader.pid} reads the catalogue and does not let go")
    outcome = stage.program.run("the import", *_importing(database, "500ms"), stdin=_records(_MORE))
    stage.figures["import_exit"] = outcome.code
    if outcome.code == ExitCode.OK:
        raise DrillFailure("the import ended with exit 0 although a reader is in the way", _LOCKS)
    if outcome.code != ExitCode.BUSY:
        raise DrillFailure(f"an import of two models fails: {trouble(outcome)}", _UNABLE)
    left = stage.figures["left"] = outcome.get("checkpoint", "left")
    pids = [blocker.get("pid") for blocker in outcome.get("checkpoint", "blockers") or ()]
    named = stage.figures["reader_named"] = reader.pid in pids
    stage.story.good(
        f"pid {outcome.pid} imported {' and '.join(_MORE)} and ended with exit 4 (busy) after "
        f"{human_seconds(outcome.seconds)}: {left} frames are left in the WAL, "
        + (f"held by pid {reader.pid}" if named else "by whom it cannot tell here")
    )
    alone = stage.figures["main_file_alone"] = stage.count(stage.copy(database, "read-alone"))
    stage.story.did(f"a copy of the main file alone has {alone} of {len(_ALL)} models")
    reader.close_stdin()
    reader.outcome(stage.program.patience())
    stage.story.did("the reader lets go")
    stage.fold(database)
    stage.expect_all(database, len(_ALL))
    return (
        f"with a reader in the way an import ends with exit 4 and {left} frames left, and nothing "
        "is lost"
    )


ACTS = (
    Act("drill.deletion", "Does an import survive the loss of its WAL?", _survive_deletion),
    Act("drill.kill", "What does a kill right after the commit cost?", _survive_kill),
    Act("drill.reader", "Does an import admit that a reader is in its way?", _admit_reader),
)
