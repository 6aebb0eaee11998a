"""The drill: try out on a scratch catalogue if rows survive in this directory.

Nobody can look up what a volume, a network share or a container's file system makes of syncs,
locks and shared memory; but it can be tried. Three questions, each with a catalogue of its own:
does an import survive the loss of its WAL, what does a kill cost, and does an import admit that a
reader keeps its rows in the WAL? Processes of the real program import, count and fold. A power cut
cannot be tried.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.database.filesystem import mount_of, mount_table
from modelstore.database.sqlite import sqlite3
from modelstore.errors import RefusedError
from modelstore.finding import Finding
from modelstore.verify.drill.acts import ACTS, Act, Stage, Step, Story
from modelstore.verify.drill.processes import DrillFailure, Program
from modelstore.verify.signals import one_interruption, signals_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from modelstore.finding import Severity

_PREFIX = ".modelstore-drill-"


def run_drill(
    directory: str,
    *,
    tell: Callable[[Step], None],
    limit: float = 90.0,
    command: Sequence[str] | None = None,
) -> list[Finding]:
    """Try out if rows survive in `directory`; return the findings in the order of the questions.

    `tell` takes each step as it happens. All files lie in a private directory within, which is
    removed whatever comes. `limit` is in seconds, for the whole drill. `command` is the program, by
    default this very one. Trouble becomes a finding, never an exception.
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
    return findings


@contextmanager
def scratch_directory(parent: str) -> Iterator[str]:
    """Yield a new directory in `parent` for this user alone, under a random name.

    It is removed whatever comes but SIGKILL and a power cut; a failure to remove it is no error
    here. Raises `OSError` if it cannot be made.
    """
    path = None
    try:
        with signals_held():
            path = tempfile.mkdtemp(prefix=_PREFIX, dir=os.path.abspath(parent))  # mode 0700
        yield path
    finally:
        if path is not None:
            try:
                with signals_held():
                    shutil.rmtree(path, ignore_errors=True)
            finally:  # where a signal came just before the line above
                shutil.rmtree(path, ignore_errors=True)


def _play(stage: Stage, directory: str) -> Iterator[Finding]:
    """Try one question after the other; the later ones begin with a copy of the first catalogue."""
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
            stage.story.bad("WAL mode does not work here; a rollback journal takes its place")
            yield _untried("warn", "because WAL mode does not work", directory)
            return


def _answer(stage: Stage, act: Act, directory: str) -> Finding:
    """Try one question; its finding has the figures even if it failed."""
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
        advice = "look at the disk, the network share and its permissions"
    if severity == "fail":
        stage.story.bad(f"{measured}; {advice}")
    figures = {**stage.figures, "seconds": round(time.monotonic() - begun, 3)}
    return Finding(act.code, severity, measured, directory, advice, figures)


def _untried(severity: Severity, why: str, directory: str) -> Finding:
    text = f"a kill and a reader in the way were not tried, {why}"
    advice = "WAL needs memory that processes share: a local disk has it"
    is_warning = severity == "warn"
    return Finding("drill.untried", severity, text, directory, advice if is_warning else None)


def _bad(story: Story, code: str, text: str, where: str, advice: str) -> Finding:
    """Report that the drill's own directory fails."""
    story.bad(f"{text} ({where})")
    return Finding(code, "fail", text, where, advice)
