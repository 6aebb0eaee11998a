"""Asking the catalogue: filters, order and columns in; rows or ready JSON texts out, streamed.

Unknown is last in any order, and equal rows come in the order of their ids. Unsorted, or sorted
by ``id`` or ``locator``, nothing is held in memory; any other order costs memory for the sort key
of each row that fits (of another program's database, for the row).
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.expression import TimeBudget, check_expression, near
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_text import LEAD, from_sqlite_json, from_sqlite_text, to_sqlite_text
from modelstore.errors import UsageError
from modelstore.model import INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

SEARCHED = ("name", "path", "architecture")
FILTERS: Mapping[str, str] = {
    "arch": "architecture",
    "quant": "quantization",
    "type": "type",
    "status": "status",
    "tag": "tags",
    "host": "host",
}
"""The filters' names, as options have them, and their columns."""

WHERE_SECONDS = 30.0  # of running time that a person's expression gets

_INDEXED = frozenset(("id", "locator"))
# Rows fetched at a time: some 70 KB, which the processor keeps at hand. 500 take 10 % longer.
_CHUNK = 128
_FIRST = itemgetter(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to list. Values of one filter are alternatives; different filters all must hold.

    ``filters`` maps a name in `FILTERS` to its values, compared without regard to case but for
    tags and hosts. ``sort`` holds columns, each with an optional ``-`` before or ``:desc`` or
    ``:asc`` behind. ``where`` is an SQL expression of a person's own.
    """

    text: str | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: str | None = None
    sort: tuple[str, ...] = ()
    limit: int | None = None
    offset: int = 0
    columns: tuple[str, ...] = MODEL_COLUMNS


def select(conn: sqlite3.Connection, query: Query) -> Generator[tuple[object, ...], None, None]:
    """Yield the rows, streamed, as tuples in the order of ``query.columns``.

    Who stops early closes the generator before the database: an open statement holds the log.

    Raises `UsageError` for an unknown column or filter and for an expression that cannot be used,
    before the first row.
    """
    columns = check_columns(query.columns)
    rows = _run(conn, query, ", ".join(f"models.{column}" for column in columns))
    texts = [at for at, column in enumerate(columns) if column not in INTEGER_COLUMNS]
    return _decoded(rows, texts)


def json_lines(conn: sqlite3.Connection, query: Query) -> Generator[str, None, None]:
    """Yield each row as one JSON object's text, without a newline: SQLite's own ``json_object``.

    ``tags`` is an array and ``parameters`` an object; unknown is ``null``.
    """
    for block in json_blocks(conn, query, "\n"):
        yield from block.split("\n")


def json_blocks(conn: sqlite3.Connection, query: Query, between: str) -> Generator[str, None, None]:
    """Yield the texts of `json_lines` many at a time, with `between` between them.

    A million rows go through here: what is done for each of them is done in C.
    """
    columns = check_columns(query.columns)
    pairs = ", ".join(f"'{column}', {_JSON.get(column, 'models.' + column)}" for column in columns)
    for rows in _run(conn, query, f"json_object({pairs})"):
        yield from_sqlite_json(between.join(map(_FIRST, rows)))


def cell_blocks(conn: sqlite3.Connection, query: Query) -> Generator[str, None, None]:
    r"""Yield the rows of `select` many at a time, as JSON arrays with ``,\n`` between them.

    Raises as `select` does, before the first block. Unknown is an empty text. What SQLite had to
    escape tells the cells that need a look.
    """
    cells = ", ".join(f"ifnull(models.{column}, '')" for column in check_columns(query.columns))
    chunks = _run(conn, query, f"json_array({cells})")
    return (from_sqlite_json(",\n".join(map(_FIRST, rows))) for rows in chunks)


def count(conn: sqlite3.Connection, query: Query) -> int:
    """Return how many rows fit the query, its limit and offset disregarded."""
    if not (query.text or query.where or any(query.filters.values())):
        return int(conn.execute("SELECT count(*) FROM models").fetchone()[0])
    plain = Query(text=query.text, filters=query.filters, where=query.where)
    ((total,),) = next(_run(conn, plain, "count(*)"))
    return int(total)


def totals(conn: sqlite3.Connection, query: Query) -> tuple[int, int]:
    """Return how many rows fit the query, and the bytes of those that are not missing.

    Limit and offset are disregarded.
    """
    plain = Query(text=query.text, filters=query.filters, where=query.where)
    there = "total(models.file_size) FILTER (WHERE models.status <> 'missing')"
    ((rows, size),) = next(_run(conn, plain, f"count(*), {there}"))
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
    if column not in MODEL_COLUMNS:
        raise UsageError(f"there is no column '{visible(column, 80)}'", hint=near(column))


# A text that is no JSON (another program's, or an edit by hand) is given as the text it is.
_JSON = {
    column: f"CASE WHEN json_valid(models.{column}) THEN json(models.{column}) "
    f"ELSE models.{column} END"
    for column in ("tags", "parameters")
}


def _run(conn: sqlite3.Connection, query: Query, result: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield chunks of rows; the first is fetched before this returns, so that errors come early."""
    conditions, values = _conditions(query)
    if query.where is not None:
        check_expression(query.where)
        conditions.append(f"(\n{query.where}\n)")
    keys = sort_keys(query.sort)
    condition = " AND ".join(conditions) or "1"
    sql = f"SELECT {result} FROM models WHERE {condition}{_order(keys)}"
    by_number = bool(keys) and keys[0][0] not in _INDEXED and not _is_view(conn)
    if query.limit is not None or query.offset or by_number:
        # SQLite leaves out the order of a subquery that has no limit.
        sql += " LIMIT ? OFFSET ?"
        values += [-1 if query.limit is None else query.limit, query.offset]
    if by_number:
        # Sort row numbers, not whole rows, so that the sort holds little.
        inner = sql.replace(f"SELECT {result} ", "SELECT rowid AS sorted_rowid ", 1)
        sql = f"SELECT {result} FROM ({inner}) CROSS JOIN models ON models.rowid = sorted_rowid"
    return _fetch(conn, sql, values, TimeBudget(WHERE_SECONDS) if query.where is not None else None)


def _is_view(conn: sqlite3.Connection) -> bool:
    """Tell whether ``models`` is another program's, seen through a view, which has no rowid."""
    sql = "SELECT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'models')"
    return bool(conn.execute(sql).fetchone()[0])


def _fetch(
    conn: sqlite3.Connection, sql: str, values: list[object], patience: TimeBudget | None
) -> Iterator[list[tuple[Any, ...]]]:
    def bounded() -> nullcontext[None]:
        return nullcontext()

    guard = bounded if patience is None else lambda: patience.running(conn)
    cursor = conn.cursor()
    cursor.row_factory = None
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
    if query.text:
        pattern = like_pattern(query.text)
        fits = [f"models.{column} LIKE ? ESCAPE '\\'" for column in SEARCHED]
        conditions.append("(" + " OR ".join(fits) + ")")
        values += [pattern] * len(SEARCHED)
    for name, wanted in query.filters.items():
        if name not in FILTERS:
            raise UsageError(
                f"there is no filter '{visible(name, 80)}'", hint=near(name, tuple(FILTERS))
            )
        if not wanted:
            continue
        column = FILTERS[name]
        marks = ", ".join("?" * len(wanted))
        if column == "tags":
            conditions.append(
                "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(models.tags) "
                f"THEN models.tags ELSE '[]' END) WHERE value IN ({marks}))"
            )
        else:
            fold = "" if column == "host" else " COLLATE NOCASE"
            conditions.append(f"models.{column}{fold} IN ({marks})")
        values += [to_sqlite_text(value) for value in wanted]
    return conditions, values


def like_pattern(text: str) -> str:
    r"""Return the LIKE pattern (escape ``\``) of what contains `text`."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{to_sqlite_text(text)}%"


def _order(keys: Sequence[tuple[str, bool]]) -> str:
    if not keys:
        return ""
    terms = []
    for column, descending in keys:
        fold = "" if column in _INDEXED or column in INTEGER_COLUMNS else " COLLATE NOCASE"
        last = "" if column in _INDEXED else " NULLS LAST"
        terms.append(f"models.{column}{fold}{' DESC' if descending else ''}{last}")
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
