"""A check and its stages, and the options and the state that all checks of a run share."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy, translate_sqlite_error
from modelstore.finding import Finding
from modelstore.progress import Progress, unwatched
from modelstore.text import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database
    from modelstore.replica.name import ReplicaName
    from modelstore.verify.expected import Expected
    from modelstore.verify.subject import Subject
    from modelstore.wal.locks import Blocker

NAMED = 20
"""The number of rows, files or processes that a sentence names; the data name more."""

DAMAGED = "the database with its log is damaged"


def _untold(text: str) -> None:
    del text


class VerifyOptions(NamedTuple):
    """The options of a run. Durations are in seconds, sizes in bytes.

    `checks` are names; None means all but those that are only made on request. `watching` returns
    a progress that counts in a unit. `on_wait` is called now and then with the processes that hold
    up the fold, and the seconds waited so far. `tell` takes the lines of the drill.
    """

    checks: frozenset[str] | None = None
    quick: bool = False
    deep: bool = False
    hash_files: bool = False
    fold: bool = True
    strict: bool = False
    timeout: float = DEFAULT_TIMEOUT
    host: str | None = None  # the name of this machine, as imports record it
    expected: Expected | None = None
    replica: ReplicaName | None = None
    watching: Callable[[str], AbstractContextManager[Progress]] = unwatched
    on_wait: Callable[[tuple[Blocker, ...], float], None] | None = None
    tell: Callable[[str], None] = _untold


class MainFile(NamedTuple):
    """The main file after the fold.

    `alone` sees the main file without its log, and `holder` sees both while it keeps the main file
    still. Both are None where the main file lacks frames or cannot be kept still; `with_log` then
    sees both, unless nothing was folded. `is_moving`: nothing is left to fold, but others write
    or checkpoint all the time.
    """

    alone: Database | None = None
    holder: Database | None = None
    with_log: Database | None = None
    is_moving: bool = False


@dataclass(slots=True)
class Run:
    """The state of one run.

    `checks` are those that were chosen. `kept` holds what a check keeps from one stage to the
    next, under its name. `unfoldable` is the reason why nothing may be folded, as far as is known.
    `is_stuck` tells that the fold made no headway, `left` why the main file lacks frames.
    """

    options: VerifyOptions
    subject: Subject
    checks: tuple[Check, ...]
    unfoldable: str | None = None
    findings: list[Finding] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    is_stuck: bool = False
    left: str | None = None

    @property
    def has_failed(self) -> bool:
        """True if a finding is a failure."""
        return any(finding.severity == "fail" for finding in self.findings)

    def has_findings(self, check: Check) -> bool:
        """Tell if a check found anything yet."""
        return any(finding.check == check.name for finding in self.findings)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a block to that of a check."""
        begun = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - begun
            self.timings[name] = self.timings.get(name, 0.0) + spent

    @contextmanager
    def tolerating_damage(self) -> Iterator[None]:
        """End a block at an error of SQLite's, and fold nothing then: the database is damaged.

        Raises `LockedError` for a lock.
        """
        try:
            yield
        except sqlite3.Error as error:
            if is_busy(error):
                raise translate_sqlite_error(error, self.subject.path) or error from error
            self.unfoldable = self.unfoldable or DAMAGED


def nothing(run: Run, *stage: object) -> Iterable[Finding]:
    """Find nothing: the default of each stage."""
    del run, stage
    return ()


class Check(NamedTuple):
    """A check: its name for programs, its title for people, and a function for each stage.

    The stages, in this order; a check has functions for those that it needs:

    1. `raw`: no SQLite of this process has the database open. All raw reads belong here
       (sqlite.org/howtocorrupt.html, section 2.2).
    2. `reading`: a connection sees database and log, and nothing is folded yet. A check that finds
       a reason against folding sets `Run.unfoldable`.
    3. `folded`: the log was folded as far as that was possible. Left out where it must not be.
    4. `main_file`: the main file is looked at alone.
    5. `closed`: no connection is open any more, so that slow work holds up nobody.

    `unreadable` runs where SQLite cannot read the database at all. `order` is the place in
    reports. A check `on_request` is made only if it is named; `applies` can tell that the options
    leave it nothing to do.
    """

    name: str
    title: str
    order: int
    raw: Callable[[Run], Iterable[Finding]] = nothing
    reading: Callable[[Run, OpenDatabase], Iterable[Finding]] = nothing
    folded: Callable[[Run, OpenDatabase], Iterable[Finding]] = nothing
    main_file: Callable[[Run, MainFile], Iterable[Finding]] = nothing
    closed: Callable[[Run], Iterable[Finding]] = nothing
    unreadable: Callable[[Run], Iterable[Finding]] = nothing
    on_request: bool = False
    applies: Callable[[VerifyOptions], bool] = lambda _: True

    @property
    def looks_inside(self) -> bool:
        """True if the check needs a database that can be opened and folded."""
        return self.folded is not nothing or self.main_file is not nothing


def not_checked(check: str, why: str) -> Finding:
    """Return the note that a check was not made."""
    return Finding(f"{check}.not-checked", "note", f"not checked: {why}")
