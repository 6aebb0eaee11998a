"""The meaning of a log in plain sentences, each with a stable code: what the report claims.

A sentence says "the same" only of bytes that were compared, "lost" only of what no file has, and
"damaged" only of what was read in peace. Tests hold each claim to its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.text import plural
from modelstore.wal.format import WalFault
from modelstore.wal.loss_report import Fate
from modelstore.wal.main_file import MainState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.render.grid import Tone
    from modelstore.wal.frames import WalScan
    from modelstore.wal.inspection import Inspection, MainCheck
    from modelstore.wal.loss_report import LossReport, TableLoss

FATES = {
    Fate.STAYS: "stays",
    Fate.VANISHES: "would vanish",
    Fate.RETURNS: "would come back",
    Fate.RENAMED: "would get its former name back",
    Fate.REVERTS: "would revert to its former definition",
}
_NAMED = 6  # changes in a sentence


class Claim(Enum):
    """A claim that a sentence makes; the value is its stable code in JSON."""

    RACED = "raced"
    FOREIGN = "log-foreign"
    OLDER = "log-older"
    USED_ELSEWHERE = "used-elsewhere"
    MALFORMED = "malformed"
    HOT_JOURNAL = "hot-journal"
    MAIN_DAMAGED = "main-damaged"
    LOG_EMPTY = "log-empty"
    LOG_NEWER = "log-newer"
    LOG_HEADER_DAMAGED = "log-header-damaged"
    LOG_DAMAGED = "log-damaged"
    UNREADABLE_WITH_LOG = "unreadable-with-log"
    ENCRYPTED = "encrypted"
    NO_DATABASE = "no-database"
    NOTHING_COMMITTED = "nothing-committed"
    SAME = "in-main-file"
    PAGES_SAME = "pages-same"
    ROWS_DIFFER = "rows-differ"
    SCHEMA_DIFFERS = "schema-differs"
    NO_ROW_DIFFERS = "no-row-differs"
    UNKNOWN = "loss-unknown"
    UNREADABLE_ALONE = "unreadable-alone"
    MIXED = "main-mixed"
    TORN = "main-torn"
    IN_USE = "in-use"
    ALONE_SOUND = "main-alone-sound"
    ALONE_DAMAGED = "main-alone-damaged"
    ALONE_UNKNOWN = "main-alone-unknown"
    LOG_HOLDS_ALL = "log-holds-all"
    RECOVER = "recover"


_CLAIMS = {
    "foreign-log": Claim.FOREIGN,
    "older-log": Claim.OLDER,
    "malformed": Claim.MALFORMED,
    "damaged-log": None,  # the scan of the log says it
    "hot-journal": Claim.HOT_JOURNAL,
}
"""The claim of each code of a contradiction; any other code is of a process."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the report and the claim that it makes."""

    claim: Claim
    text: str
    tone: Tone = ""


def statements(found: Inspection) -> Iterator[Statement]:
    """Yield the meaning of the log, the worst first."""
    yield from _warnings(found)
    scan = found.scan
    if scan.header is None or (scan.fault is not None and not found.is_damaged):
        yield from _unread(found)
    elif found.loss.encrypted:
        commits = plural(scan.commit_count, "commit")
        yield Statement(
            Claim.ENCRYPTED,
            f"The database is encrypted: {plural(found.pending, 'frame')} in {commits} pending, "
            "contents unreadable.",
            "warn",
        )
    else:
        yield from _damage(found)
        yield from _loss(found)
    yield from _in_use(found)
    yield from _main_check(found)
    yield from _ways_back(found)


def _warnings(found: Inspection) -> Iterator[Statement]:
    """Yield the reasons to trust nothing else too far."""
    for contradiction in found.contradictions:
        claim = _CLAIMS.get(contradiction.code, Claim.USED_ELSEWHERE)
        if claim is not None:
            text = f"{contradiction.text[:1].upper()}{contradiction.text[1:]}."
            yield Statement(claim, f"{text} To do: {contradiction.hint}.", "bad")
    is_said = any(said.code == "hot-journal" for said in found.contradictions)
    if found.has_hot_journal and not is_said:
        yield Statement(
            Claim.HOT_JOURNAL,
            "A hot rollback journal lies beside the database: the next program that opens the "
            "database takes a transaction back with it. Never delete it; but put it aside if the "
            "database was restored from a backup since.",
            "bad",
        )
    if found.loss.raced:
        yield Statement(
            Claim.RACED,
            f"The files changed during each of {found.loss.attempts} looks: the figures may be "
            "off, and nothing here proves damage.",
            "warn",
        )
    if found.main_problem is not None:
        yield Statement(
            Claim.MAIN_DAMAGED, f"The database is damaged: {found.main_problem}.", "bad"
        )


def _unread(found: Inspection) -> Iterator[Statement]:
    """Yield the state of a log without a header that SQLite accepts, and without commits."""
    scan = found.scan
    if scan.fault is WalFault.NEWER_VERSION and scan.header is not None:
        yield Statement(
            Claim.LOG_NEWER,
            f"The WAL has format version {scan.header.version}, which no SQLite known to this "
            "program opens: its frames were not read, and what would be lost without them is "
            "unknown.",
            "bad",
        )
    elif scan.fault_hides_frames and scan.fault is not None:
        yield Statement(
            Claim.LOG_HEADER_DAMAGED,
            f"The header of the WAL is damaged: {scan.fault.value}. No commit was found behind it.",
            "warn",
        )
    else:
        reason = scan.fault.value if scan.fault is not None else "it is empty"
        tone: Tone = "" if scan.size == 0 else "warn"
        yield Statement(Claim.LOG_EMPTY, f"Nothing is in the WAL: {reason}.", tone)


def _damage(found: Inspection) -> Iterator[Statement]:
    """Yield the damage that SQLite would hide."""
    scan = found.scan
    if not found.is_damaged:
        return
    intact = scan.ignored_frames
    are_intact = f" {plural(intact, 'frame')} behind that {'is' if intact == 1 else 'are'} intact."
    if scan.fault is not None:
        yield Statement(
            Claim.LOG_HEADER_DAMAGED,
            f"The header of the WAL is damaged: {scan.fault.value}. SQLite will silently ignore "
            f"all of it, {plural(scan.later_commits, 'commit')}.{are_intact if intact else ''}",
            "bad",
        )
    elif scan.is_damaged:
        count = scan.later_commits
        commits = "commit" if count == 1 else f"{count:,} commits"
        yield Statement(
            Claim.LOG_DAMAGED,
            f"Frame {scan.valid + 1:,} is damaged. SQLite will silently ignore it and the "
            f"{commits} after it.{are_intact if intact else ''}",
            "bad",
        )
    if found.has_database and found.loss.live_problem is not None:
        yield Statement(
            Claim.UNREADABLE_WITH_LOG,
            f"The database with this log cannot be read: {found.loss.live_problem}.",
            "bad",
        )


def _loss(found: Inspection) -> Iterator[Statement]:
    """Yield the loss if the log vanished now."""
    scan, loss = found.scan, found.loss
    if not found.has_database:
        frames = plural(scan.max_frame, "committed frame")
        yield Statement(
            Claim.NO_DATABASE, f"There is no database beside this log, which has {frames}.", "warn"
        )
        return
    if not scan.max_frame:
        yield from _nothing_committed(found)
        return
    if loss.live_problem is not None and not loss.raced:
        return  # the damage says it
    if found.nothing_lost:
        yield Statement(
            Claim.SAME,
            f"{_frames_in(scan)}, and the main file has the newest version of each of "
            f"{'its' if scan.max_frame == 1 else 'their'} pages: nothing would be lost without it.",
            "good",
        )
    elif loss.is_known and not (loss.differing or loss.file_differences):
        before = " before the damage" if found.is_damaged else ""
        yield Statement(
            Claim.PAGES_SAME,
            f"The main file has the newest version of each page in the "
            f"{plural(scan.max_frame, 'frame')}{before}.",
        )
    elif not loss.is_known:
        yield _unknown(loss)
    elif loss.has_row_changes or loss.has_schema_changes:
        claim = Claim.ROWS_DIFFER if loss.has_row_changes else Claim.SCHEMA_DIFFERS
        yield Statement(claim, f"{_only_in_log(found)} {_losses(found)}".strip(), "bad")
    else:
        yield from _no_row_differs(found)
    if not loss.raced and not any(c.code == "malformed" for c in found.contradictions):
        yield from _torn(found)


def _torn(found: Inspection) -> Iterator[Statement]:
    """Yield the danger of a main file that may mix two states."""
    state, check = found.loss.main.state, found.main_check
    if state is MainState.TORN:
        yield Statement(
            Claim.TORN,
            "The main file lacks pages, or has pages that no commit wrote: only together with its "
            "-wal can it be whole. Never delete the -wal.",
            "bad",
        )
    elif state is MainState.MIXED and check is not None and _finds_all_sound(check):
        yield Statement(
            Claim.MIXED,
            "A checkpoint may have copied the log in part: without its -wal, the main file may "
            "have a part of a transaction.",
            "warn",
        )
    elif state is MainState.MIXED:
        yield Statement(
            Claim.MIXED,
            "A checkpoint may have copied the log in part: only together with its -wal is the main "
            "file certainly whole. Deleting the -wal may corrupt it, not merely lose rows.",
            "bad",
        )


def _finds_all_sound(check: MainCheck) -> bool:
    return check.is_still and not check.problem and not check.unchecked


def _in_use(found: Inspection) -> Iterator[Statement]:
    """Warn against deleting a log that holds nothing yet, or nothing more."""
    has_log = found.scan.fault is not WalFault.ABSENT
    if found.nothing_lost and has_log and found.locks.attached:
        yield Statement(
            Claim.IN_USE,
            "The database is in use: never delete its -wal, or the next commit is lost with it.",
            "warn",
        )


def _unknown(loss: LossReport) -> Statement:
    problem = loss.main.problem
    if problem is not None and not loss.raced and not loss.main.readable:
        text = f"Without its WAL, the database cannot be read whole: {problem}."
        return Statement(Claim.UNREADABLE_ALONE, text, "bad")
    return Statement(Claim.UNKNOWN, "What would be lost without the WAL is unknown.", "warn")


def _main_check(found: Inspection) -> Iterator[Statement]:
    """Yield SQLite's verdict on the whole main file, if it was asked."""
    check = found.main_check
    if check is None:
        return
    if not check.is_still:
        yield Statement(
            Claim.ALONE_UNKNOWN,
            "The main file was written while SQLite checked it alone, which proves nothing.",
            "warn",
        )
    elif check.problem is None and check.unchecked:
        yield Statement(
            Claim.ALONE_UNKNOWN,
            "SQLite's integrity_check finds no fault in the main file alone, and could not check "
            f"{_listed(list(check.unchecked))}.",
            "warn",
        )
    elif check.problem is None:
        yield Statement(
            Claim.ALONE_SOUND, "SQLite's integrity_check finds no fault in the main file alone."
        )
    elif found.main_problem is None:
        yield Statement(
            Claim.ALONE_DAMAGED,
            f"SQLite's integrity_check of the main file alone fails: {check.problem}.",
            "bad",
        )


def _nothing_committed(found: Inspection) -> Iterator[Statement]:
    words = "No committed frame is in the WAL"
    if found.nothing_lost:
        yield Statement(
            Claim.NOTHING_COMMITTED, f"{words}: nothing would be lost without it.", "good"
        )
    elif not found.is_damaged:
        yield Statement(Claim.NOTHING_COMMITTED, f"{words}.", "")


def _no_row_differs(found: Inspection) -> Iterator[Statement]:
    """Yield the differences of a main file in which every row that was compared is the same."""
    loss = found.loss
    differences = [difference.words for difference in loss.file_differences]
    if not found.is_exact:
        yield Statement(
            Claim.UNKNOWN,
            f"{_lacking(loss)} What would be lost without the WAL is not known for certain.",
            "bad",
        )
        return
    yield Statement(
        Claim.NO_ROW_DIFFERS,
        f"{_lacking(loss)} No row differs, but the file does: {_listed(differences)}.",
        "bad",
    )


def _lacking(loss: LossReport) -> str:
    pages = plural(loss.differing, "page")
    return f"{_frames_in(loss.scan)}, and the main file lacks the newest version of {pages}."


def _frames_in(scan: WalScan) -> str:
    return f"{plural(scan.max_frame, 'frame')} {'is' if scan.max_frame == 1 else 'are'} in the WAL"


def _listed(parts: list[str]) -> str:
    tail = f"; and {len(parts) - _NAMED} more" if parts[_NAMED:] else ""
    return "; ".join(parts[:_NAMED]) + tail


def _only_in_log(found: Inspection) -> str:
    loss = found.loss
    rows = loss.lost + loss.reverted
    if loss.main.state is MainState.FOREIGN:  # it may have the rows, but not their schema
        return f"{_frames_in(loss.scan)}, and without the WAL the main file is not a database."
    if not rows:
        return _lacking(loss)
    at_least = "" if found.is_exact else "at least "
    verb = "is" if rows == 1 else "are"
    words = f"{at_least.capitalize()}{plural(rows, 'row')} in {plural(found.pending, 'frame')}"
    return f"{words} {verb} only in the WAL."


def _losses(found: Inspection) -> str:
    loss = found.loss
    parts = [part for table in loss.tables for part in _table_losses(table)]
    named = {table.name for table in loss.tables if table.fate is not Fate.STAYS}
    named |= {table.former_name for table in loss.tables if table.former_name}
    parts += [
        f"{c.type} {c.name} {FATES[c.fate]}"
        for c in loss.schema_changes
        if c.type != "table" or c.name not in named
    ]
    parts += [
        difference.words for difference in loss.file_differences if difference.kind.is_setting
    ]
    if not parts:
        return "" if found.is_exact else "What would be lost without it is not known for certain."
    return f"Without it, {_listed(parts)}."


def _table_losses(table: TableLoss) -> Iterator[str]:
    if table.fate is Fate.RENAMED:
        yield f"{table.name} gets its former name {table.former_name} back"
    if table.fate is Fate.VANISHES:
        has_rows = table.lost.count or not table.is_exact
        what = f" with {plural(table.lost.count, 'row')}" if has_rows else ", which is empty"
        yield f"{table.name} vanishes{what}"
    elif table.lost.count:
        yield f"{table.name} loses {plural(table.lost.count, 'row')}"
    if table.reverted.count:
        verb = "reverts" if table.reverted.count == 1 else "revert"
        yield f"{plural(table.reverted.count, 'row')} of {table.name} {verb} to older content"
    if table.fate is Fate.RETURNS:
        has_rows = table.returning.count or not table.is_exact
        rows = plural(table.returning.count, "deleted row")
        yield f"{table.name} comes back{f' with {rows}' if has_rows else ', which is empty'}"
    elif table.returning.count:
        verb = "comes" if table.returning.count == 1 else "come"
        yield f"{plural(table.returning.count, 'deleted row')} of {table.name} {verb} back"
    if table.problem:
        yield f"{table.name} cannot be compared ({table.problem})"


def _ways_back(found: Inspection) -> Iterator[Statement]:
    """Yield the parts that are still there of a database that SQLite cannot read whole."""
    loss, scan = found.loss, found.scan
    if loss.raced or loss.encrypted:
        return
    is_broken = not found.has_database or loss.main.is_no_database or found.is_damaged
    if not is_broken or not (scan.max_frame or scan.ignored_frames):
        return
    if loss.holds_all_pages:
        yield Statement(
            Claim.LOG_HOLDS_ALL,
            f"The log has all {plural(scan.page_count, 'page')} of the database up to its last "
            "commit.",
        )
    yield Statement(
        Claim.RECOVER,
        "Keep the files as they are; `modelstore recover DATABASE --into NEW.db` writes what they "
        "hold to a new file.",
    )
