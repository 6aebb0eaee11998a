"""One verification: the stages of all checks, in an order in which none destroys evidence.

Everything is read raw before SQLite opens the database in this process. Then a reader that folds
nothing looks at structure and content. Only a sound database is folded, and compared.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from modelstore.catalogue.schema import is_catalogue
from modelstore.database.handle import connect
from modelstore.database.open import Purpose, open_database
from modelstore.database.proof import frozen_main
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy, translate_sqlite_error
from modelstore.errors import DamageError, RefusedError
from modelstore.finding import Finding, LogFigures, Verification
from modelstore.progress import silent
from modelstore.text import utc_now
from modelstore.verify.check import MainFile, Run, VerifyOptions, not_checked, nothing
from modelstore.verify.checks import all_checks
from modelstore.verify.checks.checkpoint import fold
from modelstore.verify.log_figures import log_figures
from modelstore.verify.preconditions import as_seen, nothing_folded, why_not_fold, why_not_open
from modelstore.verify.subject import look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.check import Check


def verify(given: str, *, origin: str, options: VerifyOptions) -> Verification:
    """Run the checks on a database; on a directory, run the drill alone if it is chosen.

    `origin` says who chose the path. Raises `RefusedError` for a database that is absent or
    refused, and `LockedError` if a lock of a rollback-mode database outlasts the timeout.
    """
    started = utc_now()
    begun = time.monotonic()
    checks = _chosen(options)
    run = None
    if os.path.isdir(given) and any(check.name == "drill" for check in checks):
        from modelstore.verify.drill.run import run_drill

        findings = run_drill(given, tell=lambda step: options.tell(str(step)))
        timings = {"drill": time.monotonic() - begun}
    else:
        run = _run(given, options, checks)
        findings, timings = run.findings, run.timings
    order = {check.name: check.order for check in all_checks()}
    return Verification(
        database=given,
        origin=origin,
        findings=tuple(sorted(findings, key=lambda finding: order[finding.check])),
        started=started,
        seconds=time.monotonic() - begun,
        timings={name: timings[name] for name in order if name in timings},
        titles={check.name: check.title for check in all_checks()},
        strict=options.strict,
        checkpoint=run.checkpoint if run is not None else None,
        log=LogFigures() if run is None else log_figures(run.subject),
    )


def _chosen(options: VerifyOptions) -> tuple[Check, ...]:
    return tuple(
        check
        for check in all_checks()
        if (not check.on_request if options.checks is None else check.name in options.checks)
        and check.applies(options)
    )


def _run(given: str, options: VerifyOptions, checks: tuple[Check, ...]) -> Run:
    begun = time.monotonic()
    with options.watching("bytes") as tick:
        subject = look(given, deep=options.deep, progress=tick)
    run = Run(options, subject, checks, unfoldable=why_not_fold(subject))
    run.timings["log"] = time.monotonic() - begun
    _make(run, "raw")
    with _trouble_told(run):
        _look_inside(run)
    with _trouble_told(run):
        _make(run, "closed")
    return run


def _make(run: Run, stage: str, *given: object) -> None:
    """Let each check that has something to do in a stage add its findings."""
    for check in run.checks:
        look_at = getattr(check, stage)
        if look_at is not nothing:
            with run.timed(check.name):
                run.findings += look_at(run, *given)


@contextmanager
def _trouble_told(run: Run) -> Iterator[None]:
    """Turn damage that ends a block into findings. A refusal before any failure ends the run."""
    try:
        yield
    except (DamageError, RefusedError) as error:
        if isinstance(error, RefusedError) and not run.has_failed:
            raise
        path = run.subject.path
        run.findings.append(Finding("file.unreadable", "fail", error.message, path, error.hint))
        _make(run, "unreadable")
        _note_unchecked(run, "the database cannot be read")


def _note_unchecked(run: Run, why: str) -> None:
    """Note each check that could not be made; the first one says why."""
    for check in run.checks:
        if check.looks_inside and not run.has_findings(check):
            run.findings.append(not_checked(check.name, why))
            why = "for the same reason"


def _look_inside(run: Run) -> None:
    """Let SQLite open the database, if nothing speaks against that."""
    options, subject = run.options, run.subject
    why = why_not_open(subject)
    if why is not None:
        run.checkpoint = nothing_folded(subject, why)
        _note_unchecked(run, why)
        return
    with open_database(
        subject.path,
        purpose=Purpose.READ,
        timeout=options.timeout,
        fold=False,
        check=is_catalogue,
        known=subject.holders,
    ) as reader:
        _make(run, "reading", reader)
        if run.unfoldable is None:
            _fold(run, reader)
        else:
            run.checkpoint = nothing_folded(subject, run.unfoldable)
            _make(run, "main_file", MainFile())


def _fold(run: Run, reader: OpenDatabase) -> None:
    """Fold, then look at the main file alone."""
    options = run.options
    opened = open_database(
        run.subject.path,
        purpose=Purpose.READ,
        timeout=options.timeout,
        fold=options.fold,
        check=is_catalogue,
        known=run.subject.holders,
    )
    with opened, reader:  # `opened` is closed last, which removes a log that is empty
        with run.timed("checkpoint"), options.watching("bytes") as tick:
            if opened.totals is not None and tick is not silent:
                opened.totals.progress = tick
            result, run.is_stuck = fold(opened, options)
            run.checkpoint = result if options.fold else as_seen(run.subject, result)
        _make(run, "folded", opened)
        _look_at_main_file(run, opened)


def _look_at_main_file(run: Run, opened: OpenDatabase) -> None:
    """Make the checks of the main file alone, while it is kept still if that is possible."""
    if opened.access == "immutable" and not run.is_stuck:
        _make(run, "main_file", MainFile(opened.db, opened.db))
        return
    is_moving = False
    if not run.is_stuck and opened.access != "copy":
        if _look_while_still(run, opened):
            return
        is_moving = run.checkpoint is not None and not run.checkpoint.left
    if not is_moving:
        done = "could not be" if run.options.fold else "was not"
        run.left = f"the log {done} folded"
    _make(run, "main_file", MainFile(with_log=opened.db, is_moving=is_moving))


def _look_while_still(run: Run, opened: OpenDatabase) -> bool:
    """Return False if others kept the main file from being held still."""
    try:
        with ExitStack() as stack:
            with run.timed("checkpoint"):
                holder = stack.enter_context(frozen_main(opened, run.options.timeout))
            if holder is None:
                return False
            alone = stack.enter_context(closing(connect(opened.path, "immutable")))
            _make(run, "main_file", MainFile(alone, holder))
            return True
    except sqlite3.Error as error:
        if not is_busy(error):
            raise translate_sqlite_error(error, opened.path) or error from error
        return False
