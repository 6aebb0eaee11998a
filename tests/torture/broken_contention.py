"""Programs that are wrong on purpose, for the attack by a crowd to catch."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import suppress

SUMMARY = {"in_main_file": True, "checkpoint": {"blockers": []}}


def _insert(connection: sqlite3.Connection) -> int:
    rows = [json.loads(line) for line in sys.stdin]
    connection.execute("BEGIN IMMEDIATE")
    for row in rows:
        connection.execute(
            "INSERT INTO models (id, name, source, locator, status, tags, created_at, updated_at)"
            " SELECT ?, ?, source, ?, status, tags, created_at, updated_at FROM models LIMIT 1",
            (row["name"], row["name"], row["name"]),
        )
    connection.execute("COMMIT")
    return len(rows)


def never_folds(database: str) -> None:
    """Commit, and call it done: the rows are in the log alone."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    print(json.dumps({"added": _insert(connection), **SUMMARY}))


def swallows_locked(database: str) -> None:
    """Say that all went well where the database was locked."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=0)
    with suppress(sqlite3.OperationalError):
        _insert(connection)
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print(json.dumps({"added": 20, **SUMMARY}))


if __name__ == "__main__":
    {"never_folds": never_folds, "swallows_locked": swallows_locked}[sys.argv[1]](
        sys.argv[sys.argv.index("--db") + 1]
    )
