"""Every frame or every commit of a log, streamed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, cast

from modelstore.cli.options import Format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.cli.output import Output
    from modelstore.render.rows import RowFormat
    from modelstore.wal.inspection import Inspection

_SHOWN = 1000  # rows of a table on a terminal
_FRAME_COLUMNS = (
    *("frame", "page", "object", "type", "role", "commit_pages", "state", "in_main_file", "offset"),
)
_TRANSACTION_COLUMNS = ("commit", "first_frame", "last_frame", "frames", "page_count", "state")

Row = tuple[object, ...]


def list_frames(out: Output, found: Inspection, form: Format | None) -> None:
    """Write every frame: its page, what owns that, whether it ends a commit, its state."""
    _write(out, "frames", _FRAME_COLUMNS, _frame_rows(found), len(found.scan.marks), form)


def list_transactions(out: Output, found: Inspection, form: Format | None) -> None:
    """Write every commit: its frames, and the database's pages after it."""
    rows: Iterator[Row] = (
        (t.number, t.first, t.last, t.frames, t.page_count, t.state.value)
        for t in found.scan.transactions()
    )
    count = found.scan.commit_count + found.scan.later_commits
    _write(out, "transactions", _TRANSACTION_COLUMNS, rows, count, form)


def _frame_rows(found: Inspection) -> Iterator[Row]:
    loss = found.loss
    held = loss.held
    for frame in found.scan.frames():
        owner = loss.owner(frame.page_number) if frame.number <= found.scan.max_frame else None
        thing = owner.object if owner else None
        yield (
            frame.number,
            frame.page_number,
            thing.name if thing else None,
            thing.type if thing else None,
            owner.role.text if owner else None,
            frame.page_count or None,
            frame.state.value,
            bool(held[frame.number - 1]) if frame.number <= len(held) else None,
            frame.offset,
        )


def _write(
    out: Output,
    what: str,
    columns: Sequence[str],
    rows: Iterator[Row],
    count: int,
    form: Format | None,
) -> None:
    from modelstore.cli.catalogue_session import screen_of
    from modelstore.render.rows import dump_json, write_rows

    if form is Format.JSON:
        out.stream(f'{{"format_version": 1, "{what}": [')
        for number, row in enumerate(rows):
            comma = "," if number else ""
            out.stream(f"{comma}\n{dump_json(dict(zip(columns, row, strict=True)))}")
        out.stream("\n]}\n")
    elif form in (Format.JSONL, Format.CSV, Format.TSV) or not out.stdout_is_terminal:
        kind = cast("RowFormat", "tsv" if form in (None, Format.TABLE) else form.value)
        write_rows(out.stream, kind, columns, rows)
    else:
        from modelstore.render.grid import Grid, Heading
        from modelstore.render.report import write_body

        headings = tuple(
            Heading(
                name.upper().replace("_", " "), shrink="middle" if name == "object" else "never"
            )
            for name in columns
        )
        shown = [tuple(_word(value) for value in row) for row in islice(rows, _SHOWN)]
        write_body(out.stream, [Grid(headings, shown)], screen_of(out))
        if count > _SHOWN:
            out.stream(f"{count - _SHOWN:,} more: use -f tsv\n")


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
