"""A recovery for people and for programs."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from modelstore.render.grid import Cell, Grid, Heading
from modelstore.text import human_bytes, listed, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.recovery.result import RecoveredTable, Recovery
    from modelstore.render.report import Part

_MAX_TABLES = 200
_MAX_NAMED = 8
_MAX_PAGES = 100  # that the result names of one table


def recovery_payload(done: Recovery) -> dict[str, object]:
    """Return all of a recovery as JSON values; rows and pages are counts, sizes bytes."""
    values = asdict(done)
    values.pop("database")
    values["complete"] = done.is_complete
    values["rows"] = done.rows
    values["set_aside"] = done.set_aside
    values["missing_rows_at_least"] = done.missing_rows
    return values


def recovery_body(done: Recovery) -> list[Part]:
    """Return the answer in words: the rows of each table, then what no longer exists."""
    keep = (
        "keep it running until this is saved"
        if done.into is None
        else "it is saved, but what the process commits from now on is not in the new file"
    )
    body: list[Part] = [Cell(f"{sentence}; {keep}", "warn") for sentence in done.held]
    body.append(Cell(_headline(done), "good" if done.is_complete else "warn"))
    body += [table_line(table, done) for table in done.tables[:_MAX_TABLES] if _is_news(table)]
    quiet = [table for table in done.tables if not _is_news(table)]
    if quiet:
        body.append(f"{plural(len(quiet), 'other table')} without rows")
    body.append(Grid((Heading(""), Heading("", shrink="wrap")), _facts(done)))
    body += [Cell(line, "warn") for line in _missing(done)]
    body += [Cell(note, "warn") for note in (*done.notes, *done.unread)]
    if done.is_raced:
        body.append(Cell("the files changed while they were read: run it again", "warn"))
    body += [Cell(f"To do: {step}", "strong") for step in _steps(done)]
    return body


def _steps(done: Recovery) -> Iterator[str]:
    """Yield what to do next; the last step is the one to do now."""
    if done.lost_pages or done.missing_rows or not (done.rows or done.set_aside):
        yield (
            "if you have an older copy of the database, name it with --also FILE; if you find "
            "another log of it, name it with --wal FILE"
        )
    if not (done.rows or done.set_aside):
        if not done.searched_deleted:
            yield "if rows were deleted, look for them with --deleted"
        return
    if done.into is None:
        yield "run it again with --into NEW.db, which writes these rows to a new file"
        return
    name = os.path.basename(done.database)
    yield (
        f"look at the rows in {done.into}; then stop the application, move {name} and its -wal, "
        f"-shm and -journal away, put {done.into} in the place of {name}, and start it again"
    )


def _is_news(table: RecoveredTable) -> bool:
    return bool(table.rows or table.set_aside or table.missing_rows)


def _headline(done: Recovery) -> str:
    if done.into is None and not done.rows and not done.set_aside:
        return "no row was found"
    if done.into is None:
        verb = "can be recovered; nothing was written"
    else:
        verb = f"recovered into {done.into}"
    aside = f" and {plural(done.set_aside, 'row')} set aside" if done.set_aside else ""
    return f"{plural(done.rows, 'row')}{aside} {verb}"


def table_line(table: RecoveredTable, done: Recovery) -> str:
    """Return the sentence of one table: "51 of 51 rows of t: 1 from app.db, 50 from …"."""
    more = "at least " if table.missing_rows else ""
    total = f"{table.rows:,} of {more}{table.rows + table.missing_rows:,} rows of {table.name}"
    parts = []
    base = table.rows - table.fitted
    if table.only_in_log is None:
        sources = " and ".join(name for name in (done.main, done.log) if name)
        if base:
            parts.append(f"{base:,} from {sources}")
    else:
        from_main = base - table.only_in_log
        if from_main and done.main:
            parts.append(f"{from_main:,} from {done.main}")
        if table.only_in_log and done.log:
            parts.append(f"{table.only_in_log:,} from {done.log}")
    parts += [f"{count:,} from {name}, marked" for name, count in table.fitted_from.items()]
    parts += [f"{count:,} more in {name}" for name, count in table.set_aside.items()]
    return total + (f": {', '.join(parts)}" if parts else "")


def _facts(done: Recovery) -> list[tuple[str, str | Cell]]:
    state = f"the commit in frame {done.commit:,} of {done.log}" if done.commit else (
        f"{done.main or 'the evidence'} alone"
    )  # fmt: skip
    whole = "integrity_check passes" if done.is_whole else "integrity_check does not pass"
    how = "built anew from its rows"
    if done.how == "pages":
        how = "every page exactly as it was"
        if done.provenance_lines:
            how = "every page as it was, and what modelstore_recovered lists"
    found: list[tuple[str, str | Cell]] = [("state", state), ("new file", f"{how}; {whole}")]
    mode = "WAL, as the old one, without a log" if done.is_wal else "rollback journal"
    found.append(("journal mode", mode))
    if done.size:
        found.append(("size", human_bytes(done.size)))
    if done.searched_deleted:
        found.append(("deleted rows", f"{_deleted(done):,} found in free pages and free space"))
    if done.mended_frames:
        found.append(("mended", f"{plural(done.mended_frames, 'frame')}, proved by the checksum"))
    found += [("evidence", line) for line in done.evidence]
    if done.saved_to:
        found.append(("saved first", f"{done.saved_to}: {listed(done.saved, _MAX_NAMED)}"))
    return found


def _deleted(done: Recovery) -> int:
    """Return the rows in tables of deleted rows."""
    aside = (item for table in done.tables for item in table.set_aside.items())
    return sum(count for name, count in aside if name.startswith("deleted_"))


def _missing(done: Recovery) -> list[str]:
    """Return the losses: rows and pages of which no byte is left. A person can stop looking."""
    lines = []
    if done.lost_pages and done.lost_pages != (1,):  # a note speaks of page 1
        pages = listed([f"{page:,}" for page in done.lost_pages], _MAX_NAMED)
        lines.append(f"no evidence holds {plural(len(done.lost_pages), 'page')}: {pages}")
    for table in done.tables:
        if table.unreadable_pages:
            named = [f"{page:,}" for page in table.unreadable_pages]
            noun = "page" if len(named) == 1 else "pages"
            lines.append(f"{noun} {listed(named, _MAX_NAMED)} of {table.name} cannot be read")
        empty = table.missing_pages - len(table.unreadable_pages)
        if empty > 0 and len(table.unreadable_pages) < _MAX_PAGES and not done.lost_pages:
            verb = "holds" if empty == 1 else "hold"
            lines.append(f"{plural(empty, 'page')} of {table.name} {verb} nothing any more")
    if done.lost_frames:
        frames = listed([f"{frame:,}" for frame in done.lost_frames], _MAX_NAMED)
        lines.append(
            f"{plural(len(done.lost_frames), 'frame')} of the log cannot be mended, and no other "
            f"frame has the page: {frames}"
        )
    if done.missing_rows:
        lines.append(
            f"at least {plural(done.missing_rows, 'row')} of the database no longer "
            f"{'exists' if done.missing_rows == 1 else 'exist'} in any of these files"
        )
    if not done.is_exact:
        lines.append("the log is damaged before this commit: a page of it may be older")
    lines += [f"integrity_check says: {message}" for message in done.messages[:5]]
    return lines
