"""One verification: the checks in an order in which none destroys what a later one should see.

First everything is read raw, before SQLite opens the database in this process. Then a reader that
folds nothing looks at structure and content. Only what came out whole is folded, and compared.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelstore.catalogue.schema import is_catalogue, ownership
from modelstore.database.handle import connect
from modelstore.database.open import Purpose, open_database
from modelstore.database.proof import frozen_main
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy, translate_sqlite_error
from modelstore.errors import DamageError, RefusedError
from modelstore.finding import CHECKS, Check, Finding, Verification, findings_of
from modelstore.text import utc_now
from modelstore.verify.checkpoint import check_checkpoint, fold, not_folded
from modelstore.verify.environment import check_environment
from modelstore.verify.expectations import check_expectations
from modelstore.verify.file import check_file
from modelstore.verify.integrity import check_constraints, check_integrity
from modelstore.verify.log import check_log
from modelstore.verify.models import Records, check_models, read_records, record_hashes
from modelstore.verify.persistence import Snapshot, compare, not_still, tables_to_compare, unfolded
from modelstore.verify.preconditions import (
    DAMAGED,
    not_checked,
    not_opened,
    nothing_folded,
    unreadable,
    why_not_fold,
    why_not_open,
)
from modelstore.verify.subject import Subject, VerifyOptions, look, look_at_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.connection import OpenDatabase
    from modelstore.verify.content import Content, Wanted


@dataclass(slots=True)
class _Run:
    """What one run gathers."""

    orders: VerifyOptions
    subject: Subject
    findings: list[Finding] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    before: Snapshot | None = None
    records: Records | None = None
    unfoldable: str | None = None  # why nothing may be folded, for all that was seen so far

    @property
    def wanted(self) -> Wanted:
        """The tables of which the content is compared."""
        return tables_to_compare(self.subject, self.orders)

    def wants(self, check: Check) -> bool:
        """Whether a check was asked for."""
        return check in self.orders.checks

    def take(self, findings: Iterable[Finding]) -> None:
        """Keep what checks found; those that were not asked for are left out."""
        self.findings += [finding for finding in findings if self.wants(finding.check)]

    @contextmanager
    def timed(self, check: Check) -> Iterator[None]:
        """Add the time of a block to that of a check."""
        begun = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - begun
            self.timings[check] = self.timings.get(check, 0.0) + spent

    @property
    def has_failed(self) -> bool:
        """Whether anything was found that fails."""
        return any(finding.severity == "fail" for finding in self.findings)


def verify(given: str, *, origin: str, orders: VerifyOptions) -> Verification:
    """Run the checks on a database. Raises `RefusedError` for one that is absent or refused.

    Raises `LockedError` where a lock of a rollback-mode database outlasts patience.
    """
    started = utc_now()
    begun = time.monotonic()
    subject = look(given, deep=orders.deep)
    run = _Run(orders, subject, unfoldable=why_not_fold(subject))
    run.timings["log"] = time.monotonic() - begun
    run.take(check_file(subject))
    run.take(check_log(subject, orders))
    if run.wants("environment"):
        with run.timed("environment"):
            run.take(check_environment(subject))
    _look_inside(run)
    if run.records is not None and run.wants("models"):
        _check_models(run, run.records)
    order = {check: place for place, check in enumerate(CHECKS)}
    return Verification(
        database=given,
        origin=origin,
        findings=tuple(sorted(run.findings, key=lambda finding: order[finding.check])),
        started=started,
        seconds=time.monotonic() - begun,
        timings={check: run.timings[check] for check in CHECKS if check in run.timings},
        strict=orders.strict,
        checkpoint=run.checkpoint,
    )


def _look_inside(run: _Run) -> None:
    """Let SQLite look at the database, where that may be; tell damage as what was found."""
    why = why_not_open(run.subject, run.orders)
    if why is not None:
        run.checkpoint = nothing_folded(run.subject, why)
        run.take(not_opened(run.subject, run.orders, why))
        return
    hot = run.subject.journal is not None and run.subject.journal.is_hot
    try:
        with open_database(
            run.subject.path,
            purpose=Purpose.READ,
            timeout=run.orders.timeout,
            fold=hot and run.orders.fold,
            check=is_catalogue,
        ) as reader:
            _read(run, reader)
            left = None
            if run.unfoldable is not None:
                _leave(run)
            else:
                left = _fold_and_compare(run, reader)
        if left is not None and run.wants("persistence"):
            _tell_unfolded(run, left)
    except (DamageError, RefusedError) as error:
        # What was refused before anything was found ends the run.
        if isinstance(error, RefusedError) and not run.has_failed:
            raise
        run.findings += unreadable(run.subject, run.orders, error)
        for check in ("integrity", "checkpoint", "persistence"):
            if not any(finding.check == check for finding in run.findings):
                run.take([not_checked(check, "the database cannot be read")])


def _read(run: _Run, reader: OpenDatabase) -> None:
    """Look at structure, content and records as readers of database and log see them."""
    orders = run.orders
    for warning in reader.warnings[len(reader.probe.warnings) :]:
        run.take([findings_of("file")("opened", "note", warning, reader.path)])
    if run.wants("integrity"):
        with run.timed("integrity"):
            found = list(check_integrity(reader, orders))
        run.take(found)
        if any(one.code in ("integrity.damaged", "integrity.malformed") for one in found):
            run.unfoldable = run.unfoldable or DAMAGED
    with _tolerant(run):
        if run.wants("models") and ownership(reader.conn) == "catalogue":
            run.records = read_records(reader.conn, orders.host)
    if orders.hash_files and run.records is None:
        run.take([not_checked("models", "there is no catalogue of models that can be read")])
    if orders.fold and run.subject.log.scan.max_frame and run.wants("persistence"):
        with _tolerant(run), run.timed("persistence"):
            run.before = Snapshot.take(reader, run.wanted, orders)


@contextmanager
def _tolerant(run: _Run) -> Iterator[None]:
    """Take a database that cannot be read for a damaged one, which must not be folded."""
    try:
        yield
    except sqlite3.Error as error:
        if is_busy(error):
            raise translate_sqlite_error(error, run.subject.path) or error from error
        run.unfoldable = run.unfoldable or DAMAGED


def _leave(run: _Run) -> None:
    """Say that nothing was folded, and look at what there is."""
    why = run.unfoldable or DAMAGED
    run.checkpoint = nothing_folded(run.subject, why)
    run.take([not_folded(why, run.subject.path), not_checked("persistence", why)])
    _expect_alone(run, None)


def _fold_and_compare(run: _Run, reader: OpenDatabase) -> str | None:
    """Fold, and look at the main file alone; return why that does not hold everything, if so."""
    orders, path = run.orders, run.subject.path
    opened = open_database(
        path,
        purpose=Purpose.READ,
        timeout=orders.timeout,
        fold=orders.fold,
        check=is_catalogue,
    )
    with opened, reader:  # `opened` is closed last, which removes a log that is empty
        with run.timed("checkpoint"):
            run.checkpoint, stuck = fold(opened, orders)
        run.take([check_checkpoint(run.checkpoint, path, stuck=stuck)])
        if run.wants("integrity"):
            with run.timed("integrity"):
                run.take(check_constraints(opened, orders))
        with run.timed("persistence"):
            is_whole = not stuck and opened.access != "copy"
            if is_whole and _compare(run, opened, reader, run.checkpoint):
                return None
            _expect_alone(run, opened.conn)
    return "the log could not be folded" if orders.fold else "the log was not folded"


def _tell_unfolded(run: _Run, why: str) -> None:
    """Look at the raw files once more, now that no connection is open."""
    path = run.subject.path
    with run.timed("persistence"):
        now = look_at_log(path) if run.orders.fold else run.subject.log
        run.take([unfolded(now, path, why)])


def _compare(run: _Run, opened: OpenDatabase, reader: OpenDatabase, checkpoint: Checkpoint) -> bool:
    """Compare the main file alone with what its readers see, while it holds still.

    Return whether there is anything to say: not where frames are left that nobody could fold.
    """
    before = run.before.content if run.before and run.before.is_still(reader) else None
    if opened.access == "immutable":
        _compare_with(run, opened.conn, opened.conn, before)
        return True
    try:
        with frozen_main(opened, run.orders.timeout) as holder:
            if holder is not None:
                with closing(connect(opened.path, "immutable")) as alone:
                    _compare_with(run, alone.conn, holder.conn, before)
                return True
    except sqlite3.Error as error:
        if not is_busy(error):
            raise translate_sqlite_error(error, opened.path) or error from error
    if checkpoint.left:
        return False
    run.take([not_still(opened.path)])
    if run.orders.expected is not None:
        seen = "in database and log together"
        run.take(check_expectations(run.orders.expected, opened.conn, None, seen))
    return True


def _compare_with(
    run: _Run, alone: sqlite3.Connection, holder: sqlite3.Connection, before: Content | None
) -> None:
    if run.wants("persistence"):
        run.take(compare(alone, holder, before, run.wanted, run.orders, run.subject.path))
    if run.orders.expected is not None:
        run.take(check_expectations(run.orders.expected, alone, None))


def _expect_alone(run: _Run, view: sqlite3.Connection | None) -> None:
    """Hold a main file that does not have everything against what is expected of it."""
    if run.orders.expected is not None:
        with closing(connect(run.subject.path, "immutable")) as alone:
            run.take(check_expectations(run.orders.expected, alone.conn, view))


def _check_models(run: _Run, records: Records) -> None:
    """Look at the files while no connection is open, however long it takes."""
    with run.timed("models"):
        found, new = check_models(records, run.orders)
        run.take(found)
        if new and run.orders.fold and run.unfoldable is None:
            trouble = record_hashes(run.subject.path, new, run.orders.timeout)
            run.take([trouble] if trouble is not None else [])
