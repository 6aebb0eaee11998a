"""The content of a WAL for a tired operator: words first, and the evidence below."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelstore.render.grid import Cell, Grid, Heading, facts
from modelstore.text import human_bytes, plural
from modelstore.wal.loss_report import Fate
from modelstore.wal.main_file import MainState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.render.grid import Tone
    from modelstore.render.report import Part
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.loss_report import LossReport, TableLoss

FATES = {
    Fate.STAYS: "stays",
    Fate.VANISHES: "would vanish",
    Fate.RETURNS: "would come back",
    Fate.RENAMED: "would get its former name back",
    Fate.REVERTS: "would revert to its former definition",
}


def state_lines(found: Inspection) -> Iterator[tuple[str, Tone]]:
    """Yield the meaning of the log in plain sentences, the worst first."""
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
            f"There is no database beside this log: {plural(scan.max_frame, 'frame')} of it.",
            "warn",
        )
        return
    if found.main_problem is not None:
        yield "No committed frame is in the WAL.", ""
    elif not scan.max_frame:
        yield "No committed frame is in the WAL: nothing would be lost without it.", "good"
    elif loss.is_harmless:
        yield (
            f"{plural(scan.max_frame, 'frame')} in the WAL, all of them in the main file already: "
            "nothing would be lost without it.",
            "good",
        )
    else:
        yield f"{_only_in_log(found)} {_losses(loss)}".strip(), "bad"
    if loss.main.state in (MainState.MIXED, MainState.TORN) and scan.max_frame:
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


_MAIN_WORDS: dict[MainState, tuple[str, Tone]] = {
    MainState.CONSISTENT: ("consistent", "good"),
    MainState.MIXED: (
        "mixed: a checkpoint copied the log in part, or that cannot be told",
        "bad",
    ),
    MainState.TORN: ("torn: whole only together with its -wal", "bad"),
    MainState.EMPTY: ("empty: without the -wal there is no database", "bad"),
    MainState.ABSENT: ("absent", "bad"),
    MainState.FOREIGN: ("not a database that this log belongs to", "bad"),
}
_FRAMES = ("LOG", "COMMITTED", "UNCOMMITTED", "STALE", "DAMAGED", "IGNORED", "CHECKPOINTED", "BUSY")
_OBJECTS = (
    Heading("TABLE", shrink="middle"),
    Heading("TYPE"),
    Heading("FRAMES", right=True),
    Heading("PAGES", right=True),
    Heading("DIFFER", right=True),
    Heading("LOST", right=True),
    Heading("REVERTED", right=True),
    Heading("RETURNING", right=True),
)
_LOCKS = (
    Heading("PID"),
    Heading("COMMAND", shrink="middle"),
    Heading("LOCK"),
    Heading("MARK", right=True),
    Heading("SINCE"),
    Heading("BLOCKS", shrink="wrap"),
)


def inspection_body(found: Inspection) -> list[Part]:
    """Return the whole report for a person: the state in one line, then the evidence."""
    body: list[Part] = [Cell(line, tone) for line, tone in state_lines(found)]
    if found.scan.header is None or not found.scan.page_size:
        if found.main_problem is not None:
            body.append(facts([_main_file(found)]))
        return body + list(_lock_parts(found))
    body.append(frame_grid(found))
    if found.loss.objects or found.loss.tables:
        body.append(_object_grid(found.loss))
    body += _names_at_risk(found.loss)
    body += [Cell(f"{c.type} {c.name} {FATES[c.fate]}", "warn") for c in found.loss.schema_changes]
    body.append(facts(_facts(found)))
    body += _lock_parts(found)
    return body


def frame_grid(found: Inspection) -> Grid:
    """Return the counts of frames, in one row."""
    scan = found.scan
    counts = (
        len(scan.marks) - scan.blank,
        scan.max_frame,
        scan.uncommitted,
        scan.stale,
        scan.damaged,
        scan.ignored_frames,
        found.checkpointed,
    )
    row: list[str | Cell] = [f"{count:,}" for count in counts]
    for place in (4, 5):
        if counts[place]:
            row[place] = Cell(f"{counts[place]:,}", "bad")
    row.append(Cell("yes", "warn") if found.is_busy else "no")
    return Grid(tuple(Heading(name, right=name != "BUSY") for name in _FRAMES), (tuple(row),))


def _object_grid(loss: LossReport) -> Grid:
    tables = {table.name: table for table in loss.tables}
    rows = []
    for pages in loss.objects:
        name = pages.object.name if pages.object else _list_name(pages.roles)
        kind = pages.object.type if pages.object else ""
        table = tables.pop(name, None) if kind == "table" else None
        rows.append((name, kind, pages.frames, pages.pages, pages.differing, *_row_counts(table)))
    rows += [(name, "table", 0, 0, 0, *_row_counts(table)) for name, table in tables.items()]
    return Grid(_OBJECTS, [tuple(_cell(value) for value in row) for row in rows])


def _list_name(roles: object) -> str:
    names = sorted({role.text for role in roles})  # type: ignore[attr-defined]
    return f"({', '.join(names)})"


def _row_counts(table: TableLoss | None) -> tuple[object, ...]:
    if table is None:
        return "", "", ""
    more = "" if table.is_exact else "≥ "
    return tuple(
        f"{more}{rows.count:,}" if more else rows.count
        for rows in (table.lost, table.reverted, table.returning)
    )


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _names_at_risk(loss: LossReport) -> Iterator[Part]:
    for table in loss.tables:
        for rows, what in ((table.lost, "would be lost"), (table.reverted, "would revert")):
            names = [text for text in rows.texts if text]
            if not names:
                continue
            more = rows.count - len(rows.texts)
            tail = f" and {more:,} more (--all names them)" if more > 0 else ""
            yield f"{table.name} that {what}: {', '.join(names)}{tail}"


def _facts(found: Inspection) -> Iterator[tuple[str, str | Cell]]:
    scan, loss = found.scan, found.loss
    header = scan.header
    if header is None:
        return
    yield (
        "log",
        f"{human_bytes(scan.size)}, pages of {scan.page_size:,} bytes, sequence {header.sequence}, "
        f"salts {header.salt[0]:08x} {header.salt[1]:08x}, "
        f"{'big' if header.big_endian else 'little'}-endian checksums",
    )
    if scan.unexamined:
        yield "not looked at", f"{plural(scan.unexamined, 'frame')} beyond a long run of zeros"
    if scan.commit_count:
        yield "commits", _commits(found)
    if found.has_database:
        yield _main_file(found)
        yield (
            "database",
            f"{human_bytes(loss.main.size)} in the main file, {plural(scan.page_count, 'page')} "
            f"with its log; {plural(loss.pages_read, 'page')} read for this report",
        )
    if found.index is not None:
        marks = [str(m.frame) for m in found.index.read_marks if m.frame is not None]
        yield (
            "wal-index",
            f"mxFrame {found.index.max_frame:,}, nBackfill {found.index.backfill:,}, "
            f"read marks at {', '.join(marks) or 'none'}",
        )


def _main_file(found: Inspection) -> tuple[str, Cell]:
    main = found.loss.main
    words, tone = _MAIN_WORDS[main.state]
    if found.main_problem is not None:
        words, tone = "damaged", "bad"
    elif main.state is MainState.CONSISTENT and main.commit is not None:
        words += f", as of commit {main.commit:,} of {found.scan.commit_count:,}"
    if main.problem:
        words += f" ({main.problem})"
    return "main file alone", Cell(words, tone)


def _commits(found: Inspection) -> str:
    sizes = [t.frames for t in found.scan.transactions() if t.last <= found.scan.max_frame]
    if not sizes:
        return "none"
    least, most = min(sizes), max(sizes)
    span = plural(least, "frame") if least == most else f"{least:,} to {most:,} frames"
    return f"{len(sizes):,}, each of {span}"


def _lock_parts(found: Inspection) -> Iterator[Part]:
    if found.locks.holders:
        yield lock_grid(found)
    if found.locks.note:
        yield Cell(found.locks.note, "dim")


def lock_grid(found: Inspection) -> Grid:
    """Return the lock holders; one without an entry in BLOCKS holds up nobody."""
    blocking = {(b.pid, b.lock): b for b in found.blockers}
    marks = {f"READ{m.slot}": m.frame for m in found.index.read_marks} if found.index else {}
    rows = [
        (
            f"{held.pid}" if held.pid else "unknown",
            held.command,
            held.lock + (" (waiting)" if held.waiting else ""),
            "" if marks.get(held.lock) is None else f"{marks[held.lock]:,}",
            _when(held.since),
            ", ".join(blocking[held.pid, held.lock].blocks)
            if (held.pid, held.lock) in blocking
            else "",
        )
        for held in found.locks.holders
        if held.lock != "DMS" or not _has_other_lock(found, held.pid)
    ]
    return Grid(_LOCKS, rows)


def _has_other_lock(found: Inspection, pid: int | None) -> bool:
    return any(held.pid == pid and held.lock != "DMS" for held in found.locks.holders)


def _when(since: float | None) -> str:
    return "" if since is None else datetime.fromtimestamp(since, UTC).strftime("%m-%d %H:%M:%S")
