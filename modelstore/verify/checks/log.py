"""The log before anything is folded: its faults, and the content that it alone holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database import evidence
from modelstore.database.holders import HolderProblem
from modelstore.finding import Finding
from modelstore.text import human_bytes, plural, process_name
from modelstore.verify.check import Check, Run
from modelstore.verify.loss_summary import TORN, at_risk, is_many, loss_data, where_lost
from modelstore.verify.preconditions import unheld_pages, why_not_fold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.check import VerifyOptions
    from modelstore.verify.subject import Subject
    from modelstore.wal.inspection import Inspection

_KEEP = (
    "fold nothing and delete nothing: keep the database and its -wal; `modelstore recover DATABASE "
    "--into NEW.db` writes what both hold to a new file"
)

_PENDING = (
    "let the application checkpoint, or run `modelstore checkpoint` after it; until then a copy or "
    "mount of the .db alone lacks this"
)
_FIRST = "do not delete the -wal, and do not fold it as it is: follow the other advice on it first"


def _check(run: Run) -> Iterator[Finding]:
    """Yield the faults of the log, or else its content."""
    subject = run.subject
    if subject.gone is not None:
        gone = subject.gone
        yield Finding("log.deleted", "fail", gone.message, subject.log_path, gone.hint)
        return
    yield from _evidence(subject)
    yield from _gone_frames(subject)
    problems = [*_damage(subject), *_wrong_index(subject)]
    yield from problems or _content(subject, run.options)


_GONE = frozenset((HolderProblem.OTHER_LOG, evidence.LOG_REPLACED))
_IN_OWN_WORDS = frozenset((evidence.FOREIGN_LOG, evidence.DAMAGED_LOG, evidence.HOT_JOURNAL))


def _evidence(subject: Subject) -> Iterator[Finding]:
    """Yield the evidence against a fold: other processes, and files that contradict each other."""
    for reason in subject.reasons:
        if reason.code not in _IN_OWN_WORDS:
            where = process_name(reason.pid) if reason.pid is not None else subject.log_path
            data = reason.as_json()
            code = "log.deleted" if reason.code in _GONE else f"log.{reason.code}"
            yield Finding(code, "fail", reason.text, where, reason.hint, data)


def _damage(subject: Subject) -> Iterator[Finding]:
    found = subject.log
    scan, foreign = found.scan, subject.probe.foreign if subject.probe is not None else None
    if foreign is not None:
        yield Finding(
            "log.foreign",
            "fail",
            f"the log does not belong to this database: {foreign}",
            subject.log_path,
            _hint(subject, evidence.FOREIGN_LOG),
        )
    if found.is_damaged and found.loss.live_problem is not None:
        yield Finding(
            "log.unreadable",
            "fail",
            f"the database with its log cannot be read: {found.loss.live_problem}",
            subject.log_path,
            subject.reasons[0].hint if subject.reasons else _KEEP,
        )
    if _is_cut_short(found) and not found.loss.raced:
        commits = plural(scan.later_commits, "commit")
        what = (
            f"the header of the log is damaged ({scan.fault.value}): SQLite would silently drop "
            f"all of it, {commits}"
            if scan.fault is not None
            else f"frame {scan.valid + 1:,} of the log is damaged: SQLite would silently drop it "
            f"and the {commits} that follow"
        )
        yield Finding(
            "log.damaged",
            "fail",
            what,
            subject.log_path,
            _hint(subject, evidence.DAMAGED_LOG),
            {
                "valid": scan.valid,
                "later_commits": scan.later_commits,
                "ignored_frames": scan.ignored_frames,
                "ignored_commits": scan.ignored_commits,
            },
        )


def _hint(subject: Subject, code: str) -> str:
    """Return the advice of the evidence of this code, so that one report gives one advice."""
    return next((reason.hint for reason in subject.reasons if reason.code == code), _KEEP)


def _is_cut_short(found: Inspection) -> bool:
    return found.scan.is_damaged_for(found.index) and not found.loss.ends_cleanly


def _wrong_index(subject: Subject) -> Iterator[Finding]:
    pages = unheld_pages(subject.log)
    if pages:
        yield Finding(
            "log.wrong-index",
            "fail",
            f"the wal-index says that all up to frame {subject.log.checkpointed:,} is folded, but "
            f"the main file lacks {plural(pages, 'page')} of it: the next restart of the log loses "
            f"{at_risk(subject.log) or 'them'}",
            subject.log_path,
            "save the database and its -wal first, then kill all processes that have it open: "
            "the next opening recovers the whole log (sqlite.org/wal.html#walresetbug)",
            {"pages": pages, **loss_data(subject.log.loss)},
        )


def _gone_frames(subject: Subject) -> Iterator[Finding]:
    """Yield the frames that the -shm knows of, if their -wal is gone."""
    found = subject.probe
    if found is None or found.wal_size or found.attached is not False or found.wal_index is None:
        return
    index = found.wal_index
    if not (index.is_settled and index.pending):
        return
    is_absent = found.wal_size is None
    yield Finding(
        "log.gone",
        "warn" if is_absent else "note",
        f"the -shm, which no process holds, counts {plural(index.max_frame, 'frame')}, "
        f"{index.backfill:,} of them folded, but the -wal is {'absent' if is_absent else 'empty'}: "
        "if something deleted frames, their content is lost; after a power cut all of it may be in "
        "the main file",
        subject.log_path,
        "compare the rows with what you expect (--expect-count); if some are missing, look for the "
        "-wal or a backup of it: a clean-up job, a copy or a mount of the .db alone leaves it out",
        {
            "max_frame": index.max_frame,
            "backfill": index.backfill,
            "page_count": index.page_count,
        },
    )


def _content(subject: Subject, options: VerifyOptions) -> Iterator[Finding]:
    found = subject.log
    scan, loss = found.scan, found.loss
    if not scan.max_frame:
        yield _nothing(subject)
        return
    data = {"frames": scan.max_frame, "checkpointed": found.checkpointed, **loss_data(loss)}
    risk = at_risk(found)
    frames = plural(scan.max_frame, "frame")
    if loss.raced:
        yield Finding(
            "log.raced",
            "warn",
            f"the files changed during each of {loss.attempts} looks: what only the WAL has "
            f"({frames}) is unknown",
            subject.log_path,
            "verify while less is written",
        )
        return
    if risk is None:
        yield Finding(
            "log.folded",
            "pass",
            f"{frames}, and the main file has the newest version of each of "
            f"{'its' if scan.max_frame == 1 else 'their'} pages",
            subject.log_path,
            None,
            data,
        )
        return
    only = f"{risk} {'are' if is_many(found) else 'is'} only in the WAL ({frames})"
    lost = ""  # persistence names them where they stay there
    if options.fold:
        verb = "were" if is_many(found) else "was"
        only = f"{risk} {verb} only in the WAL before this run ({frames})"
        lost = where_lost(found)
    yield Finding(
        "log.pending",
        "warn",
        only + (f": {lost}" if lost else ""),
        subject.log_path,
        _PENDING if why_not_fold(subject) is None else _FIRST,
        data,
    )
    is_malformed = any(reason.code == evidence.MALFORMED for reason in subject.reasons)
    if loss.main.state in TORN and not is_malformed:  # else not even its -wal makes it whole
        yield Finding(
            "log.torn",
            "warn",
            "a checkpoint may have copied the log in part: only together with its -wal is the "
            "main file certainly whole",
            subject.log_path,
            "never delete the -wal: that may corrupt the database, not merely lose rows",
        )


def _nothing(subject: Subject) -> Finding:
    scan, found = subject.log.scan, subject.probe
    left = scan.torn + scan.stale + scan.uncommitted
    if scan.size and scan.fault is not None and scan.header is not None:
        reason = f"nothing can be read from it ({scan.fault.value}), and no commit is behind that"
        return Finding("log.empty", "note", f"{human_bytes(scan.size)}; {reason}", subject.log_path)
    if left:
        what = f"no committed frame, {plural(left, 'frame')} left over from before"
        return Finding("log.empty", "pass", what, subject.log_path)
    if found is not None and not found.is_wal and found.header is not None:
        return Finding(
            "log.none", "pass", "no log: the database is not in WAL mode", subject.log_path
        )
    return Finding("log.empty", "pass", "the log is empty", subject.log_path)


CHECK = Check(
    name="log",
    title="what the WAL held before anything was folded",
    order=20,
    raw=_check,
)
