"""A child process that plays the steps of a history: ``python -m tests.truth.player LIBRARY``.

It reads one JSON object a line and answers each with one. An error of SQLite is no failure: in a
shrunk history many a step has nothing to work on.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any, Protocol
from urllib.parse import quote

_NOT_THERE = (KeyError, UnicodeError)  # a connection, or a name, that a shrunk history lacks


class Library(Protocol):
    """Connections of one SQLite, by number; `errors` are the exceptions that it raises."""

    errors: tuple[type[Exception], ...]

    def open(self, on: int, path: str, parameters: str) -> None: ...
    def close(self, on: int) -> None: ...
    def sql(self, on: int, text: str) -> None: ...
    def restore(self, on: int, text: str) -> None: ...
    def reserve(self, on: int, count: int) -> None: ...
    def reset(self, on: int) -> None: ...


class Stdlib:
    """Python's own sqlite3. It can neither reserve bytes nor reset a database."""

    def __init__(self) -> None:
        self._conns: dict[int, sqlite3.Connection] = {}
        self.errors: tuple[type[Exception], ...] = (sqlite3.Error, sqlite3.Warning, *_NOT_THERE)

    def open(self, on: int, path: str, parameters: str) -> None:
        self.close(on)
        uri = f"file:{quote(path)}?{parameters}"
        self._conns[on] = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)

    def close(self, on: int) -> None:
        if on in self._conns:
            self._conns.pop(on).close()

    def sql(self, on: int, text: str) -> None:
        self._conns[on].execute(text).fetchall()

    def restore(self, on: int, text: str) -> None:
        source = sqlite3.connect(":memory:", isolation_level=None)
        source.executescript(text)
        source.backup(self._conns[on])
        source.close()

    def reserve(self, on: int, count: int) -> None: ...

    def reset(self, on: int) -> None: ...


class Apsw:
    """A newer SQLite."""

    def __init__(self) -> None:
        import apsw

        self._apsw: Any = apsw
        self._conns: dict[int, Any] = {}
        self.errors: tuple[type[Exception], ...] = (apsw.Error, *_NOT_THERE)

    def open(self, on: int, path: str, parameters: str) -> None:
        self.close(on)
        apsw = self._apsw
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        self._conns[on] = apsw.Connection(f"file:{quote(path)}?{parameters}", flags=flags)

    def close(self, on: int) -> None:
        if on in self._conns:
            self._conns.pop(on).close(True)

    def sql(self, on: int, text: str) -> None:
        list(self._conns[on].execute(text))

    def restore(self, on: int, text: str) -> None:
        source = self._apsw.Connection(":memory:")
        list(source.execute(text))
        with self._conns[on].backup("main", source, "main") as backup:
            backup.step()
        source.close()

    def reserve(self, on: int, count: int) -> None:
        self._conns[on].reserve_bytes("main", count)

    def reset(self, on: int) -> None:
        conn, option = self._conns[on], self._apsw.SQLITE_DBCONFIG_RESET_DATABASE
        conn.config(option, 1)
        try:
            list(conn.execute("VACUUM"))
        finally:
            conn.config(option, 0)


def main() -> None:
    """Play until stdin ends."""
    library: Library = Apsw() if sys.argv[1] == "apsw" else Stdlib()
    for line in sys.stdin:
        request = json.loads(line)
        trouble = None
        try:
            _play(library, request)
        except library.errors as error:
            trouble = str(error)
        print(json.dumps({"trouble": trouble}), flush=True)


def _play(library: Library, request: dict[str, Any]) -> None:
    on, text = request["on"], request["text"]
    match request["verb"]:
        case "sql":
            if on == 2:  # a writer that comes and goes would fold the log
                library.open(on, request["path"], request["parameters"])
                library.sql(on, "PRAGMA wal_autocheckpoint=0")
            library.sql(on, text)
        case "open":
            library.open(on, request["path"], request["parameters"])
        case "close":
            library.close(on)
        case "end":
            for number in range(3):
                library.close(number)
        case "restore":
            library.restore(on, text)
        case "reserve":
            library.reserve(on, int(text))
        case "reset":
            library.reset(on)


if __name__ == "__main__":
    main()
