"""Databases with a log, left as a living writer has them, for the tests of loss."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.wal.loss_oracle import copy_files

Script = str | Callable[[sqlite3.Connection], object]

NUMBERS = "WITH RECURSIVE s(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM s WHERE i < {})"


class Database:
    """One analysed copy (`path`) and one for the oracle's live view (`live_path`)."""

    def __init__(
        self,
        directory: Path,
        setup: Script,
        change: Script,
        *,
        page_size: int = 4096,
        pragmas: tuple[str, ...] = (),
        shm: bool = False,
        truncate: bool = True,
    ) -> None:
        origin = str(directory / "models.db")
        with closing(connect(origin, page_size, pragmas)) as conn:
            _run(conn, setup)
            if truncate:
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            _run(conn, change)
            self.path = copy_files(origin, str(directory / "analysed"), shm=shm)
            self.live_path = copy_files(origin, str(directory / "live"))

    def share_main(self) -> None:
        """Make the oracle's live view begin with the analysed main file too."""
        Path(self.live_path).write_bytes(Path(self.path).read_bytes())


def connect(path: str, page_size: int = 4096, pragmas: tuple[str, ...] = ()) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in (f"page_size = {page_size}", *pragmas):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    return conn


def _run(conn: sqlite3.Connection, script: Script) -> None:
    if isinstance(script, str):
        conn.executescript(script)
    else:
        script(conn)
