"""What a WAL means, in lines that need no explanation: the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.text import plural
from modelstore.wal.lossreport import Fate
from modelstore.wal.mainfile import MainState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.render.grid import Tone
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.lossreport import LossReport, TableLoss

FATES = {
    Fate.STAYS: "stays",
    Fate.VANISHES: "would vanish",
    Fate.RETURNS: "would come back",
    Fate.RENAMED: "would get its former name back",
    Fate.REVERTS: "would revert to its former definition",
}


def state_lines(found: Inspection) -> Iterator[tuple[str, Tone]]:
    """Yield what the log means, the worst first, in words that need no explanation."""
    scan, loss = found.scan, found.loss
    if loss.raced:
        yield "The files changed while they were read, again and again: figures may be off.", "warn"
    if found.main_problem is not None:
        yield f"The database is damaged: {found.main_problem}.", "bad"
    if scan.header is None or (scan.fault is not None and not found.is_damaged):
        reason = scan.fault.value if scan.fault is not None else "it is empty"
        yield f"Nothing is in the WAL: {reason}.", "" if _is_quiet(found) else "warn"
        return
    if found.is_damaged:
        yield from _damage(found)
    if not found.has_database:
        yield (
            f"There is no database beside this log: {plural(scan.committed, 'frame')} of it.",
            "warn",
        )
        return
    if found.main_problem is not None:
        yield "No committed frame is in the WAL.", ""
    elif not scan.committed:
        yield "No committed frame is in the WAL: nothing would be lost without it.", "good"
    elif loss.is_harmless:
        yield (
            f"{plural(scan.committed, 'frame')} in the WAL, all of them in the main file already: "
            "nothing would be lost without it.",
            "good",
        )
    else:
        yield f"{_only_in_log(found)} {_losses(loss)}".strip(), "bad"
    if loss.main.state in (MainState.MIXED, MainState.TORN) and scan.committed:
        yield (
            "The main file is whole only together with its -wal: deleting the -wal now "
            "would corrupt the database, not merely lose rows.",
            "bad",
        )


def _is_quiet(found: Inspection) -> bool:
    return found.scan.size == 0


def _damage(found: Inspection) -> Iterator[tuple[str, Tone]]:
    scan = found.scan
    if scan.fault is not None:
        yield (
            f"The header of the WAL is damaged: {scan.fault.value}. SQLite will ignore all of it.",
            "bad",
        )
    elif scan.is_damaged:
        yield (
            f"Frame {scan.valid + 1:,} is damaged. SQLite will silently ignore it and the "
            f"{plural(scan.later_commits, 'commit')} after it "
            f"({plural(scan.ignored_frames, 'intact frame')}).",
            "bad",
        )
    if found.has_database and found.loss.live_problem is not None:
        yield f"The database with this log cannot be read: {found.loss.live_problem}.", "bad"


def _only_in_log(found: Inspection) -> str:
    loss = found.loss
    rows = loss.lost + loss.reverted
    at_least = "" if loss.is_exact else "at least "
    frames = plural(found.pending, "frame")
    if rows:
        verb = "is" if rows == 1 else "are"
        return f"{at_least.capitalize()}{plural(rows, 'row')} in {frames} {verb} only in the WAL."
    return f"{frames} {'is' if found.pending == 1 else 'are'} not in the main file."


def _losses(loss: LossReport) -> str:
    parts = [part for table in loss.tables for part in _table_losses(table)]
    parts += [
        f"{c.type} {c.name} {FATES[c.fate]}" for c in loss.schema_changes if c.type != "table"
    ]
    if not parts:
        return "" if loss.is_exact else "What would be lost without it is not known for certain."
    return (
        "Without it, "
        + "; ".join(parts[:6])
        + (f"; and {len(parts) - 6} more" if parts[6:] else "")
        + "."
    )


def _table_losses(table: TableLoss) -> Iterator[str]:
    if table.fate is Fate.VANISHES:
        yield f"{table.name} vanishes with {plural(table.lost.count, 'row')}"
    elif table.lost.count:
        yield f"{table.name} loses {plural(table.lost.count, 'row')}"
    if table.reverted.count:
        verb = "reverts" if table.reverted.count == 1 else "revert"
        yield f"{plural(table.reverted.count, 'row')} of {table.name} {verb} to older content"
    if table.returning.count:
        verb = "comes" if table.returning.count == 1 else "come"
        yield f"{plural(table.returning.count, 'deleted row')} of {table.name} {verb} back"
    if table.problem:
        yield f"{table.name} cannot be compared ({table.problem})"
