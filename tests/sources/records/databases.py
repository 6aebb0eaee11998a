"""Databases as sources in tests, with rows that are only in their logs."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.database.sqlite import sqlite3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def in_the_log(path: Path) -> Iterator[sqlite3.Connection]:
    """Write to a copy of `path` in WAL mode; in the end `path` has it all, in its log alone."""
    working = path.with_name("working-" + path.name)
    if path.exists():
        shutil.copy(path, working)
    conn = sqlite3.connect(working, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        yield conn
        shutil.copy(working, path)
        shutil.copy(f"{working}-wal", f"{path}-wal")
    finally:
        conn.close()
        working.unlink()


def contents(path: Path) -> tuple[bytes, bytes]:
    """The bytes of a database and of its log."""
    log = path.with_name(path.name + "-wal")
    return path.read_bytes(), log.read_bytes() if log.exists() else b""
