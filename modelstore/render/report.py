"""The result of a command, said once, and written in every format.

A report is words and tables for a person, one JSON object for a program, and rows for CSV, TSV
and JSON lines. Without a terminal the words and tables are neither cut nor styled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelstore.render.formats import Format
from modelstore.render.grid import Cell, Grid, plain_lines, shown, styled_cell
from modelstore.render.rows import dump_json, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from modelstore.render.grid import Style
    from modelstore.render.rows import Write

_NESTED = (list, tuple, dict)
MOST_DRAWN = 1000
"""Rows of a table that Rich draws, in 0.3 s. A longer one is written as in a pipe."""

Part = str | Cell | Grid


class Screen(NamedTuple):
    """The terminal that is written to."""

    width: int  # columns
    color: bool  # True if escape sequences may be written


class Report(NamedTuple):
    """The result of a command.

    `body` has lines and tables, in order. `payload` is the JSON object, from `envelope`. `columns`
    and `rows` are its records as raw values; in a report without records, the flat values of
    `payload` are the only record.
    """

    body: tuple[Part, ...]
    payload: Mapping[str, object]
    columns: tuple[str, ...] = ()
    rows: Iterable[Sequence[object]] = ()


def write_report(
    write: Write,
    report: Report,
    form: str,
    *,
    screen: Screen | None = None,
    header: bool = True,
    style: Style | None = None,
) -> None:
    """Write `report` in the format `form`; `screen` is None if stdout is no terminal.

    `style` colours the words of a pipe that takes colour.
    """
    form = Format(form)
    payload = report.payload
    if form is Format.TABLE:
        write_body(write, report.body, screen, style)
    elif form is Format.JSON:
        write(dump_json(payload, indent=2) + "\n")
    elif form is Format.JSONL:
        if report.columns:
            write_rows(write, form, report.columns, report.rows)
        else:
            write(dump_json(payload) + "\n")
    else:
        flat = {key: value for key, value in payload.items() if not isinstance(value, _NESTED)}
        columns = report.columns or tuple(flat)
        rows = report.rows if report.columns else [tuple(flat.values())]
        write_rows(write, form, columns, (tuple(map(in_cell, row)) for row in rows), header=header)


def write_body(
    write: Write, body: Sequence[Part], screen: Screen | None, style: Style | None = None
) -> None:
    """Write lines and tables for a person, with an empty line between two tables."""
    before: Part | None = None
    for part in body:
        if isinstance(part, Grid) and isinstance(before, Grid):
            write("\n")
        before = part
        is_long = isinstance(part, Grid) and len(part.rows) > MOST_DRAWN
        if screen is not None and not is_long:
            _draw(write, part, screen)
            continue
        lines = (
            plain_lines(part.headings, part.rows, header=part.has_header, style=style)
            if isinstance(part, Grid)
            else [styled_cell(part, shown(part), style)]
        )
        for line in lines:
            write(line + "\n")


def _draw(write: Write, part: Part, screen: Screen) -> None:
    from modelstore.render.table import draw_grid, draw_line

    if isinstance(part, Grid):
        write(draw_grid(part, screen.width, color=screen.color))
    else:
        write(draw_line(part, screen.width, color=screen.color))


def in_cell(value: object) -> object:
    """Return a value as a cell of CSV or TSV: truth values and nested values become JSON."""
    return dump_json(value) if isinstance(value, (bool, *_NESTED)) else value
