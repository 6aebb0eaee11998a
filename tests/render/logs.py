"""A log with many tables of hostile names, all kinds of frames, and a database beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from modelstore.wal.inspection import Inspection, inspect_log
from tests.render.samples import HOSTILE

NAMES = [name for name in HOSTILE.values() if name and "\ud800" not in name and "\0" not in name]


def make_log(directory: Path, *, commits: int = 40, flip: int | None = None) -> Path:
    """Leave a database whose log holds `commits` commits; damage frame `flip`."""
    live, path = directory / "live.db", directory / "map.db"
    conn = sqlite3.connect(live, isolation_level=None)
    conn.execute("PRAGMA journal_mode=wal")
    conn.execute("PRAGMA wal_autocheckpoint=0")
    for name in NAMES:
        conn.execute(f'CREATE TABLE "{_quoted(name)}" (id INTEGER PRIMARY KEY, x)')
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(commits):
        table = _quoted(NAMES[n * n % len(NAMES)])
        conn.execute("BEGIN")
        for _ in range(n % 3 + 1):
            conn.execute(f'INSERT INTO "{table}" (x) VALUES (zeroblob(?))', (n * 150,))
        conn.execute("COMMIT")
    for end in ("", "-wal"):
        shutil.copy(f"{live}{end}", f"{path}{end}")
    conn.close()
    if flip is not None:
        with open(f"{path}-wal", "r+b") as file:
            file.seek(32 + (flip - 1) * 4120 + 1000)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    return path


def _quoted(name: str) -> str:
    return name.encode("utf-8", "replace").decode().replace('"', '""')


def inspected(directory: Path, **how: int) -> Inspection:
    return inspect_log(str(make_log(directory, **how)))
