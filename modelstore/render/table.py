"""Tables and lines for a terminal, drawn by Rich: the only module here that imports it.

Rich escapes markup but passes raw ESC bytes on. So every text is made safe first, and goes to
Rich as ``Text``, never as markup.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelstore.render.grid import fit, fitted_widths, natural_widths, shown, tone

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelstore.render.grid import Cell, Grid, Tone

_STYLES: dict[Tone, str] = {
    "": "",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "dim": "dim",
    "strong": "bold",
}
_PADDING = 2  # columns between two cells


def draw_grid(grid: Grid, width: int, *, color: bool) -> str:
    """Return the table in `width` columns; record by record if its columns do not fit."""
    texts = [[shown(cell) for cell in row] for row in grid.rows]
    natural = natural_widths(grid.headings, texts)
    room = width - _PADDING * (len(grid.headings) - 1)
    widths = fitted_widths(grid.headings, natural, room)
    if not widths:
        return draw_records(grid, width, color=color)
    table = Table(
        box=None,
        padding=(0, 1),
        pad_edge=False,
        header_style="bold",
        show_edge=False,
        show_header=grid.has_header,
    )
    for heading, column_width in zip(grid.headings, widths, strict=True):
        table.add_column(
            Text(heading.text),
            justify="right" if heading.right else "left",
            width=column_width,
            no_wrap=heading.shrink != "wrap",
            overflow="fold" if heading.shrink == "wrap" else "crop",
        )
    for row, safe in zip(grid.rows, texts, strict=True):
        table.add_row(
            *(
                Text(fit(text, column_width, heading.shrink), style=_STYLES[tone(cell)])
                for cell, text, heading, column_width in zip(
                    row, safe, grid.headings, widths, strict=True
                )
            )
        )
    return _drawn(table, width, color=color)


def draw_records(grid: Grid, width: int, *, color: bool) -> str:
    """Return each row as a block of lines, ``HEADING  value``, with an empty line between."""
    blocks = []
    for row in grid.rows:
        table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False, show_edge=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for heading, cell in zip(grid.headings, row, strict=True):
            table.add_row(Text(heading.text), Text(shown(cell), style=_STYLES[tone(cell)]))
        blocks.append(_drawn(table, width, color=color))
    return "\n".join(blocks)


def draw_line(cell: str | Cell, width: int, *, color: bool) -> str:
    """Return one line of words; it wraps if it is wider than the terminal."""
    text = shown(cell)
    if not color and cell_len(text) <= width:
        return text + "\n"
    return _drawn(Text(text, style=_STYLES[tone(cell)], overflow="fold"), width, color=color)


def _drawn(what: RenderableType, width: int, *, color: bool) -> str:
    """Let Rich draw into a string. The environment has no influence, only `width` and `color`."""
    target = io.StringIO()
    console = Console(
        file=target,
        width=width,
        color_system="standard" if color else None,
        force_terminal=color,
        no_color=not color,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    console.print(what)
    return target.getvalue()
