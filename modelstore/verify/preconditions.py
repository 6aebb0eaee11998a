"""What keeps a database from being opened or folded, and how that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database.checkpoint import Checkpoint
from modelstore.finding import Check, Finding, findings_of

if TYPE_CHECKING:
    from modelstore.errors import ModelstoreError
    from modelstore.verify.subject import Subject, VerifyOptions
    from modelstore.wal.inspection import Inspection

DAMAGED = "the database with its log is damaged"


def why_not_fold(subject: Subject) -> str | None:
    """Return why folding would destroy something, as far as the raw files tell."""
    if subject.gone is not None:
        return "the log was deleted while in use"
    if subject.probe is not None and subject.probe.why_not_fold is not None:
        return subject.probe.why_not_fold
    if subject.log.is_damaged:
        return "the log is damaged"
    return "the wal-index is wrong" if unheld_pages(subject.log) else None


def unheld_pages(log: Inspection) -> int:
    """Return how many pages the wal-index calls folded that the main file lacks.

    That is what the WAL-reset bug leaves behind: the next restart of the log loses these pages,
    while a recovery would still find them (sqlite.org/wal.html#walresetbug). Only while a process
    is attached does the index count.
    """
    index, held = log.index, log.loss.held
    if index is None or not log.locks.attached or log.loss.raced or not log.has_database:
        return 0
    newest = log.scan.latest().values()
    return sum(
        frame <= index.backfill and frame <= len(held) and not held[frame - 1] for frame in newest
    )


def why_not_open(subject: Subject, orders: VerifyOptions) -> str | None:
    """Return why not even a reader may open it: that would use up what can still be saved."""
    if subject.gone is not None:
        return "the log was deleted while in use"
    hot = subject.journal is not None and subject.journal.is_hot
    return "a hot journal lies beside it" if hot and (subject.is_wal or not orders.fold) else None


def not_opened(subject: Subject, orders: VerifyOptions, why: str) -> list[Finding]:
    """Return what is left to say of a database that was not opened."""
    found = []
    if subject.gone is None:
        found.append(
            findings_of("persistence")(
                "hot-journal",
                "fail",
                "the main file alone may be in the middle of a transaction, which only its journal "
                "takes back",
                subject.path,
                "never delete the journal; the next opening of the database uses it up",
            )
        )
    checks: list[Check] = ["integrity", "checkpoint"]
    checks += ["persistence"] if subject.gone is not None else []
    checks += ["expectations"] if orders.expected is not None else []
    return found + [not_checked(check, why) for check in checks]


def not_checked(check: Check, why: str) -> Finding:
    """Return that a check was not made."""
    return findings_of(check)("not-checked", "note", f"not checked: {why}")


def nothing_folded(subject: Subject, why: str) -> Checkpoint:
    """Return the numbers of a log that is left as it is."""
    log = subject.log
    return Checkpoint(
        mode="none",
        busy=log.is_busy,
        blockers=log.blockers,
        blockers_complete=log.locks.complete,
        blockers_note=log.locks.note,
        log=log.scan.max_frame,
        checkpointed=log.checkpointed,
        left=log.pending,
        wal_size_before=log.scan.size,
        wal_size_after=log.scan.size,
        in_main_file=not log.pending,
        reason=f"nothing was folded: {why}",
    )


def unreadable(subject: Subject, orders: VerifyOptions, error: ModelstoreError) -> list[Finding]:
    """Return that SQLite cannot read the database at all."""
    found = [findings_of("file")("unreadable", "fail", error.message, subject.path, error.hint)]
    if orders.expected is not None:
        words = "what is expected cannot be found: the database cannot be read"
        found.append(findings_of("expectations")("unreadable", "fail", words, subject.path))
    return found
