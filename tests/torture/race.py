"""The two sides of a race for the log: one folds it, the other commits and so restarts it.

``python -m tests.torture.race SIDE SQLITE DATABASE`` is one side, on the SQLite that the package
ships (``shipped``) or on the interpreter's own (``own``). It says "ready", works until its stdin
ends, and then says what it did, as JSON.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any

MAPPED = 1 << 30  # bytes: a mapping takes time to undo, which is the window of the race
_ROW = "y" * 3000  # one to a page: no later commit writes that page again, and hides a loss
_TOUCH = "SELECT length(v) FROM big LIMIT 1"


def database(path: str, rows: int) -> None:
    """Make a database that is large enough for a mapping to cost something."""
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE big (v TEXT)")
    connection.execute("CREATE TABLE acknowledged (n INTEGER PRIMARY KEY, v TEXT)")
    row = "x" * 3900
    connection.executemany("INSERT INTO big VALUES (?)", ((row,) for _ in range(rows)))
    connection.commit()
    connection.close()


def _finished() -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready)


def _sql(which: str) -> Any:
    if which == "own":
        import _sqlite3  # noqa: F401  # loaded first, so that no library takes its place

        sys.modules["pysqlite3"] = None  # type: ignore[assignment]  # as where there is no wheel
    from modelstore.database.sqlite import sqlite3

    return sqlite3


def _salt(descriptor: int) -> bytes:
    return os.pread(descriptor, 8, 16)


def fold_ours(which: str, path: str) -> dict[str, object]:
    """Fold as the package folds, again and again."""
    version = _sql(which).sqlite_version
    from modelstore.database.open import Purpose, open_database

    opened = open_database(path, purpose=Purpose.READ, timeout=5.0)
    return {"sqlite": version, **_checkpointing(opened.conn, path, opened.fold_now, opened.close)}


def fold_passive(which: str, path: str) -> dict[str, object]:
    """Checkpoint as most programs do."""
    sql = _sql(which)
    connection = sql.connect(path, isolation_level=None, timeout=5.0)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return {
        "sqlite": sql.sqlite_version,
        **_checkpointing(
            connection,
            path,
            lambda: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone(),
            connection.close,
        ),
    }


def _checkpointing(
    connection: Any, path: str, fold: Callable[[], object], close: Callable[[], object]
) -> dict[str, object]:
    connection.execute(f"PRAGMA mmap_size={MAPPED}")
    connection.execute(_TOUCH).fetchone()
    log = os.open(path + "-wal", os.O_RDONLY)  # the log's lock is elsewhere: harmless
    _say("ready")
    folds = races = 0
    while not _finished():
        connection.execute(_TOUCH).fetchone()
        before = _salt(log)
        fold()
        folds += 1
        races += _salt(log) != before
    os.close(log)
    close()
    return {"folds": folds, "races": races}


def write_plain(which: str, path: str) -> dict[str, object]:
    """Commit row after row, and checkpoint after each, so that the next restarts the log."""
    sql = _sql(which)
    connection = sql.connect(path, isolation_level=None, timeout=10.0)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA wal_autocheckpoint=1")
    _say("ready")
    done = 0
    while not _finished():
        connection.execute("INSERT INTO acknowledged VALUES (?, ?)", (done, _ROW))
        done += 1
    connection.close()
    return {"sqlite": sql.sqlite_version, "acknowledged": done}


def write_ours(which: str, path: str) -> dict[str, object]:
    """Commit and fold row after row, as the package does."""
    version = _sql(which).sqlite_version
    from modelstore.database.open import Purpose, open_database

    opened = open_database(path, purpose=Purpose.WRITE, timeout=10.0)
    _say("ready")
    done = 0
    while not _finished():
        with opened.write() as connection:
            connection.execute("INSERT INTO acknowledged VALUES (?, ?)", (done, _ROW))
        done += 1
        opened.fold_now()
    opened.close()
    return {"sqlite": version, "acknowledged": done}


def fold_by_hand(which: str, path: str) -> dict[str, object]:
    """Fold, then cut the log off: wrong, whatever SQLite it is."""

    def cut() -> None:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        os.truncate(path + "-wal", 0)

    sql = _sql(which)
    connection = sql.connect(path, isolation_level=None, timeout=5.0)
    return {"sqlite": sql.sqlite_version, **_checkpointing(connection, path, cut, connection.close)}


SIDES = {
    side.__name__: side for side in (fold_ours, fold_passive, fold_by_hand, write_plain, write_ours)
}


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    _say(SIDES[sys.argv[1]](*sys.argv[2:4]))
