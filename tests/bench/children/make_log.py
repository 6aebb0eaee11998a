"""Write a WAL and die before anybody folds it. Arguments: database, bytes."""

from __future__ import annotations

import os
import sqlite3
import sys

database, size = sys.argv[1], int(sys.argv[2])
conn = sqlite3.connect(database, isolation_level=None)
for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = OFF"):
    conn.execute(f"PRAGMA {pragma}").fetchall()
conn.execute("CREATE TABLE IF NOT EXISTS filler (id INTEGER PRIMARY KEY, content BLOB)")
while os.path.getsize(database + "-wal") < size:
    rows = [(os.urandom(4000),) for _ in range(500)]
    conn.execute("BEGIN")
    conn.executemany("INSERT INTO filler (content) VALUES (?)", rows)
    conn.execute("COMMIT")
os._exit(0)  # no close, no checkpoint
