"""A child process that reads both views of a state: ``python -m tests.truth.oracle LIBRARY``.

`LIBRARY` is ``stdlib`` or ``apsw``: two SQLites of different ages, each in a process of its own.
It answers with all that differs between the database with its log, and the main file alone.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.truth.life import serve

_PRAGMAS = (
    *("user_version", "application_id", "auto_vacuum", "encoding", "freelist_count"),
    *("page_count", "schema_version", "page_size"),
)
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
Ask = Callable[[str], list[tuple[Any, ...]]]
Key = tuple[Any, ...]


@dataclass(slots=True)
class View:
    """A database as SQLite reads it. `trouble` is the error that ended the reading."""

    trouble: str | None = None
    integrity: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    schema: dict[tuple[str, str], str | None] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, dict[Key, Key]] = field(default_factory=dict)
    has_key: dict[str, bool] = field(default_factory=dict)


class Stdlib:
    """Connections of Python's own sqlite3."""

    error: type[Exception] = sqlite3.Error

    @staticmethod
    def connect(uri: str) -> tuple[Ask, Callable[[], None]]:
        conn = sqlite3.connect(uri, uri=True, isolation_level=None)
        conn.text_factory = _text
        return lambda sql: conn.execute(sql).fetchall(), conn.close


class Apsw:
    """Connections of apsw."""

    def __init__(self) -> None:
        import apsw

        self._apsw: Any = apsw
        self.error: type[Exception] = apsw.Error

    def connect(self, uri: str) -> tuple[Ask, Callable[[], None]]:
        apsw = self._apsw
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        conn = apsw.Connection(uri, flags=flags)
        return lambda sql: list(conn.execute(sql)), conn.close


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read(ask: Ask, errors: tuple[type[Exception], ...]) -> View:
    """Read a whole database."""
    view = View()
    try:
        for name in _PRAGMAS:
            view.header[name] = ask(f"PRAGMA {name}")[0][0]
        found = ask("SELECT type, name, sql FROM sqlite_schema")
        view.schema = {(kind, name): sql for kind, name, sql in found}
        view.integrity = str(ask("PRAGMA integrity_check(3)")[0][0])
        for (name,) in ask(_TABLES):
            _read_table(ask, name, view)
    except errors as error:
        view.trouble = f"{type(error).__name__}: {error}"
    return view


def _read_table(ask: Ask, name: str, view: View) -> None:
    info = ask(f"PRAGMA table_xinfo({_quoted(name)})")
    columns = [row[1] for row in info if row[6] in (0, 2, 3)]
    keys = [row[1] for row in sorted(info, key=lambda row: int(row[5])) if row[5]]
    chosen = ", ".join(map(_quoted, columns))
    (listed,) = ask(f"SELECT wr FROM pragma_table_list WHERE name = {_literal(name)}") or [(0,)]
    if listed[0]:
        key = ", ".join(map(_quoted, keys))
        # Despite NOT INDEXED, SQLite reads such a table from a covering index; the one named here
        # must be used, and is the table itself. https://www.sqlite.org/lang_indexedby.html
        (own,) = (row[1] for row in ask(f"PRAGMA index_list({_quoted(name)})") if row[3] == "pk")
        rows = ask(f"SELECT {key}, {chosen} FROM {_quoted(name)} INDEXED BY {_quoted(own)}")
        width = len(keys)
    else:
        alias = next(a for a in ("rowid", "_rowid_", "oid") if a not in map(str.lower, columns))
        rows = ask(f"SELECT {alias}, {chosen} FROM {_quoted(name)} NOT INDEXED")
        width = 1
    view.columns[name] = columns
    view.has_key[name] = bool(listed[0]) or (
        len(keys) == 1 and any(row[5] and row[2].upper() == "INTEGER" for row in info)
    )
    view.rows[name] = {_typed(row[:width]): _typed(row[width:]) for row in rows}


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _typed(row: tuple[Any, ...]) -> Key:
    """Return values that are equal only if their types are."""
    return tuple((type(value).__name__, value) for value in row)


# -- the difference --------------------------------------------------------------------------------


def differences(both: View, alone: View) -> dict[str, Any]:
    """Return the figures of each table by name: several where a fair reader may count in several
    ways. Each is (lost, reverted, returning)."""
    old = {_folded(name): name for name in alone.rows}
    tables: dict[str, Any] = {}
    for name in both.rows:
        former = old.pop(_folded(name), None)
        tables[name] = _table(both, name, alone, former)
    for name in old.values():
        tables[name] = _table(both, None, alone, name)
    return tables


def _table(both: View, name: str | None, alone: View, former: str | None) -> dict[str, Any]:
    new = both.rows[name] if name is not None else {}
    old = alone.rows[former] if former is not None else {}
    changed = [key for key in new if key in old and old[key] != new[key]]
    lost = [key for key in new if key not in old]
    returning = [key for key in old if key not in new]
    figures = [[len(lost), len(changed), len(returning)]]
    if name is not None and former is not None:
        figures.append(
            [len(lost), len(_beyond_columns(both, alone, name, former, changed)), len(returning)]
        )
        if set(both.columns[name]) < set(alone.columns[former]):
            kept = _beside_dropped(both, alone, name, former, changed)
            figures.append([len(lost), len(kept), len(returning)])
        if not (both.has_key[name] and alone.has_key[former]):
            figures.append(_by_content(new, old))
            figures.append(_by_place(new, old))
    return {
        "figures": figures,
        "former": former,
        "lost": [_plain(key) for key in lost[:400]],
        "reverted": [_plain(key) for key in changed[:400]],
        "returning": [_plain(key) for key in returning[:400]],
    }


def _beyond_columns(
    both: View, alone: View, name: str, former: str, changed: list[Key]
) -> list[Key]:
    """Return the changed rows, if columns that only one side has do not count."""
    one, two = both.columns[name], alone.columns[former]
    width = min(len(one), len(two))
    new, old = both.rows[name], alone.rows[former]
    return [key for key in changed if new[key][:width] != old[key][:width]]


def _beside_dropped(
    both: View, alone: View, name: str, former: str, changed: list[Key]
) -> list[Key]:
    """Return the changed rows, if dropped columns do not count: DROP COLUMN changes no other value.

    https://www.sqlite.org/lang_altertable.html#altertabdropcol
    """
    places = [alone.columns[former].index(column) for column in both.columns[name]]
    new, old = both.rows[name], alone.rows[former]
    return [key for key in changed if new[key] != tuple(old[key][at] for at in places)]


def _by_content(new: dict[Key, Key], old: dict[Key, Key]) -> list[int]:
    """Count rows by content alone: no key is declared, so a rowid is no part of a row."""
    one, two = Counter(new.values()), Counter(old.values())
    return [(one - two).total(), 0, (two - one).total()]


def _by_place(new: dict[Key, Key], old: dict[Key, Key]) -> list[int]:
    """Count rows by rowid, those of the main file as 1, 2, 3 and so on: a VACUUM in the log may
    number them so where no key is declared. https://www.sqlite.org/lang_vacuum.html"""
    numbered = {(("int", number),): old[key] for number, key in enumerate(sorted(old), 1)}
    changed = [key for key in new if key in numbered and numbered[key] != new[key]]
    return [len(new.keys() - numbered), len(changed), len(numbered.keys() - new)]


def _plain(key: Key) -> Any:
    values = [value if not isinstance(value, bytes) else value.hex() for _, value in key]
    return values[0] if len(values) == 1 else values


def renamed(both: View, alone: View, name: str, former: str) -> dict[str, Any] | None:
    """Return the figures of a table that had another name; None if there are no such tables."""
    if name not in both.rows or former not in alone.rows:
        return None
    return _table(both, name, alone, former)


def _folded(name: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in name)


# -- the child -------------------------------------------------------------------------------------


def _look(library: Any, place: str) -> tuple[View, View, dict[str, Any]]:
    errors = (library.error, UnicodeError, OverflowError)
    alone = _read(library, f"file:{quote(place)}/alone.db?immutable=1", errors)
    more: dict[str, Any] = {"frames": [], "owners": []}

    def count(ask: Ask) -> None:
        more.update(_counts(ask, errors))

    both = _read(library, f"file:{quote(place)}/both.db?mode=rw", errors, count)
    answer = {
        "both": _told(both),
        "alone": _told(alone),
        "tables": differences(both, alone),
        "schema": _schema_changes(both, alone),
        "digests": [_digest(both), _digest(alone)],
        **more,
    }
    return both, alone, answer


def _read(
    library: Any,
    uri: str,
    errors: tuple[type[Exception], ...],
    then: Callable[[Ask], None] | None = None,
) -> View:
    try:
        ask, close = library.connect(uri)
    except errors as error:
        return View(str(error))
    try:
        view = read(ask, errors)
        if then is not None:
            then(ask)
    finally:
        close()
    return view


def _counts(ask: Ask, errors: tuple[type[Exception], ...]) -> dict[str, Any]:
    """Return SQLite's row of a PASSIVE checkpoint, and the owner of each page by dbstat."""
    counts: dict[str, Any] = {"frames": [], "owners": []}
    with suppress(*errors):
        counts["owners"] = [list(row) for row in ask("SELECT pageno, name FROM dbstat")]
    with suppress(*errors):
        counts["frames"] = [int(value) for value in ask("PRAGMA wal_checkpoint(PASSIVE)")[0]]
    return counts


def _told(view: View) -> dict[str, Any]:
    return {
        "trouble": view.trouble,
        "integrity": view.integrity,
        "header": view.header,
        "schema": [[*key, sql] for key, sql in view.schema.items()],
        "rows": {name: len(rows) for name, rows in view.rows.items()},
    }


def _schema_changes(both: View, alone: View) -> list[list[Any]]:
    names = {(kind, _folded(name)): name for kind, name in both.schema}
    old = {(kind, _folded(name)): name for kind, name in alone.schema}
    changes: list[list[Any]] = []
    for key in names.keys() | old.keys():
        now, then = names.get(key), old.get(key)
        if now is None or then is None:
            changes.append(
                [key[0], now if now is not None else then, "vanishes" if now else "returns"]
            )
        elif both.schema[key[0], now] != alone.schema[key[0], then]:
            changes.append([key[0], now, "reverts"])
    return sorted(changes)


def _digest(view: View) -> str:
    """Return a digest of schema and rows."""
    rows = sorted((name, sorted(map(repr, found.items()))) for name, found in view.rows.items())
    text = repr((sorted(map(repr, view.schema.items())), rows))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Oracle:
    """Reads states with one SQLite, and keeps the last one for questions about it."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._both, self._alone = View(), View()

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Read the state at ``place``, or compare the two tables ``renamed`` of the last one."""
        if "renamed" in request:
            return renamed(self._both, self._alone, *request["renamed"])
        self._both, self._alone, answer = _look(self._library, request["place"])
        return answer


def main() -> None:
    """Answer until the parent ends."""
    serve(Oracle(Apsw() if sys.argv[1] == "apsw" else Stdlib()).answer)


if __name__ == "__main__":
    main()
