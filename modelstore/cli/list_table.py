"""The table of ``modelstore list``, and the lines below it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.catalogue.query import Query
    from modelstore.cli.list_ import Listing
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.handle import Database
    from modelstore.render.grid import Cell

_ROWS_ON_TERMINAL = 1000  # unless --limit asks for more; Rich draws them in 0.3 s
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


def write_table(listing: Listing, db: Database, choice: DatabaseChoice) -> None:
    """Write a table on a terminal, or its plain words; then the total and the database."""
    from itertools import islice

    from modelstore.catalogue.query import select
    from modelstore.cli.reporting import screen_of
    from modelstore.render.columns import TABLE_COLUMNS, headings, with_short_ids
    from modelstore.render.grid import Grid, plain_lines
    from modelstore.render.report import write_body
    from modelstore.render.rows import chunks

    out, query = listing.out, listing.query
    tally = _Tally()
    names = query.columns or TABLE_COLUMNS
    with closing(select(db, replace(query, columns=(*names, *_HIDDEN)))) as rows:
        most = _ROWS_ON_TERMINAL if out.stdout_is_terminal and query.limit is None else None
        seen = tally.counted(islice(rows, most))
        cells = (_cells(names, row, is_default=not query.columns) for row in seen)
        if out.stdout_is_terminal:
            for chunk in chunks(cells, _ROWS_ON_TERMINAL):
                grid = Grid(headings(names), with_short_ids(names, chunk))
                write_body(out.stream, (grid,), screen_of(out))
        else:
            for block in chunks(plain_lines(headings(names), cells, header=listing.header)):
                out.stream("\n".join(block) + "\n")
    write_body(out.stream, tuple(_last_lines(db, choice, query, tally)), screen_of(out))
    if not tally.rows and not _is_filtered(query):
        out.note("the catalogue is empty; fill it with: modelstore import DIRECTORY")


def _cells(names: tuple[str, ...], row: Row, *, is_default: bool) -> list[str | Cell]:
    """Return the cells of a row. The default table shows a status in place of a wrong size."""
    from modelstore.render.columns import cell

    cells = [cell(name, value) for name, value in zip(names, row, strict=False)]
    if is_default and row[-2] != "available":
        cells[names.index("file_size")] = cell("status", row[-2])
    return cells


def _last_lines(db: Database, choice: DatabaseChoice, query: Query, tally: _Tally) -> Iterator[str]:
    from modelstore.catalogue.query import Query, count, totals
    from modelstore.text import human_bytes, plural

    is_whole = query.limit is None and not query.offset and tally.rows < _ROWS_ON_TERMINAL
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
