"""A child process that plays histories: ``python -m tests.truth.player LIBRARY``.

An error of SQLite is no failure: in a shrunk history many a step has nothing to work on.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote

from tests.truth.histories import History, Step, Verb
from tests.truth.life import Files, read_files, serve, write_files

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
        source.backup(self._conns[on], progress=_end_if_locked)
        source.close()

    def reserve(self, on: int, count: int) -> None: ...

    def reset(self, on: int) -> None: ...


def _end_if_locked(code: int, _left: int, _total: int) -> None:
    """End a backup that would wait for this process's own reader for ever."""
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError(code)


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


class Player:
    """Plays histories on connections of one SQLite."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def play(self, history: History, place: str) -> list[tuple[int, Files]]:
        """Play a history in a directory; return the files after each step that changed them."""
        path, generation = f"{place}/0.db", 0
        moments: list[tuple[int, Files]] = []
        files: Files = {}
        for at, step in enumerate(history.steps):
            if step.verb is Verb.CRASH:
                generation += 1
                path = self._crash(path, f"{place}/{generation}.db", history.parameters)
            else:
                self._try(step, path, history.parameters)
            before, files = files, read_files(path)
            if not moments or files != before:
                # Equal content is one object, which goes through the pipe once.
                files = {k: before[k] if before.get(k) == v else v for k, v in files.items()}
                moments.append((at, files))
        self._end()
        return moments

    def _crash(self, path: str, copy: str, parameters: str) -> str:
        """Go on with copies of the files: no process closes the database in order."""
        files = {suffix: data for suffix, data in read_files(path).items() if suffix != "-shm"}
        self._end()
        write_files(copy, files)
        self._try(Step(Verb.OPEN), copy, parameters)
        self._try(Step(Verb.SQL, "PRAGMA wal_autocheckpoint=0"), copy, parameters)
        return copy

    def _end(self) -> None:
        for number in range(3):
            with suppress(*self._library.errors):
                self._library.close(number)

    def _try(self, step: Step, path: str, parameters: str) -> None:
        with suppress(*self._library.errors):
            self._step(step, path, parameters)

    def _step(self, step: Step, path: str, parameters: str) -> None:
        library, on, text = self._library, step.on, step.text
        match step.verb:
            case Verb.SQL:
                if on == 2:  # a writer that comes and goes would fold the log
                    library.open(on, path, parameters)
                    library.sql(on, "PRAGMA wal_autocheckpoint=0")
                library.sql(on, text)
            case Verb.OPEN:
                library.open(on, path, parameters)
            case Verb.CLOSE:
                library.close(on)
            case Verb.RESTORE:
                library.restore(on, text)
            case Verb.RESERVE:
                library.reserve(on, int(text))
            case Verb.RESET:
                library.reset(on)


def main() -> None:
    """Play until the parent ends."""
    player = Player(Apsw() if sys.argv[1] == "apsw" else Stdlib())
    serve(lambda request: player.play(request["history"], request["place"]))


if __name__ == "__main__":
    main()
