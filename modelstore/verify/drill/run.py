"""The drill: whether rows survive in one directory, tried out on a scratch catalogue.

What a volume, a network share or a container's file system makes of syncs, locks and shared memory
cannot be looked up; it can be tried. Three questions, each with a catalogue of its own: does an
import survive the loss of its WAL, what does a kill cost, and does an import admit that a reader
keeps its rows in the WAL? Whatever imports, counts or folds is a process of the real program.
A power cut cannot be tried.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.database.filesystem import mount_of, mount_table
from modelstore.database.sqlite import sqlite3
from modelstore.errors import RefusedError
from modelstore.finding import Finding
from modelstore.verify.drill.acts import ACTS, Act, Stage
from modelstore.verify.drill.children import Program
from modelstore.verify.drill.scratch import one_interruption, scratch_directory
from modelstore.verify.drill.story import DrillFailure, Step, Story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from modelstore.finding import Severity

__all__ = ["DrillResult", "Step", "run_drill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """What a drill found, in the order of its questions, and the whole story."""

    directory: str
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    seconds: float


def run_drill(
    directory: str,
    *,
    tell: Callable[[Step], None],
    limit: float = 90.0,
    command: Sequence[str] | None = None,
) -> DrillResult:
    """Try in `directory` whether rows survive; each step is told as it happens.

    Everything happens in a private directory within, which is removed whatever comes. `limit` is
    in seconds, for all of it. `command` is the program, this very one by default. Trouble is a
    finding, never an exception.
    """
    started = time.monotonic()
    story = Story(tell)
    findings: list[Finding] = []
    scratch = None
    try:
        with one_interruption(), scratch_directory(directory) as scratch:
            mount = mount_of(os.path.realpath(directory), mount_table() or ())
            place = directory + (f" ({mount.type})" if mount is not None else "")
            story.did(f"a drill in {place}; its files are in {os.path.basename(scratch)}")
            with Program(command, scratch, deadline=started + limit) as program:
                findings += _play(Stage(scratch, program, story), directory)
    except OSError as error:
        text = f"no scratch directory can be made: {error.strerror or error}"
        findings.append(_bad(story, "drill.place", text, directory, "choose a place to write to"))
    story.end()
    if scratch is not None and os.path.lexists(scratch):
        text = "the scratch directory could not be removed"
        findings.append(_bad(story, "drill.left", text, scratch, "remove it"))
    elif scratch is not None:
        story.did("the scratch files are removed; no other file was touched")
    return DrillResult(
        directory=directory,
        findings=tuple(findings),
        steps=tuple(story.steps),
        seconds=time.monotonic() - started,
    )


def _play(stage: Stage, directory: str) -> Iterator[Finding]:
    """Try one question after the other; the later ones begin with the catalogue of the first."""
    for number, act in enumerate(ACTS, 1):
        stage.story.ask(number, act.question)
        finding = _answer(stage, act, directory)
        yield finding
        if number > 1:
            continue
        if finding.severity == "fail":
            yield _untried("note", "without a sound catalogue", directory)
            return
        if not stage.has_wal:
            stage.story.bad("WAL mode cannot be had here; a rollback journal serves instead")
            yield _untried("warn", "as WAL mode cannot be had", directory)
            return


def _answer(stage: Stage, act: Act, directory: str) -> Finding:
    """Try one question; its finding has the figures, also where it went wrong."""
    begun = time.monotonic()
    stage.figures = {}
    severity: Severity = "pass"
    advice = None
    try:
        measured = act.play(stage)
    except DrillFailure as failure:
        severity, measured, advice = "fail", failure.text, failure.meaning
    except (OSError, sqlite3.Error, RefusedError) as error:
        severity, measured = "fail", f"the files cannot be used as they must: {error}"
        advice = "see what the disk, the network share or its permissions have to say"
    if severity == "fail":
        stage.story.bad(f"{measured}; {advice}")
    return Finding(
        code=act.code,
        check="drill",
        severity=severity,
        measured=measured,
        where=directory,
        advice=advice,
        data={**stage.figures, "seconds": round(time.monotonic() - begun, 3)},
    )


def _untried(severity: Severity, why: str, directory: str) -> Finding:
    text = f"a kill and a reader in the way were not tried, {why}"
    advice = "WAL wants memory that processes share: a local disk has it"
    return Finding(
        code="drill.untried",
        check="drill",
        severity=severity,
        measured=text,
        where=directory,
        advice=advice if severity == "warn" else None,
    )


def _bad(story: Story, code: str, text: str, where: str, advice: str) -> Finding:
    """Tell of a fault of the drill's own place."""
    story.bad(f"{text} ({where})")
    return Finding(
        code=code, check="drill", severity="fail", measured=text, where=where, advice=advice
    )
