"""The table of ``modelstore list``, and the lines below it."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.cli.output import styled
from modelstore.render.columns import UNKNOWN, cell, headings, with_short_ids
from modelstore.render.grid import Grid, natural_widths, plain_lines, shown
from modelstore.render.report import MOST_DRAWN, write_body
from modelstore.render.rows import chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.catalogue.query import Query
    from modelstore.cli.list_ import Listing
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.handle import Database
    from modelstore.render.grid import Cell

_HIDDEN = ("status", "file_size")  # read with each row, for the total and for missing files

Row = tuple[object, ...]


class _Tally:
    """The rows that passed by, and the bytes of the models that are not missing."""

    def __init__(self) -> None:
        self.rows = 0
        self.size = 0

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            if isinstance(row[-1], int) and row[-2] != "missing":
                self.size += row[-1]
            yield row


_EXTRAS = ("modified_at", "source", "status", "tags")
"""Columns that a wide terminal gets too, as far as they fit and tell something."""


def write_table(listing: Listing, db: Database, choice: DatabaseChoice) -> None:
    """Write a table on a terminal, or its plain words; then the total and the database."""
    from modelstore.catalogue.query import select
    from modelstore.cli.reporting import screen_of, style_of
    from modelstore.render.columns import TABLE_COLUMNS

    out, query = listing.out, listing.query
    out.page()
    tally = _Tally()
    is_default = not query.columns
    names = (*TABLE_COLUMNS, *listing.further) if is_default else query.columns
    extras = _EXTRAS if is_default and out.stdout_is_terminal else ()
    asked = query._replace(columns=(*names, *extras, *_HIDDEN))
    with closing(select(db, asked)) as rows:
        most = MOST_DRAWN if out.stdout_is_terminal and query.limit is None else None
        seen = tally.counted(islice(rows, most))
        if out.stdout_is_terminal:
            _draw(listing, (*names, *extras), len(extras), seen, is_default=is_default)
        else:
            cells = (_cells(names, row, is_default=is_default) for row in seen)
            for block in chunks(
                plain_lines(headings(names), cells, header=listing.header, style=style_of(out))
            ):
                out.stream("\n".join(block) + "\n")
    write_body(out.stream, tuple(_last_lines(db, choice, query, tally)), screen_of(out))
    if not tally.rows and not _is_filtered(query):
        out.note("the catalogue is empty; fill it with: modelstore import DIRECTORY")


def _draw(
    listing: Listing, names: tuple[str, ...], extras: int, rows: Iterator[Row], *, is_default: bool
) -> None:
    """Draw the rows on the terminal, with as many of the last `extras` columns as fit."""
    from modelstore.cli.reporting import screen_of

    out = listing.out
    places: list[int] | None = None
    for chunk in chunks(rows, MOST_DRAWN):
        cells = [_cells(names, row, is_default=is_default) for row in chunk]
        if places is None:
            places = _places(names, extras, cells, out.width)
        shown = [names[place] for place in places]
        short = with_short_ids(shown, [[row[place] for place in places] for row in cells])
        grid = Grid(headings(shown), short)
        if listing.truncate:
            write_body(out.stream, (grid,), screen_of(out))
        else:
            style = styled if out.color else None
            for line in plain_lines(grid.headings, grid.rows, style=style):
                out.stream(line + "\n")


def _places(
    names: tuple[str, ...], extras: int, rows: list[list[str | Cell]], width: int
) -> list[int]:
    """Return the columns to show: extras only if they fit and say something."""
    always = list(range(len(names) - extras))
    texts = [[shown(cell) for cell in row] for row in rows]
    natural = natural_widths(headings(names), texts)
    used = sum(natural[place] + 2 for place in always)
    for place in range(len(always), len(names)):
        told = {row[place] for row in texts}
        says_nothing = told <= {UNKNOWN, "available"} or (
            names[place] == "source" and len(told) < 2
        )
        if not says_nothing and used + natural[place] + 2 <= width:
            always.append(place)
            used += natural[place] + 2
    return always


def _cells(names: tuple[str, ...], row: Row, *, is_default: bool) -> list[str | Cell]:
    """Return the cells of a row. The default table shows a status in place of a wrong size."""
    cells = [cell(name, value) for name, value in zip(names, row, strict=False)]
    if is_default and row[-2] != "available":
        cells[names.index("file_size")] = cell("status", row[-2])
    return cells


def _last_lines(db: Database, choice: DatabaseChoice, query: Query, tally: _Tally) -> Iterator[str]:
    from modelstore.catalogue.query import Query, count, totals
    from modelstore.text import human_bytes, plural

    is_whole = query.limit is None and not query.offset and tally.rows < MOST_DRAWN
    fitting, size = (tally.rows, tally.size) if is_whole else totals(db, query)
    more = fitting - tally.rows - query.offset
    if more > 0 and query.limit is None:
        yield f"{more:,} more: use --limit, or -f jsonl"
    elif fitting > tally.rows:
        yield f"{tally.rows:,} of {fitting:,} shown"
    counted = plural(fitting, "model")
    if _is_filtered(query):
        counted = f"{fitting:,} of {plural(count(db, Query()), 'model')}"
    yield ", ".join([counted, *([human_bytes(size)] if size else []), str(choice)])


def _is_filtered(query: Query) -> bool:
    return bool(query.text or query.where or query.filters)
