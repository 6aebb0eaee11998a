"""The reasons why a database must not be opened or folded, as far as its raw files tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database.checkpoint import Checkpoint

if TYPE_CHECKING:
    from modelstore.verify.subject import Subject
    from modelstore.wal.inspection import Inspection


def why_not_open(subject: Subject) -> str | None:
    """Return the reason why not even a reader may open it: that would use up evidence."""
    if subject.gone is not None:
        return subject.gone.message
    if subject.has_hot_journal:
        return "a hot journal lies beside it"
    return next((reason.text for reason in subject.reasons if reason.is_elsewhere), None)


def why_not_fold(subject: Subject) -> str | None:
    """Return the reason why folding would destroy something."""
    if subject.gone is not None:
        return subject.gone.message
    if subject.reasons:
        return subject.reasons[0].text
    if subject.log.is_damaged:
        return "the log is damaged"
    return "the wal-index is wrong" if unheld_pages(subject.log) else None


def unheld_pages(log: Inspection) -> int:
    """Return the number of pages that the wal-index calls folded but the main file lacks.

    The WAL-reset bug leaves that behind: the next restart of the log loses these pages, while a
    recovery still finds them (sqlite.org/wal.html#walresetbug). The index counts only while a
    process is attached.
    """
    index, held = log.index, log.loss.held
    if index is None or not log.locks.attached or log.loss.raced or not log.has_database:
        return 0
    newest = log.scan.latest().values()
    return sum(
        frame <= index.backfill and frame <= len(held) and not held[frame - 1] for frame in newest
    )


def as_seen(subject: Subject, unfolded: Checkpoint) -> Checkpoint:
    """Return the figures of a log that was left as it is, by its pages where no process has it.

    An index that nobody holds counts every frame as not copied, whatever the main file has.
    """
    log = subject.log
    if log.index is not None or log.loss.raced or not subject.is_wal:
        return unfolded
    return unfolded._replace(
        log=log.scan.max_frame,
        checkpointed=log.checkpointed,
        left=log.pending,
        in_main_file=not log.pending,
    )


def nothing_folded(subject: Subject, why: str) -> Checkpoint:
    """Return the figures of a log that is left as it is, for the reason `why`."""
    log = subject.log
    return Checkpoint(
        mode="none",
        busy=log.is_busy,
        blockers=log.blockers,
        blockers_complete=log.locks.complete and subject.holders is not None,
        blockers_note=log.locks.note,
        unseen=subject.holders.unseen if subject.holders is not None else None,
        log=log.scan.max_frame,
        checkpointed=log.checkpointed,
        left=log.pending,
        wal_size_before=log.scan.size,
        wal_size_after=log.scan.size,
        in_main_file=not log.pending and not subject.reasons and subject.gone is None,
        forbidden=tuple(str(reason.code) for reason in subject.reasons),
        reason=f"nothing was folded: {why}",
    )
