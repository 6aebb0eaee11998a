"""Expectations: the main file alone must hold the rows and models that the caller names."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.database.handle import connect, quote_identifier
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import is_busy
from modelstore.database.sqlite_text import from_sqlite_text
from modelstore.finding import Finding
from modelstore.text import ascii_lower, human_bytes, listed, plural, process_name
from modelstore.verify.check import NAMED, Check, Run
from modelstore.verify.expected import DEFAULT_TABLE, KEYS, Expected, RowCount, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelstore.database.handle import Database
    from modelstore.verify.check import MainFile
    from modelstore.wal.locks import Blocker

_HAS_TABLE = (
    "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE"
)
_VALUE = 80  # characters of a value that a sentence shows
_KEPT = 1000  # problems that the data name


def check_expectations(
    expected: Expected,
    alone: Database,
    view: Database | None,
    seen: str = "in the main file alone",
) -> Iterator[Finding]:
    """Compare the expectations with the rows that `alone` sees; `seen` says where that is.

    `view` sees the log as well, if that may make a difference: a failure then tells what is in the
    log.
    """
    for wanted in expected.counts:
        yield _count(wanted, alone, view, seen, expected.host)
    if expected.host is not None:
        yield _host(expected.host, alone, seen)
    if expected.models:
        yield _models(expected.models, alone, view, seen)


class Shortfall(Enum):
    """The way in which a table misses an expectation; the value is the code in the data."""

    NO_TABLE = "no-table"
    UNREADABLE = "unreadable"
    ONLY_IN_LOG = "only-in-log"
    TOO_FEW = "too-few"
    TOO_MANY = "too-many"


_ADVICE = {
    Shortfall.UNREADABLE: "keep the database and its -wal; `modelstore recover DATABASE --into "
    "NEW.db` writes what can be read to a new file",
    Shortfall.ONLY_IN_LOG: "keep the -wal and fold it: `modelstore checkpoint`",
    Shortfall.TOO_FEW: "if the rows were there once, `modelstore recover DATABASE --deleted` looks "
    "for what is left of them, and a backup may have them",
    Shortfall.TOO_MANY: "correct the expectation, or find out which program added the rows",
}
_IMPORT = "import again; "
_FIRST = "first do what the other checks say, and verify again: rows may be in what was not read"


def _count(
    wanted: RowCount, alone: Database, view: Database | None, seen: str, host: str | None
) -> Finding:
    host = host if wanted.table == DEFAULT_TABLE else None
    found = _rows(alone, wanted.table, host)
    is_met = isinstance(found, int) and (
        found >= wanted.number if wanted.at_least else found == wanted.number
    )
    words = "at least " if wanted.at_least else ""
    if isinstance(found, int):
        of_host = f" of {host}" if host is not None else ""
        measured = f"{wanted.table}: {plural(found, 'row')}{of_host} {seen}"
        measured += ", as expected" if is_met else f", not {words}{wanted.number:,}"
    else:
        problem = "there is no such table" if found is None else found
        measured = f"{wanted.table}: {problem}; {words}{plural(wanted.number, 'row')} expected"
    with_log = _rows(view, wanted.table, host) if view is not None and not is_met else None
    shortfall = None if is_met else _shortfall(wanted, found, with_log)
    if isinstance(with_log, int) and with_log != found:
        measured += f" ({with_log:,} together with its -wal)"
    return Finding(
        "expectations.count",
        "pass" if is_met else "fail",
        measured,
        wanted.table,
        None if shortfall is None else _advice(shortfall, wanted.table, alone),
        {
            "table": wanted.table,
            "shortfall": None if shortfall is None else shortfall.value,
            "expected": wanted.number,
            "at_least": wanted.at_least,
            "found": found if isinstance(found, int) else None,
            "with_log": with_log if isinstance(with_log, int) else None,
        },
    )


def _shortfall(wanted: RowCount, found: int | str | None, with_log: int | str | None) -> Shortfall:
    if isinstance(with_log, int) and (
        with_log >= wanted.number if wanted.at_least else with_log == wanted.number
    ):
        return Shortfall.ONLY_IN_LOG
    rows = found if with_log is None else with_log
    if rows is None:
        return Shortfall.NO_TABLE
    if isinstance(rows, str):
        return Shortfall.UNREADABLE
    return Shortfall.TOO_FEW if rows < wanted.number else Shortfall.TOO_MANY


def _advice(shortfall: Shortfall, table: str, alone: Database) -> str:
    """Return the thing to do; for a table that is missing, name those that are there."""
    if shortfall is not Shortfall.NO_TABLE:
        is_ours = shortfall is Shortfall.TOO_FEW and table == DEFAULT_TABLE
        return (_IMPORT if is_ours else "") + _ADVICE[shortfall]
    try:
        names = [*alone.table_names(), *alone.view_names()]
    except sqlite3.Error:
        return _ADVICE[Shortfall.UNREADABLE]
    from difflib import get_close_matches

    near = get_close_matches(ascii_lower(table), {ascii_lower(name) for name in names}, n=1)
    if near:
        name = next(name for name in names if ascii_lower(name) == near[0])
        return f"name the table as it is: {name}"
    if not names:
        return "the database has no table at all: check the path, or import first"
    if table == DEFAULT_TABLE:
        return (
            "this is no catalogue but another program's database: name one of its tables, as in "
            f"--expect-count {names[0]}=N"
        )
    return f"its tables are {listed(sorted(names), NAMED)}"


def _host(host: str, db: Database, seen: str) -> Finding:
    """Tell how many models a machine has, and whether its replica in a fleet has gone silent."""
    found = _rows(db, DEFAULT_TABLE, host)
    if not isinstance(found, int) or not found:
        return Finding(
            "expectations.host",
            "fail",
            f"no model of the machine {host} {seen}",
            host,
            "`modelstore list --columns host` shows the machines that there are",
            {"host": host, "models": found if isinstance(found, int) else None, "status": None},
        )
    noted = db.query(_MACHINE, {"host": host}) if db.table("roots").exists() else iter(())
    machine = next(iter(noted), None)
    is_silent = machine is not None and machine["status"] == "offline"
    measured = f"{host}: {plural(found, 'model')} {seen}"
    if machine is not None:
        measured += f", read at {machine['imported_at']}"
    return Finding(
        "expectations.host",
        "warn" if is_silent else "pass",
        measured + ("; its replica has not moved for a day" if is_silent else ""),
        host,
        "see whether the machine and its Litestream run" if is_silent else None,
        {
            "host": host,
            "models": found,
            "status": machine["status"] if machine is not None else None,
            "read_at": machine["imported_at"] if machine is not None else None,
        },
    )


_MACHINE = """SELECT status, imported_at FROM roots WHERE host = :host AND source = 'fleet'
ORDER BY imported_at DESC LIMIT 1"""


def _rows(db: Database, table: str, host: str | None = None) -> int | str | None:
    """Return the number of rows of a table: None without that table, or why it is unknown.

    With `host`, only the rows of that machine count.

    Counts the table itself: SQLite may count the entries of an index, which may be damaged.
    """
    try:
        kinds = [str(row["type"]) for row in db.query(_HAS_TABLE, [table])]
        if not kinds:
            return None
        where = " NOT INDEXED" if kinds[0] == "table" else ""
        only = "" if host is None else " WHERE host = :host"
        select = f"SELECT count(*) AS rows FROM {quote_identifier(table)}{where}{only}"
        return int(next(iter(db.query(select, {"host": host})))["rows"])
    except (sqlite3.Error, UnicodeEncodeError) as error:
        if isinstance(error, sqlite3.Error) and is_busy(error):
            raise
        return f"it cannot be read ({error})"


def _models(
    models: tuple[Mapping[str, object], ...], alone: Database, view: Database | None, seen: str
) -> Finding:
    best = _Best(models)
    try:
        for row in alone.query(f"SELECT * FROM {DEFAULT_TABLE}"):
            best.take(row)
    except sqlite3.Error as error:
        if is_busy(error):
            raise
        return Finding(
            "expectations.models",
            "fail",
            f"the models cannot be read: {error}",
            DEFAULT_TABLE,
            _ADVICE[Shortfall.UNREADABLE]
            if isinstance(_rows(alone, DEFAULT_TABLE), str)
            else _advice(Shortfall.NO_TABLE, DEFAULT_TABLE, alone),
        )
    missing = best.missing()
    different = best.different()
    met = len(models) - len(missing) - len(different)
    measured = f"{met:,} of {plural(len(models), 'expected model')} {seen}"
    if missing:
        measured += f"; missing: {listed(missing, NAMED)}"
    if different:
        measured += f"; different: {listed(different, NAMED)}"
    is_met = not (missing or different)
    return Finding(
        "expectations.models",
        "pass" if is_met else "fail",
        measured,
        DEFAULT_TABLE,
        None if is_met else _models_advice(missing, alone, view),
        {
            "expected": len(models),
            "met": met,
            "missing": missing[:_KEPT],
            "different": different[:_KEPT],
        },
    )


def _models_advice(missing: list[str], alone: Database, view: Database | None) -> str:
    if not missing:
        return "import again, or correct the expectation"
    in_main = _rows(alone, DEFAULT_TABLE)
    in_both = _rows(view, DEFAULT_TABLE) if view is not None else None
    is_in_log = isinstance(in_main, int) and isinstance(in_both, int) and in_both > in_main
    return _ADVICE[Shortfall.ONLY_IN_LOG] if is_in_log else _IMPORT + _ADVICE[Shortfall.TOO_FEW]


class _Best:
    """The row that fits each expected model best, found in one pass over the rows."""

    def __init__(self, models: tuple[Mapping[str, object], ...]) -> None:
        self._models = models
        self._differences: dict[int, list[str]] = {}
        self._by_key: dict[tuple[str, str], list[int]] = {}
        for place, model in enumerate(models):
            self._by_key.setdefault(key_of(model), []).append(place)

    def take(self, row: dict[str, object]) -> None:
        """Compare one row with the models that it may be."""
        for key in KEYS:
            value = row.get(key)
            if not isinstance(value, str):
                continue
            for place in self._by_key.get((key, from_sqlite_text(value)), ()):
                known = self._differences.get(place)
                if known != []:
                    found = list(_differences(self._models[place], row))
                    if known is None or len(found) < len(known):
                        self._differences[place] = found

    def missing(self) -> list[str]:
        """Return the models without a row."""
        return [
            key_of(model)[1]
            for place, model in enumerate(self._models)
            if place not in self._differences
        ]

    def different(self) -> list[str]:
        """Return the models whose row has other values, and these values."""
        return [
            f"{key_of(self._models[place])[1]}: {'; '.join(found)}"
            for place, found in sorted(self._differences.items())
            if found
        ]


def _differences(model: Mapping[str, object], row: Mapping[str, object]) -> Iterator[str]:
    for field, wanted in model.items():
        if field not in row:
            yield f"there is no {field}"
            continue
        value = row[field]
        found: object = from_sqlite_text(value) if isinstance(value, str) else value
        if isinstance(wanted, (list, dict)) and isinstance(value, str):
            with suppress(ValueError, RecursionError):
                found = json.loads(value)
        if found != wanted:
            yield f"{field} is {_short(found)}, not {_short(wanted)}"


def _short(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= _VALUE else text[: _VALUE - 1] + "…"


def _check_log_size(run: Run) -> Iterator[Finding]:
    expected = run.options.expected
    if expected is None or expected.max_wal_size is None or run.subject.gone is not None:
        return
    size, limit = run.subject.log.scan.size, expected.max_wal_size
    is_over = size > limit
    yield Finding(
        "expectations.wal-size",
        "fail" if is_over else "pass",
        f"the -wal had {human_bytes(size)} before this run, "
        f"{'more than' if is_over else 'within'} {human_bytes(limit)}",
        run.subject.log_path,
        _growth_advice(run) if is_over else None,
        {"size": size, "limit": limit},
    )


def _growth_advice(run: Run) -> str:
    """Return the thing to do about a log that is too large: it depends on who is in the way."""
    log = run.subject.log
    if run.unfoldable is not None:
        return "first do what the other checks say: as it is, the log must not be folded"
    folding = [blocker for blocker in log.blockers if blocker.holds_up_folding]
    if folding:
        return f"{_named(folding)} keeps it from being folded: let that end its transaction"
    readers = [blocker for blocker in log.blockers if "reset" in blocker.blocks]
    if readers:
        return f"{_named(readers)} keeps it from beginning anew: let that end its transaction"
    if not log.locks.complete:
        return "`modelstore checkpoint` folds it, or names who is in the way"
    if not log.pending:
        return (
            "all of it is in the main file, and the file keeps its size: `modelstore checkpoint` "
            "shortens it, and PRAGMA journal_size_limit keeps it short"
        )
    return (
        "nobody is in the way: `modelstore checkpoint` folds it; if it grows again, see whether "
        "the application turned wal_autocheckpoint off"
    )


def _named(blockers: list[Blocker]) -> str:
    return listed(sorted({process_name(b.pid, b.command) for b in blockers}), NAMED)


def _check(run: Run, main: MainFile) -> Iterator[Finding]:
    expected = run.options.expected
    if expected is None:
        return
    for finding in _findings(run, expected, main):
        is_clear = finding.severity == "pass" or finding.data.get("shortfall") == "too-many"
        is_blocked = run.unfoldable is not None and not is_clear
        yield replace(finding, advice=_FIRST) if is_blocked else finding


def _findings(run: Run, expected: Expected, main: MainFile) -> Iterator[Finding]:
    if main.alone is not None:
        yield from check_expectations(expected, main.alone, None)
    elif main.is_moving and main.with_log is not None:
        seen = "in database and log together"
        yield from check_expectations(expected, main.with_log, None, seen)
    else:
        with closing(connect(run.subject.path, "immutable")) as alone:
            yield from check_expectations(expected, alone, main.with_log)


def _tell_unreadable(run: Run) -> Iterator[Finding]:
    words = "the expectations cannot be checked: the database cannot be read"
    yield Finding("expectations.unreadable", "fail", words, run.subject.path)


CHECK = Check(
    name="expectations",
    title="the rows and models that the caller expects",
    order=90,
    raw=_check_log_size,
    main_file=_check,
    unreadable=_tell_unreadable,
    applies=lambda options: options.expected is not None,
)
