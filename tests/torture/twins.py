"""Small importers that are wrong on purpose: an attack that does not notice them is worth nothing.

Each understands ``import FILE --db PATH`` of a file of JSON lines, and breaks one promise.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from modelstore.database.sqlite import sqlite3

Names = list[str]
"""The names of the models, and last the path of the file that they come from."""

_left_open: list[sqlite3.Connection] = []  # what is closed would be folded


def _arguments(arguments: list[str]) -> tuple[Names, str]:
    database = arguments[arguments.index("--db") + 1]
    if arguments[0] != "import":
        return [], database
    with open(arguments[1], encoding="utf-8") as lines:
        return [*(json.loads(line)["name"] for line in lines), arguments[1]], database


def _open(
    database: str, *, journal: str = "WAL", synchronous: str = "NORMAL"
) -> sqlite3.Connection:
    conn = sqlite3.connect(database, isolation_level=None, timeout=1)
    conn.execute(f"PRAGMA journal_mode = {journal}")
    conn.execute(f"PRAGMA synchronous = {synchronous}")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute("CREATE TABLE IF NOT EXISTS models (name TEXT, path TEXT)")
    conn.execute("CREATE TABLE IF NOT EXISTS roots (root TEXT)")
    return conn


def _insert(conn: sqlite3.Connection, names: Names) -> None:
    if not names:
        return
    *models, root = names
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany("INSERT INTO models (name) VALUES (?)", [(name,) for name in models])
    conn.execute("INSERT INTO roots VALUES (?)", (root,))
    conn.execute("COMMIT")


def honest(arguments: list[str]) -> int:
    """Import as well as few lines can: it shows that a twin fails for its fault alone."""
    names, database = _arguments(arguments)
    conn = _open(database)
    _insert(conn, names)
    busy, log, done = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    conn.close()
    return 0 if not busy and log == done else 4


def row_by_row(arguments: list[str]) -> int:
    """Commit each row by itself: a killed import is there in part."""
    (*models, root), database = _arguments(arguments)
    conn = _open(database)
    for name in models:
        _insert(conn, [name, root])
    conn.close()
    return 0


def root_later(arguments: list[str]) -> int:
    """Commit the models, and then the record of the file that they come from."""
    (*models, root), database = _arguments(arguments)
    conn = _open(database)
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany("INSERT INTO models (name) VALUES (?)", [(name,) for name in models])
    conn.execute("COMMIT")
    conn.execute("INSERT INTO roots VALUES (?)", (root,))
    conn.close()
    return 0


def says_so_first(arguments: list[str]) -> int:
    """Report success, and commit a moment later."""
    names, database = _arguments(arguments)
    if os.fork():
        return 0
    time.sleep(1)  # long after the attack has looked
    conn = _open(database)
    _insert(conn, names)
    conn.close()
    os._exit(0)


def never_checkpoints(arguments: list[str]) -> int:
    """Leave all rows in the log, and say that all is well."""
    names, database = _arguments(arguments)
    conn = _open(database)
    _insert(conn, names)
    _left_open.append(conn)
    return 0


def no_journal(arguments: list[str]) -> int:
    """Write into the database itself, without a way back."""
    names, database = _arguments(arguments)
    conn = _open(database, journal="OFF")
    conn.execute("PRAGMA cache_size = 1")
    _insert(conn, names)
    conn.close()
    return 0


def never_syncs(arguments: list[str]) -> int:
    """Fold, but without ever waiting for the disk."""
    names, database = _arguments(arguments)
    conn = _open(database, synchronous="OFF")
    _insert(conn, names)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    return 0


def ignores_busy(arguments: list[str]) -> int:
    """Run the checkpoint, and do not look at what it says."""
    names, database = _arguments(arguments)
    conn = _open(database)
    _insert(conn, names)
    conn.execute("PRAGMA busy_timeout = 0")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    return 0


def swallows_errors(arguments: list[str]) -> int:
    """Go on whatever happens, and say that all is well."""
    names, database = _arguments(arguments)
    with suppress(sqlite3.Error, OSError):
        conn = _open(database)
        _insert(conn, names)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        conn.close()
    return 0


def prints_tracebacks(arguments: list[str]) -> int:
    """Let every error through to the person."""
    names, database = _arguments(arguments)
    conn = _open(database)
    _insert(conn, names)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    return 0


def one_sentence_for_all(arguments: list[str]) -> int:
    """Say of every error that the database is locked and nothing was written."""
    try:
        return honest(arguments)
    except (sqlite3.Error, OSError) as error:
        sys.stderr.write(f"error: {error}: nothing was written\nhint: try again\n")
        return 7


def trusts_the_second_sync(arguments: list[str]) -> int:
    """Sync again where a sync failed: by then the kernel has thrown the pages away."""
    names, database = _arguments(arguments)
    conn = _open(database, synchronous="OFF")
    _insert(conn, names)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    descriptor = os.open(database, os.O_RDONLY)
    for _ in range(2):
        with suppress(OSError):
            os.fsync(descriptor)
    conn.close()
    return 0


def folds_regardless(arguments: list[str]) -> int:
    """Fold whatever the files and the processes are, and call it safe."""
    database = _arguments(["", *arguments])[1]
    connection = sqlite3.connect(database, isolation_level=None, timeout=0.1)
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    print(json.dumps({"in_main_file": True}))
    return 0


def sees_nobody(arguments: list[str]) -> int:
    """Be the program itself, as if nobody else were on the machine."""
    from modelstore.cli.main import run
    from modelstore.database.holders import Holders

    def look_at_nobody(path: str, **_options: object) -> Holders:
        return Holders(path, (), complete=True)

    for name, module in list(sys.modules.items()):
        if name.startswith("modelstore.") and hasattr(module, "look_at_holders"):
            setattr(module, "look_at_holders", look_at_nobody)  # noqa: B010 - of any module
    return run(arguments)


def cries_wolf(arguments: list[str]) -> int:
    """Refuse everything, for fear that somebody uses the database."""
    del arguments
    sys.stderr.write("error: somebody uses this database\n")
    return 5


PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "honest": honest,
    "row-by-row": row_by_row,
    "root-later": root_later,
    "says-so-first": says_so_first,
    "never-checkpoints": never_checkpoints,
    "no-journal": no_journal,
    "never-syncs": never_syncs,
    "ignores-busy": ignores_busy,
    "swallows-errors": swallows_errors,
    "prints-tracebacks": prints_tracebacks,
    "one-sentence-for-all": one_sentence_for_all,
    "trusts-the-second-sync": trusts_the_second_sync,
    "folds-regardless": folds_regardless,
    "sees-nobody": sees_nobody,
    "cries-wolf": cries_wolf,
}
