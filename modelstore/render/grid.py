"""A small table of words: its value, its layout in a width, and its lines without a terminal.

Every cell is outside text until `shown` makes it safe: that is the only place.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Tone = Literal["", "good", "warn", "bad", "dim", "strong"]
"""The meaning of a text for its reader; a terminal may colour it."""

Shrink = Literal["never", "middle", "end", "wrap"]
"""The way in which a cell gives way in a table that is too wide: cut, or wrapped."""

Style = Callable[[str, str], str]
"""A function from a safe text and a tone to the text with escape sequences."""

_CELL_LIMIT = 4000  # characters of one cell: a name may have a million
_CHUNK = 512  # rows


class Cell(NamedTuple):
    """A text with a tone."""

    text: str
    tone: Tone = ""


class Heading(NamedTuple):
    """The heading of one column, and the column's behaviour."""

    text: str
    right: bool = False
    shrink: Shrink = "never"
    least: int = 8  # characters below which it does not shrink


class Grid(NamedTuple):
    """Headings, and rows of as many cells. If no heading has a text, none is shown."""

    headings: tuple[Heading, ...]
    rows: Sequence[Sequence[str | Cell]]

    @property
    def has_header(self) -> bool:
        """True if a line of headings is shown."""
        return any(heading.text for heading in self.headings)


def facts(pairs: Iterable[tuple[str, str | Cell]]) -> Grid:
    """Return a table of names and values, one pair a line; a long value wraps."""
    return Grid((Heading(""), Heading("", shrink="wrap")), tuple(pairs))


def shown(cell: str | Cell) -> str:
    """Return the text of a cell, safe for a terminal, on one line."""
    text = cell if isinstance(cell, str) else cell.text
    if len(text) > _CELL_LIMIT:
        half = _CELL_LIMIT // 2
        text = text[:half] + "…" + text[-half:]
    return visible(text)


def tone(cell: str | Cell) -> Tone:
    """Return the tone of a cell."""
    return "" if isinstance(cell, str) else cell.tone


def text_width(text: str) -> int:
    """Return the columns that `text` takes on a terminal: wide characters two, marks none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    marks = sum(unicodedata.category(char) in ("Mn", "Me") for char in text)
    return len(text) + wide - marks


def fit(text: str, width: int, shrink: Shrink) -> str:
    """Return `text` in at most `width` columns, with an ellipsis in place of a part left out."""
    if text_width(text) <= width or shrink in ("never", "wrap"):
        return text
    tail_width = (width - 1) // 2 if shrink == "middle" else 0
    head = _take(text, width - 1 - tail_width)
    return head + "…" + _take(text[::-1], tail_width)[::-1]


def _take(text: str, width: int) -> str:
    """Return the start of `text` that fits `width` columns."""
    if text.isascii():
        return text[:width]
    taken = 0
    for position, char in enumerate(text):
        taken += text_width(char)
        if taken > width:
            return text[:position]
    return text


def natural_widths(headings: Sequence[Heading], rows: Iterable[Sequence[str]]) -> list[int]:
    """Return the width of each column with nothing cut."""
    widths = [text_width(heading.text) for heading in headings]
    for row in rows:
        for place, text in enumerate(row):
            widths[place] = max(widths[place], text_width(text))
    return widths


def fitted_widths(headings: Sequence[Heading], natural: Sequence[int], room: int) -> list[int]:
    """Return widths whose sum is at most `room`: the widest that may shrink gives way first.

    A column cut in the middle (a name, a path) counts as two others. Returns an empty list if even
    the least widths do not fit.
    """
    floors = [
        width if heading.shrink == "never" else min(width, max(heading.least, len(heading.text)))
        for heading, width in zip(headings, natural, strict=True)
    ]
    if sum(floors) > room:
        return []

    worth = [2 if heading.shrink == "middle" else 1 for heading in headings]

    def capped(cap: int) -> list[int]:
        return [
            max(floor, min(width, cap * share))
            for floor, width, share in zip(floors, natural, worth, strict=True)
        ]

    caps = range(max(natural) + 1)
    widths = capped(bisect_right(caps, room, key=lambda cap: sum(capped(cap))) - 1)
    for place in sorted(range(len(widths)), key=widths.__getitem__, reverse=True):
        if sum(widths) < room and widths[place] < natural[place]:
            widths[place] += 1
    return widths


def styled_cell(cell: str | Cell, text: str, style: Style | None) -> str:
    """Return the safe `text` of a cell in its tone, if there is a `style`."""
    return text if style is None or not tone(cell) else style(text, tone(cell))


def plain_lines(
    headings: Sequence[Heading],
    rows: Iterable[Sequence[str | Cell]],
    *,
    header: bool = True,
    style: Style | None = None,
) -> Iterator[str]:
    """Yield the lines of a table for a pipe or file: aligned, nothing cut; coloured by `style`.

    Rows are laid out a chunk at a time, so that a million rows need little memory. A later chunk
    with longer texts is a little wider.
    """
    widths = [text_width(heading.text) for heading in headings]
    source = iter(rows)
    titles = [heading.text for heading in headings]
    while cells := list(islice(source, _CHUNK)):
        chunk = [[shown(cell) for cell in row] for row in cells]
        widths = list(map(max, widths, natural_widths(headings, chunk)))
        join = _joiner(headings, widths)
        if header:
            yield _bold(join(titles), style)
            header = False
        if style is None:
            yield from map(join, chunk)
        else:
            for row, texts in zip(cells, chunk, strict=True):
                yield _toned(join(texts), row, texts, style)
    if header:  # there was no row
        yield _bold(_joiner(headings, widths)(titles), style)


def _bold(line: str, style: Style | None) -> str:
    return line if style is None else style(line, "strong")


def _toned(line: str, row: Sequence[str | Cell], texts: list[str], style: Style) -> str:
    """Return a line with the style of each cell that has a tone, found from left to right."""
    done, rest = "", line
    for cell, text in zip(row, texts, strict=True):
        before, found, after = rest.partition(text)
        if found:
            done, rest = done + before + styled_cell(cell, text, style), after
    return done + rest


def _joiner(headings: Sequence[Heading], widths: Sequence[int]) -> Callable[[list[str]], str]:
    """Return a function that makes one line of a row; the format pads a line of ASCII."""
    form = " " + "  ".join(
        f"%{'' if heading.right else '-'}{width}s"
        for heading, width in zip(headings, widths, strict=True)
    )

    def join(texts: list[str]) -> str:
        line = form % tuple(texts)
        if not line.isascii():
            padded = [
                " " * (width - text_width(text)) + text
                if heading.right
                else text + " " * (width - text_width(text))
                for heading, width, text in zip(headings, widths, texts, strict=True)
            ]
            line = " " + "  ".join(padded)
        return line.rstrip()

    return join
