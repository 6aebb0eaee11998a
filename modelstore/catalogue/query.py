"""Queries: filter, sort and choose columns; stream rows, or texts that SQLite itself writes.

NULL is last in any order, and equal rows are ordered by id. Without a sort, or sorted by ``id`` or
``locator``, a query holds no rows in memory. Any other order, `BY_NAME` too, holds the sort key of
each row that fits, and the whole row if the table is a view.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, nullcontext, suppress
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from modelstore.catalogue.schema import single_value
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_text import LEAD, from_sqlite_json, from_sqlite_text, to_sqlite_text
from modelstore.errors import UsageError
from modelstore.model import (
    ACCESSED,
    ARRAY_COLUMNS,
    COMPUTED_COLUMNS,
    INTEGER_COLUMNS,
    MEMORY,
    MODEL_COLUMNS,
)
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from modelstore.catalogue.expression import TimeBudget
    from modelstore.catalogue.memory import CacheOptions
    from modelstore.database.handle import Database

    Row = tuple[object, ...]

CELL, ROW = "\x1f", "\x1e"
"""ASCII's own separators, of cells and of rows."""

_SEARCHED = ("name", "path", "architecture")
BY_NAME = ("name",)
"""The order of a listing unless a person asks for another."""
FILTERS: Mapping[str, str] = {
    "arch": "architecture",
    "quant": "quantization",
    "type": "type",
    "status": "status",
    "capability": "capabilities",
    "tag": "tags",
    "host": "host",
}
"""The columns of the filters, by the names that options have."""

WHERE_SECONDS = 30.0  # a limit on the running time of a person's expression

_INDEXED = frozenset(("id", "locator"))
# Rows fetched at a time: 70 KB, which fit the processor's cache. 500 take 10 % longer.
_CHUNK = 128
_FIRST = itemgetter(0)


class Query(NamedTuple):
    """A request for rows. Values of one filter are alternatives; different filters must all hold.

    ``id`` is one whole id. ``text`` holds words, which must all be found: in a word, ``-``, ``_``
    and a space are alike, and ``* ? [ ]`` make a pattern for the whole text. ``filters`` maps a
    name in `FILTERS` to its values; case counts for tags, capabilities and hosts alone. ``sort``
    holds columns, each with an optional ``-`` before it, or ``:desc`` or ``:asc`` after it.
    ``where`` is an SQL expression that a person wrote. ``cache`` is the context that the column
    ``memory`` is for.
    """

    id: str | None = None
    text: str | None = None
    filters: Mapping[str, Sequence[str]] = MappingProxyType({})
    where: str | None = None
    sort: tuple[str, ...] = ()
    limit: int | None = None
    offset: int = 0
    columns: tuple[str, ...] = MODEL_COLUMNS
    cache: CacheOptions | None = None


def select(db: Database, query: Query) -> Generator[tuple[object, ...], None, None]:
    """Stream the rows as tuples in the order of ``query.columns``.

    Close the generator before the database if you stop early: an open statement holds the log.
    Raises `UsageError`, before the first row, for an unknown column or filter and for an
    expression that cannot be used.
    """
    columns = check_columns(query.columns)
    rows = _run(db, query, ", ".join(map(column_sql, columns)))
    texts = [at for at, column in enumerate(columns) if column not in INTEGER_COLUMNS]
    return _decoded(rows, texts)


def json_lines(db: Database, query: Query) -> Generator[str, None, None]:
    """Stream each row as one JSON object without a newline, written by SQLite's ``json_object``.

    ``tags`` and ``capabilities`` are arrays, ``parameters`` is an object; NULL is ``null``.
    """
    for block in json_blocks(db, query, "\n"):
        yield from block.split("\n")


def json_blocks(db: Database, query: Query, between: str) -> Generator[str, None, None]:
    """Stream the texts of `json_lines` many at a time, joined by `between`.

    A million rows pass through here, so all work on a single row is done in C.
    """
    columns = check_columns(query.columns)
    pairs = ", ".join(
        f"'{column}', {_JSON.get(column) or column_sql(column)}" for column in columns
    )
    for rows in _run(db, query, f"json_object({pairs})"):
        yield from_sqlite_json(between.join(map(_FIRST, rows)))


def cell_blocks(db: Database, query: Query) -> Generator[str, None, None]:
    r"""Stream the rows of `select` many at a time, as JSON arrays joined by ``,\n``.

    Raises as `select` does, before the first block. NULL is an empty text. A cell in which SQLite
    escaped a character needs a closer look.
    """
    cells = ", ".join(
        f"ifnull({column_sql(column)}, '')" for column in check_columns(query.columns)
    )
    chunks = _run(db, query, f"json_array({cells})")
    return (from_sqlite_json(",\n".join(map(_FIRST, rows))) for rows in chunks)


def separated_blocks(db: Database, query: Query) -> Generator[str | list[Row], None, None]:
    """Stream the rows of `select`, many at a time, as text with `CELL` and `ROW` between them.

    NULL is an empty text. Raises as `select` does, before the first block. From the block on in
    which a cell holds a separator itself, rows come as tuples; all of them with a SQLite before
    3.44, which has no ``concat_ws``.
    """
    columns = check_columns(query.columns)
    cells = ", ".join(f"ifnull({column_sql(column)}, '')" for column in columns)
    with ExitStack() as reading:
        if not db.conn.in_transaction:
            db.begin()  # a second statement may read the rest, and must see the same
            reading.callback(_end_reading, db)
        if sqlite3.sqlite_version_info < (3, 44):
            return _within(reading.pop_all(), _many(select(db, query)))
        chunks = _run(db, query, f"concat_ws(char({ord(CELL)}), {cells})")
        return _within(reading.pop_all(), _separated(db, query, chunks))


def _separated(
    db: Database, query: Query, chunks: Iterator[list[tuple[Any, ...]]]
) -> Iterator[str | list[Row]]:
    between, done = len(query.columns) - 1, 0
    for rows in chunks:
        cells = "".join(map(_FIRST, rows))
        # To find no ROW takes a fourth of the time that it takes to count them in the block.
        if ROW in cells or cells.count(CELL) != len(rows) * between:
            limit = None if query.limit is None else query.limit - done
            rest = query._replace(offset=query.offset + done, limit=limit)
            yield from _many(select(db, rest))
            return
        done += len(rows)
        yield from_sqlite_text(ROW.join(map(_FIRST, rows)))


def _many(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while block := list(islice(rows, _CHUNK)):
        yield block


def _within(
    reading: ExitStack, blocks: Iterator[str | list[Row]]
) -> Generator[str | list[Row], None, None]:
    with reading:
        yield from blocks


def _end_reading(db: Database) -> None:
    with suppress(sqlite3.ProgrammingError):  # the database was closed before
        db.rollback()


def count(db: Database, query: Query) -> int:
    """Return how many rows fit the query without its limit and offset."""
    plain = query._replace(columns=("id",), sort=(), limit=None, offset=0)
    ((total,),) = next(_run(db, plain, "count(*)"))
    return int(total)


def totals(db: Database, query: Query) -> tuple[int, int]:
    """Return how many rows fit the query without its limit and offset, and the models' bytes.

    The bytes of missing models do not count.
    """
    plain = query._replace(columns=("id",), sort=(), limit=None, offset=0)
    there = "total(models.file_size) FILTER (WHERE models.status <> 'missing')"
    ((rows, size),) = next(_run(db, plain, f"count(*), {there}"))
    return int(rows), int(size)


def check_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Return `columns`. Raises `UsageError` naming the first that is unknown, with near ones."""
    for column in columns:
        _check_column(column)
    if not columns:
        raise UsageError("no column is named", hint="there are " + ", ".join(MODEL_COLUMNS))
    return tuple(columns)


def sort_keys(sort: Sequence[str]) -> list[tuple[str, bool]]:
    """Return each sort key as its column and whether it descends."""
    keys = []
    for key in sort:
        column, colon, direction = key.removeprefix("-").partition(":")
        descending = key.startswith("-")
        if colon and (descending or direction not in {"asc", "desc"}):
            raise UsageError(
                f"'{visible(key, 80)}' is not a sort order",
                hint="write COLUMN, -COLUMN or COLUMN:desc",
            )
        _check_column(column)
        keys.append((column, descending or direction == "desc"))
    return keys


def _check_column(column: str) -> None:
    if column not in MODEL_COLUMNS and column not in COMPUTED_COLUMNS:
        from modelstore.catalogue.expression import near

        raise UsageError(f"there is no column '{visible(column, 80)}'", hint=near(column))


def column_sql(column: str) -> str:
    """Return the SQL of the value of a column, computed or not."""
    computed = COMPUTED_COLUMNS.get(column)
    return f"models.{column}" if computed is None else computed.format("models.")


# A text that is no JSON (another program's, or an edit by hand) is a JSON string.
_JSON = {
    column: f"CASE WHEN json_valid(models.{column}) THEN json(models.{column}) "
    f"ELSE models.{column} END"
    for column in (*ARRAY_COLUMNS, "parameters")
}


def _run(db: Database, query: Query, result: str) -> Iterator[list[tuple[Any, ...]]]:
    """Return chunks of rows. Fetch the first at once, so that errors come early."""
    conditions, values = _conditions(query)
    patience = None
    if query.where is not None:
        from modelstore.catalogue.expression import TimeBudget, check_expression

        patience = TimeBudget(WHERE_SECONDS)
        check_expression(query.where)
        conditions.append(f"(\n{query.where}\n)")
    keys = sort_keys(query.sort)
    condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    asked = {*query.columns, *(column for column, _ in keys)}
    if "accessed_at" in asked or ACCESSED in (query.where or ""):
        from modelstore.catalogue.access import register_accessed_at

        register_accessed_at(db)
    if "memory" in asked or MEMORY in (query.where or ""):
        from modelstore.catalogue.memory import register_memory

        register_memory(db, query.cache)
    sql = f"SELECT {result} FROM models{condition}{_order(keys)}"
    by_number = bool(keys) and keys[0][0] not in _INDEXED and not _is_view(db)
    if query.limit is not None or query.offset or by_number:
        # SQLite ignores the order of a subquery that has no limit.
        sql += " LIMIT ? OFFSET ?"
        values += [-1 if query.limit is None else query.limit, query.offset]
    if by_number:
        # Sort row numbers, not whole rows, so that the sort holds little.
        inner = sql.replace(f"SELECT {result} ", "SELECT rowid AS sorted_rowid ", 1)
        sql = f"SELECT {result} FROM ({inner}) CROSS JOIN models ON models.rowid = sorted_rowid"
    return _fetch(db, sql, values, patience)


def _is_view(db: Database) -> bool:
    """Tell whether ``models`` is a temporary view: another program's table, or an older schema."""
    sql = "SELECT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'models')"
    return bool(single_value(db, sql))


def _fetch(
    db: Database, sql: str, values: list[object], patience: TimeBudget | None
) -> Iterator[list[tuple[Any, ...]]]:
    """Run a query and fetch its rows in chunks, each within the time budget."""

    def bounded() -> nullcontext[None]:
        return nullcontext()

    guard = bounded if patience is None else lambda: patience.running(db)
    # plain SQL: a million rows stream 1.7 times (JSON) to 2 times (tuples) as fast as through
    # db.query, which makes a dict of each.
    cursor = db.conn.cursor()
    with guard():
        cursor.execute(sql, values)
        rows = cursor.fetchmany(_CHUNK)

    def chunks() -> Iterator[list[tuple[Any, ...]]]:
        nonlocal rows
        try:
            while rows:
                yield rows
                with guard():
                    rows = cursor.fetchmany(_CHUNK)
        finally:
            with suppress(sqlite3.ProgrammingError):  # the database was closed before
                cursor.close()

    return chunks()


def _conditions(query: Query) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    if query.id is not None:
        conditions.append("models.id = ?")
        values.append(query.id)
    for word in (query.text or "").split():
        condition, patterns = _word_condition(word)
        conditions.append("(" + " OR ".join(condition.format(c) for c in _SEARCHED) + ")")
        values += patterns * len(_SEARCHED)
    for name, wanted in query.filters.items():
        if name not in FILTERS:
            from modelstore.catalogue.expression import near

            raise UsageError(
                f"there is no filter '{visible(name, 80)}'", hint=near(name, tuple(FILTERS))
            )
        if not wanted:
            continue
        column = FILTERS[name]
        marks = ", ".join("?" * len(wanted))
        if column in ARRAY_COLUMNS:
            conditions.append(
                f"EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(models.{column}) "
                f"THEN models.{column} ELSE '[]' END) WHERE value IN ({marks}))"
            )
        else:
            fold = "" if column == "host" else " COLLATE NOCASE"
            conditions.append(f"models.{column}{fold} IN ({marks})")
        values += [to_sqlite_text(value) for value in wanted]
    return conditions, values


def _word_condition(word: str) -> tuple[str, list[str]]:
    """Return the condition for one word in a column, with a place for that, and its values."""
    if any(mark in word for mark in "*?["):
        pattern = "".join(
            part if part.startswith("[") else part.replace("-", " ").replace("_", " ")
            for part in re.split(r"(\[[^]]*\])", word)
        )
        return f"lower({_SPACED}) GLOB ?", [to_sqlite_text(pattern.lower())]
    pattern = _like_pattern(word.replace("-", " ").replace("_", " "))
    first = "models.{0} LIKE ? ESCAPE '\\'"
    if " " not in pattern:
        return first, [pattern]
    # `replace` on each row takes three times as long as LIKE, to which `_` is any character:
    # only a row that fits so far is looked at again.
    return f"{first} AND {_SPACED} LIKE ? ESCAPE '\\'", [pattern.replace(" ", "_"), pattern]


_SPACED = "replace(replace(models.{0}, '-', ' '), '_', ' ')"


def _like_pattern(text: str) -> str:
    r"""Return the LIKE pattern, with the escape ``\``, of texts that contain `text`."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{to_sqlite_text(text)}%"


def _order(keys: Sequence[tuple[str, bool]]) -> str:
    if not keys:
        return ""
    terms = []
    for column, descending in keys:
        is_number = column in INTEGER_COLUMNS or column == "bpw"
        fold = "" if column in _INDEXED or is_number else " COLLATE NOCASE"
        last = "" if column in _INDEXED else " NULLS LAST"
        terms.append(f"{column_sql(column)}{fold}{' DESC' if descending else ''}{last}")
    if not any(column in _INDEXED for column, _ in keys):
        terms.append("models.id")
    return " ORDER BY " + ", ".join(terms)


def _decoded(
    chunks: Iterator[list[tuple[Any, ...]]], texts: Sequence[int]
) -> Generator[tuple[object, ...], None, None]:
    for rows in chunks:
        for row in rows:
            for at in texts:
                cell = row[at]
                if cell.__class__ is str and LEAD in cell:
                    yield tuple(from_sqlite_text(c) if isinstance(c, str) else c for c in row)
                    break
            else:
                yield row
