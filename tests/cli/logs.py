"""Databases whose log holds what a test needs, left by a writer that was killed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.cli.program import python

_WRITER = """
    import os, sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA wal_autocheckpoint=0")
    conn.execute("PRAGMA synchronous=OFF")  # killed it is, but no power is cut
    conn.execute("CREATE TABLE IF NOT EXISTS models (id INTEGER PRIMARY KEY, name TEXT)")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(int(sys.argv[2])):
        conn.execute("INSERT INTO models (name) VALUES (?)", (f"Model-{n}",))
    os.kill(os.getpid(), 9)
"""


def killed_writer(database: Path, rows: int) -> None:
    """Leave `rows` committed rows, one commit each, that are in the log alone."""
    with python(_WRITER, database, str(rows)) as process:
        process.wait()
    assert Path(f"{database}-wal").stat().st_size > 32


def flip_bit(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def frame_offset(wal: Path, frame: int) -> int:
    """Return where a frame (1-based) begins in the file."""
    page_size = int.from_bytes(wal.read_bytes()[8:12], "big")
    return 32 + (frame - 1) * (page_size + 24)


def state_of(database: Path) -> dict[str, tuple[str, int]]:
    """Return content and modification time of a database's files."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in (database, Path(f"{database}-wal"), Path(f"{database}-shm"))
        if path.exists()
    }
