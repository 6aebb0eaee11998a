"""One verification: the checks in an order in which none destroys what a later one should see.

First everything is read raw, before SQLite opens the database in this process. Then a reader that
folds nothing looks at structure and content. Only what came out whole is folded, and compared.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelstore.errors import DamageError, RefusedError
from modelstore.store.access import connect
from modelstore.store.checkpoint import Checkpoint
from modelstore.store.connection import Purpose, open_database
from modelstore.store.failures import explain, is_busy
from modelstore.store.opening import log_trouble
from modelstore.store.proof import frozen_main
from modelstore.store.schema import ownership
from modelstore.store.sqlite import sqlite3
from modelstore.verify.content import Content, Wanted, read_content
from modelstore.verify.environment import check_environment
from modelstore.verify.expectations import check_expectations
from modelstore.verify.file import check_file
from modelstore.verify.finding import CHECKS, Check, Finding, Verification
from modelstore.verify.folding import check_checkpoint, fold, not_folded
from modelstore.verify.integrity import check_integrity
from modelstore.verify.log import check_log
from modelstore.verify.models import Records, check_models, read_records
from modelstore.verify.persistence import compare, not_still, tables_to_compare, unfolded
from modelstore.verify.recording import record_hashes
from modelstore.verify.subject import Orders, Subject, look
from modelstore.wal.inspection import inspect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.store.connection import OpenDatabase


_DAMAGED = "the database with its log is damaged"


@dataclass(slots=True)
class _Run:
    """What one run gathers."""

    orders: Orders
    subject: Subject
    findings: list[Finding] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    before: Content | None = None
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

    def not_checked(self, check: Check, why: str) -> None:
        """Say why a check was not made."""
        self.take([_note(f"{check}.not-checked", check, f"not checked: {why}")])


def verify(given: str, *, origin: str, orders: Orders) -> Verification:
    """Run the checks on a database. Raises `RefusedError` for one that is absent or refused.

    Raises `LockedError` where a lock of a rollback-mode database outlasts patience.
    """
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    begun = time.monotonic()
    subject = look(given, deep=orders.deep)
    run = _Run(orders, subject)
    run.timings["log"] = time.monotonic() - begun
    run.take(check_file(subject))
    run.take(check_log(subject, orders))
    if run.wants("environment"):
        with run.timed("environment"):
            run.take(check_environment(subject))
    run.unfoldable = _why_not_fold(subject)
    if _may_open(run):
        try:
            _read_all(run)
            _fold_and_compare(run)
        except (DamageError, RefusedError) as error:
            _cannot_open(run, error)
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


def _note(code: str, check: Check, measured: str) -> Finding:
    return Finding(code=code, check=check, severity="note", measured=measured)


def _why_not_fold(subject: Subject) -> str | None:
    if subject.gone is not None:
        return "the log was deleted while in use"
    if subject.probe is not None and subject.probe.must_not_fold:
        return log_trouble(subject.probe)
    if subject.log.is_damaged:
        return "the log is damaged"
    return None


def _nothing_folded(subject: Subject, why: str) -> Checkpoint:
    """Return the numbers of a log that is left as it is."""
    log = subject.log
    return Checkpoint(
        mode="none",
        log=log.scan.committed,
        checkpointed=log.checkpointed,
        left=log.pending,
        wal_size_before=log.scan.size,
        wal_size_after=log.scan.size,
        in_main_file=not log.pending,
        reason=f"nothing was folded: {why}",
    )


def _may_open(run: _Run) -> bool:
    """Whether SQLite may open the database at all; if not, say what was left out."""
    subject, journal = run.subject, run.subject.journal
    hot = journal is not None and journal.is_hot
    if not subject.must_not_open and not (hot and not run.orders.fold):
        return True
    run.checkpoint = _nothing_folded(subject, run.unfoldable or "it was not opened")
    why = "the log was deleted while in use" if subject.gone else "a hot journal lies beside it"
    if subject.gone is None and not subject.is_wal:
        run.take(
            [
                Finding(
                    code="persistence.hot-journal",
                    check="persistence",
                    severity="fail",
                    measured="the main file alone is in the middle of a transaction, which only "
                    "its journal can take back",
                    where=subject.path,
                    advice="never delete the journal; any opening of the database uses it up",
                )
            ]
        )
    for check in ("integrity", "checkpoint", "persistence", "expectations"):
        if check != "expectations" or run.orders.expected is not None:
            run.not_checked(check, why)
    return False


def _cannot_open(run: _Run, error: DamageError | RefusedError) -> None:
    """Tell damage as what was found; what was refused before anything was found ends the run."""
    found = any(finding.severity == "fail" for finding in run.findings)
    if isinstance(error, RefusedError) and not found:
        raise error
    damage = Finding(
        code="file.unreadable",
        check="file",
        severity="fail",
        measured=error.message,
        where=run.subject.path,
        advice=error.hint,
    )
    run.findings.append(damage)
    for check in ("integrity", "checkpoint", "persistence"):
        if not any(finding.check == check for finding in run.findings):
            run.not_checked(check, "the database cannot be read")
    if run.orders.expected is not None:
        run.take(
            [
                Finding(
                    code="expectations.unreadable",
                    check="expectations",
                    severity="fail",
                    measured="what is expected cannot be found: the database cannot be read",
                    where=run.subject.path,
                )
            ]
        )


def _read_all(run: _Run) -> None:
    """Look at structure, content and records as readers of database and log see them."""
    orders, subject = run.orders, run.subject
    hot = subject.journal is not None and subject.journal.is_hot
    with open_database(
        subject.path, purpose=Purpose.READ, timeout=orders.timeout, fold=hot and orders.fold
    ) as opened:
        for warning in opened.warnings[len(opened.probe.warnings) :]:
            run.take([_note("file.opened", "file", warning)])
        if run.wants("integrity"):
            with run.timed("integrity"):
                found = list(check_integrity(opened, orders))
            run.take(found)
            if any(one.code in ("integrity.damaged", "integrity.malformed") for one in found):
                run.unfoldable = run.unfoldable or _DAMAGED
        with _tolerant(run):
            if run.wants("models") and ownership(opened.conn) == "catalogue":
                run.records = read_records(opened.conn, orders.host)
        if orders.fold and subject.log.scan.committed and run.wants("persistence"):
            with _tolerant(run), run.timed("persistence"), orders.watching("rows") as tick:
                run.before = read_content(opened.conn, run.wanted, tick)
    if orders.hash_files and run.records is None:
        run.not_checked("models", "this database is no catalogue of models that can be read")


@contextmanager
def _tolerant(run: _Run) -> Iterator[None]:
    """Take a database that cannot be read for a damaged one, which must not be folded."""
    try:
        yield
    except sqlite3.Error as error:
        if is_busy(error):
            raise explain(error, run.subject.path) or error from error
        run.unfoldable = run.unfoldable or _DAMAGED


def _fold_and_compare(run: _Run) -> None:
    """Fold what may be folded, and look at the main file alone."""
    orders, path = run.orders, run.subject.path
    if run.unfoldable is not None:
        run.checkpoint = _nothing_folded(run.subject, run.unfoldable)
        run.take([not_folded(run.unfoldable, path)])
        run.not_checked("persistence", run.unfoldable)
        _expect_alone(run, None)
        return
    with open_database(
        path, purpose=Purpose.READ, timeout=orders.timeout, fold=orders.fold
    ) as opened:
        with run.timed("checkpoint"):
            run.checkpoint = fold(opened, orders)
        run.take([check_checkpoint(run.checkpoint, path)])
        is_whole = run.checkpoint.left == 0 and opened.access != "copy"
        with run.timed("persistence"):
            if is_whole:
                _compare(run, opened)
            else:
                _expect_alone(run, opened.conn)
    if not is_whole and run.wants("persistence"):
        with run.timed("persistence"):
            why = "the log could not be folded" if orders.fold else "the log was not folded"
            now = inspect(path, names=("models", "name")) if orders.fold else run.subject.log
            run.take([unfolded(now, path, why)])


def _compare(run: _Run, opened: OpenDatabase) -> None:
    """Compare the main file alone with what its readers see, while it holds still."""
    if opened.access == "immutable":
        _compare_with(run, opened.conn, opened.conn)
        return
    try:
        with frozen_main(opened, run.orders.timeout) as holder:
            if holder is not None:
                with closing(connect(opened.path, "immutable")) as alone:
                    _compare_with(run, alone, holder)
                return
    except sqlite3.Error as error:
        if not is_busy(error):
            raise explain(error, opened.path) or error from error
    run.take([not_still(opened.path)])
    if run.orders.expected is not None:
        seen = "in database and log together"
        run.take(check_expectations(run.orders.expected, opened.conn, None, seen))


def _compare_with(run: _Run, alone: sqlite3.Connection, holder: sqlite3.Connection) -> None:
    if run.wants("persistence"):
        run.take(compare(alone, holder, run.before, run.wanted, run.orders, run.subject.path))
    if run.orders.expected is not None:
        run.take(check_expectations(run.orders.expected, alone, None))


def _expect_alone(run: _Run, view: sqlite3.Connection | None) -> None:
    """Hold a main file that does not have everything against what is expected of it."""
    if run.orders.expected is not None:
        with closing(connect(run.subject.path, "immutable")) as alone:
            run.take(check_expectations(run.orders.expected, alone, view))


def _check_models(run: _Run, records: Records) -> None:
    """Look at the files while no connection is open, however long it takes."""
    with run.timed("models"):
        found, new = check_models(records, run.orders)
        run.take(found)
        if new and run.orders.fold and run.unfoldable is None:
            trouble = record_hashes(run.subject.path, new, run.orders.timeout)
            run.take([trouble] if trouble is not None else [])
