"""The content of a WAL for a tired operator: words first, and the evidence below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.render.grid import Cell, Grid, Heading, facts
from modelstore.render.statements import FATES, statements
from modelstore.text import human_bytes, plural
from modelstore.wal.main_file import MainState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.render.grid import Tone
    from modelstore.render.report import Part
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.loss_report import LossReport, TableLoss

_MAIN_WORDS: dict[MainState, tuple[str, Tone]] = {
    MainState.CONSISTENT: ("consistent with the log", "good"),
    MainState.MIXED: (
        "mixed: a checkpoint copied the log in part, or that cannot be told",
        "bad",
    ),
    MainState.TORN: ("torn: pages of it are missing, or no commit wrote them", "bad"),
    MainState.EMPTY: ("empty: without the -wal there is no database", "bad"),
    MainState.ABSENT: ("absent", "bad"),
    MainState.FOREIGN: ("not a database that this log belongs to", "bad"),
}
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
    Heading("BLOCKS", shrink="wrap"),
)


def inspection_body(found: Inspection) -> list[Part]:
    """Return the whole report for a person: the state in one line, then the evidence."""
    body: list[Part] = [Cell(said.text, said.tone) for said in statements(found)]
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
    """Return the counts of frames in one row; rare kinds only if there are any."""
    scan = found.scan
    counts: list[tuple[str, int, Tone]] = [
        ("LOG", scan.written, ""),
        ("COMMITTED", scan.max_frame, ""),
        ("UNCOMMITTED", scan.uncommitted, ""),
        ("STALE", scan.stale, ""),
        ("DAMAGED", scan.damaged, "bad"),
        ("IGNORED", scan.ignored_frames, "bad"),
    ]
    if scan.torn:
        counts.append(("TORN", scan.torn, "warn"))
    counts.append(("CHECKPOINTED", found.checkpointed, ""))
    row = [Cell(f"{count:,}", tone if count else "") for _, count, tone in counts]
    row.append(Cell("yes", "warn") if found.is_busy else Cell("no"))
    headings = [Heading(name, right=True) for name, _, _ in counts]
    return Grid((*headings, Heading("BUSY")), (tuple(row),))


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
        yield "not looked at", f"{plural(scan.unexamined, 'frame')} behind the last commit"
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
    if main.state is MainState.CONSISTENT and found.main_problem is None:
        words += _checked(found)
    if main.problem:
        words += f" ({main.problem})"
    return "main file alone", Cell(words, tone)


def _checked(found: Inspection) -> str:
    check = found.main_check
    if check is None:
        return "; pages that are not in the log were not checked"
    if not check.is_still:
        return "; it was written while SQLite checked the other pages"
    if check.unchecked and not check.problem:
        return "; SQLite could not check all of it"
    return "; SQLite's integrity_check " + ("fails" if check.problem else "finds no fault")


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
    """Return the lock holders; one without an entry in BLOCKS blocks nothing."""
    blocking = {(b.pid, b.lock): b for b in found.blockers}
    marks = {f"READ{m.slot}": m.frame for m in found.index.read_marks} if found.index else {}
    rows = [
        (
            f"{held.pid}" if held.pid else "unknown",
            held.command + (" (stopped)" if held.is_stopped else ""),
            held.lock + (" (waiting)" if held.waiting else ""),
            "" if marks.get(held.lock) is None else f"{marks[held.lock]:,}",
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
