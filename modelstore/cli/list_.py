"""``modelstore list``: the models, streamed in any format; nothing holds all of them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from modelstore.cli.completion.values import (
    complete_columns,
    complete_sort,
    complete_tag,
    complete_values,
)
from modelstore.cli.options import (
    DEFAULT_TIMEOUT,
    DbOption,
    JsonOption,
    NoCheckpointOption,
    TimeoutOption,
    argument,
    chosen_format,
    option,
    seconds,
    split_commas,
)
from modelstore.errors import ExitCode, RefusedError, UsageError
from modelstore.model import MODEL_COLUMNS
from modelstore.render.formats import EXPORTS, Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.catalogue.query import Query
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.handle import Database
    from modelstore.render.grid import Cell


def command(
    text: Annotated[
        str | None, argument("[TEXT]", "Only models with TEXT in their name, path or architecture.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        option(
            "--columns",
            "-c",
            metavar="A,B",
            about="The columns, in this order; all for every column.",
            complete=complete_columns,
        ),
    ] = None,
    sort: Annotated[
        list[str] | None,
        option(
            "--sort",
            "-s",
            metavar="A,-B",
            about="The columns to sort by; -COLUMN or COLUMN:desc for descending.",
            complete=complete_sort,
        ),
    ] = None,
    arch: Annotated[
        list[str] | None,
        option(
            "--arch",
            metavar="NAME",
            about="Only this architecture. This and the next filters may be repeated.",
            complete=complete_values("architecture"),
        ),
    ] = None,
    quant: Annotated[
        list[str] | None,
        option(
            "--quant",
            metavar="NAME",
            about="Only this quantization.",
            complete=complete_values("quantization"),
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        option(
            "--type",
            metavar="NAME",
            about="Only this type: model, embedding, projector, adapter, ...",
            complete=complete_values("type"),
        ),
    ] = None,
    status: Annotated[
        list[str] | None,
        option(
            "--status",
            metavar="NAME",
            about="Only this status: available, missing, incomplete, truncated, remote.",
            complete=complete_values("status"),
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        option("--tag", metavar="TAG", about="Only models with this tag.", complete=complete_tag),
    ] = None,
    host: Annotated[
        list[str] | None,
        option(
            "--host",
            metavar="NAME",
            about="Only models on this machine.",
            complete=complete_values("host"),
        ),
    ] = None,
    where: Annotated[
        str | None,
        option("--where", metavar="SQL", about="Only models for which this SQL expression holds."),
    ] = None,
    limit: Annotated[
        int | None, option("--limit", "-n", metavar="N", least=0, about="Show at most N models.")
    ] = None,
    offset: Annotated[
        int, option("--offset", metavar="N", least=0, about="Skip the first N models.")
    ] = 0,
    count: Annotated[bool, option("--count", about="Show only the number of models.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", about="Show only the ids, one a line.")] = False,
    no_header: Annotated[
        bool, option("--no-header", about="Leave out the first line of CSV and TSV.")
    ] = False,
    formulas: Annotated[
        bool,
        option(
            "--formulas",
            about="Leave CSV cells that begin with = + - @ as they are, without a ' in front.",
        ),
    ] = False,
    db: DbOption = None,
    output_format: Annotated[
        str | None,
        option(
            "--format",
            "-f",
            choices=(*Format, *EXPORTS),
            about="The output format. Default: a table on a terminal, else TSV. preset is an INI "
            "file for llama-server --models-preset.",
        ),
    ] = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    no_checkpoint: NoCheckpointOption = False,
) -> ExitCode:
    """Show the models.

    Piped output is TSV with raw values: bytes, integers, nothing shortened. JSON carries every
    column. Rows stream; sorting by anything but id or locator keeps a key of each row in memory.
    """
    from modelstore.catalogue.query import Query
    from modelstore.cli.output import current

    if quiet and columns:
        raise UsageError("-q shows ids alone", hint="leave out -q, or --columns")
    if where is not None and not where.strip():
        raise UsageError("--where is empty", hint="an unset variable in a script?")
    filters = {
        "arch": arch,
        "quant": quant,
        "type": kind,
        "status": status,
        "tag": tag,
        "host": host,
    }
    out = current()
    listing = _Listing(
        out=out,
        query=Query(
            text=text,
            filters={name: values for name, values in filters.items() if values},
            where=where,
            sort=tuple(map(_sort_key, split_commas(sort))),
            limit=limit,
            offset=offset,
            columns=("id",) if quiet else _columns(split_commas(columns)),
        ),
        form=chosen_format(output_format, as_json)
        or ("table" if out.stdout_is_terminal and not quiet else "tsv"),
        header=not (no_header or quiet),
        formulas=formulas,
        only_count=count,
    )
    return _run(listing, db, timeout=seconds(timeout), fold=not no_checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The models that were asked for, and their form on stdout."""

    out: Output
    query: Query  # without columns: the format chooses them
    form: str
    header: bool
    formulas: bool
    only_count: bool


def _columns(names: tuple[str, ...]) -> tuple[str, ...]:
    from modelstore.catalogue.query import check_columns

    if "all" in names:
        return MODEL_COLUMNS
    return check_columns(tuple(map(_column, names))) if names else ()


def _column(name: str) -> str:
    """Return the column of that name, or of that heading in a table."""
    if name in MODEL_COLUMNS:
        return name
    from modelstore.render.columns import HEADED

    return HEADED.get(name.upper(), name)


def _sort_key(key: str) -> str:
    sign = "-" if key.startswith("-") else ""
    name, colon, direction = key.removeprefix("-").partition(":")
    return sign + _column(name) + colon + direction


def _run(listing: _Listing, db: str | None, *, timeout: float, fold: bool) -> ExitCode:
    from modelstore.cli.catalogue_session import models_session
    from modelstore.cli.reporting import write_fold
    from modelstore.cli.session import choose_database
    from modelstore.text import visible

    choice = choose_database(db)
    text = listing.query.text
    is_file = text is not None and os.path.isfile(text)
    try:
        with models_session(listing.out, choice, timeout=timeout, fold=fold) as session:
            if is_file:
                listing.out.note(
                    f"TEXT searches names, paths and architectures; did you mean --db {text}?"
                )
            _write(listing, session.opened.db, choice)
    except RefusedError as error:
        if not is_file:
            raise
        hint = f"did you mean --db {visible(text or '', 200)}?"
        raise RefusedError(error.message, hint=hint) from error
    write_fold(session, on_stdout=listing.form == "table" and not listing.only_count)
    return session.exit_code("read")


def _write(listing: _Listing, db: Database, choice: DatabaseChoice) -> None:
    out, query, form = listing.out, listing.query, listing.form
    if listing.only_count:
        from modelstore.catalogue.query import count

        out.stream(f"{count(db, query)}\n")
    elif form == "table":
        _write_table(listing, db, choice)
    elif form in EXPORTS:
        from importlib import import_module

        export = import_module(f"modelstore.render.{EXPORTS[form]}").export_models
        export(db, query, out.stream, out.note)
    elif form in ("json", "jsonl"):
        from modelstore.catalogue.query import json_blocks
        from modelstore.render.rows import BETWEEN, write_json_blocks

        query = replace(query, columns=query.columns or MODEL_COLUMNS)
        with closing(json_blocks(db, query, BETWEEN[form])) as blocks:
            write_json_blocks(out.stream, form, blocks)
    else:
        from modelstore.catalogue.query import cell_blocks
        from modelstore.render.columns import PLAIN_COLUMNS
        from modelstore.render.rows import write_cell_blocks

        query = replace(query, columns=query.columns or PLAIN_COLUMNS)
        with closing(cell_blocks(db, query)) as blocks:
            write_cell_blocks(
                out.stream,
                form,
                query.columns,
                blocks,
                header=listing.header,
                formulas=listing.formulas,
            )


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


def _write_table(listing: _Listing, db: Database, choice: DatabaseChoice) -> None:
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
