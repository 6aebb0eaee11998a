"""One listing, from its request to its exit code: rows stream, nothing holds all of them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from modelstore.catalogue.query import Query, cell_blocks, check_columns, count, json_blocks
from modelstore.cli.catalogue_session import models_session, tell_fold
from modelstore.cli.output import current
from modelstore.cli.session import choose_database
from modelstore.errors import ExitCode, RefusedError
from modelstore.model import MODEL_COLUMNS
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.database.sqlite import sqlite3
    from modelstore.render.rows import RowFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the person asked for."""

    text: str | None = None
    columns: tuple[str, ...] = ()  # none: what the format shows by itself
    sort: tuple[str, ...] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: str | None = None
    limit: int | None = None
    offset: int = 0
    form: str | None = None  # None: a table on a terminal, else TSV
    header: bool = True
    count: bool = False
    quiet: bool = False
    formulas: bool = False


def run_list(listing: Listing, db: str | None, *, timeout: float, fold: bool) -> ExitCode:
    """Write the models to stdout; return the exit code."""
    out = current()
    choice = choose_database(db)
    query = _query(listing)
    form = listing.form or ("table" if out.stdout_is_terminal and not listing.quiet else "tsv")
    try:
        with models_session(out, choice, timeout=timeout, fold=fold) as session:
            _write(out, session.opened.conn, choice, listing, query, form)
    except RefusedError as error:
        raise _meant_as_database(error, listing.text) from error
    tell_fold(session, on_stdout=form == "table" and not listing.count)
    return session.exit_code("read")


def _query(listing: Listing) -> Query:
    return Query(
        text=listing.text,
        filters=listing.filters,
        where=listing.where,
        sort=tuple(map(_sort_key, listing.sort)),
        limit=listing.limit,
        offset=listing.offset,
        columns=_columns(listing),
    )


def _columns(listing: Listing) -> tuple[str, ...]:
    """Return the columns that were asked for; none where the choice is ours."""
    if listing.quiet:
        return ("id",)
    if "all" in listing.columns:
        return MODEL_COLUMNS
    return check_columns(tuple(map(_column, listing.columns))) if listing.columns else ()


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


def _write(
    out: Output,
    conn: sqlite3.Connection,
    choice: DatabaseChoice,
    listing: Listing,
    query: Query,
    form: str,
) -> None:
    if listing.text and os.path.isfile(listing.text):
        out.note(f"TEXT searches names, paths and architectures; did you mean --db {listing.text}?")
    if listing.count:
        out.stream(f"{count(conn, query)}\n")
    elif form == "table":
        from modelstore.cli.listing_table import write_table

        write_table(out, conn, choice, query, header=listing.header)
    elif form == "preset":
        from modelstore.cli.listing_preset import write_models_preset

        write_models_preset(out, conn, query)
    elif form in ("json", "jsonl"):
        from modelstore.render.rows import BETWEEN, write_json_blocks

        query = replace(query, columns=query.columns or MODEL_COLUMNS)
        with closing(json_blocks(conn, query, BETWEEN[form])) as blocks:
            write_json_blocks(out.stream, cast("RowFormat", form), blocks)
    else:
        from modelstore.render.columns import PLAIN_COLUMNS
        from modelstore.render.rows import write_cell_blocks

        query = replace(query, columns=query.columns or PLAIN_COLUMNS)
        with closing(cell_blocks(conn, query)) as blocks:
            write_cell_blocks(
                out.stream,
                cast("RowFormat", form),
                query.columns,
                blocks,
                header=listing.header,
                formulas=listing.formulas,
            )


def _meant_as_database(error: RefusedError, text: str | None) -> RefusedError:
    """Ask whether TEXT, where it is a file, was meant as the database."""
    if text is None or not os.path.isfile(text):
        return error
    return RefusedError(error.message, hint=f"did you mean --db {visible(text, 200)}?")
