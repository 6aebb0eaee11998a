"""A listing for a person: a table on the terminal, or the same words for a pipe."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.catalogue.query import Query, count, select, totals
from modelstore.cli.catalogue_session import screen_of
from modelstore.render.columns import TABLE_COLUMNS, cell, headings, with_short_ids
from modelstore.render.grid import Grid, plain_lines
from modelstore.render.report import write_body
from modelstore.render.rows import chunks
from modelstore.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.sqlite import sqlite3
    from modelstore.render.grid import Cell

_LIMIT = 1000  # rows on a terminal, unless --limit asks for more; Rich draws them in 0.3 s
_HIDDEN = ("status", "file_size")  # what is needed of each row without being shown

Row = tuple[object, ...]


@dataclass(slots=True)
class _Tally:
    """What passed by: how many models, and the bytes of those that are not missing."""

    rows: int = 0
    size: int = 0

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            if isinstance(row[-1], int) and row[-2] != "missing":
                self.size += row[-1]
            yield row


def write_table(
    out: Output,
    conn: sqlite3.Connection,
    choice: DatabaseChoice,
    query: Query,
    *,
    header: bool,
) -> None:
    """Write the models, then a line with their number, their bytes and the database."""
    tally = _Tally()
    names = query.columns or TABLE_COLUMNS
    with closing(select(conn, replace(query, columns=(*names, *_HIDDEN)))) as rows:
        most = _LIMIT if out.stdout_is_terminal and query.limit is None else None
        seen = tally.counted(islice(rows, most))
        cells = (_cells(names, row, tells=not query.columns) for row in seen)
        if out.stdout_is_terminal:
            for chunk in chunks(cells, _LIMIT):
                grid = Grid(headings(names), with_short_ids(names, chunk))
                write_body(out.stream, (grid,), screen_of(out))
        else:
            for block in chunks(plain_lines(headings(names), cells, header=header)):
                out.stream("\n".join(block) + "\n")
    write_body(out.stream, tuple(_last_lines(conn, choice, query, tally)), screen_of(out))
    if not tally.rows and not _selects(query):
        out.note("the catalogue is empty; fill it with: modelstore import DIRECTORY")


def _cells(names: Sequence[str], row: Row, *, tells: bool) -> list[str | Cell]:
    """Return a row as it is shown; where it `tells`, what is not there has its status for a size.

    The size of a file that is gone, or not all there, would be no truth.
    """
    cells = [cell(name, value) for name, value in zip(names, row, strict=False)]
    if tells and row[-2] != "available":
        cells[names.index("file_size")] = cell("status", row[-2])
    return cells


def _last_lines(
    conn: sqlite3.Connection, choice: DatabaseChoice, query: Query, tally: _Tally
) -> Iterator[str]:
    whole = query.limit is None and not query.offset and tally.rows < _LIMIT
    fitting, size = (tally.rows, tally.size) if whole else totals(conn, query)
    more = fitting - tally.rows - query.offset
    if more > 0 and query.limit is None:
        yield f"{more:,} more: use --limit, or -f jsonl"
    elif fitting > tally.rows:
        yield f"{tally.rows:,} of {fitting:,} shown"
    counted = plural(fitting, "model")
    if _selects(query):
        counted = f"{fitting:,} of {plural(count(conn, Query()), 'model')}"
    yield ", ".join([counted, *([human_bytes(size)] if size else []), str(choice)])


def _selects(query: Query) -> bool:
    """Tell whether only some of the models were asked for."""
    return bool(query.text or query.where or query.filters)
