"""Make a database of a size, fold it, then write a few commits that stay in the log.

Arguments: database, bytes. The log holds 200 new rows, 20 changed and 20 deleted ones.
"""

from __future__ import annotations

import os
import sqlite3
import sys

database, size = sys.argv[1], int(sys.argv[2])
conn = sqlite3.connect(database, isolation_level=None)
for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = OFF"):
    conn.execute(f"PRAGMA {pragma}").fetchall()
conn.execute("CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT, content TEXT)")
conn.execute("CREATE INDEX models_name ON models (name)")
count = size // 600
for start in range(0, count, 50_000):
    rows = [
        (f"model-{number:09d}", "x" * 540) for number in range(start, min(count, start + 50_000))
    ]
    conn.execute("BEGIN")
    conn.executemany("INSERT INTO models (name, content) VALUES (?, ?)", rows)
    conn.execute("COMMIT")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
for number in range(20):
    conn.execute("BEGIN")
    conn.executemany(
        "INSERT INTO models (name, content) VALUES (?, ?)",
        [(f"new-{number}-{index}", "y" * 100) for index in range(10)],
    )
    conn.execute("UPDATE models SET content = 'z' WHERE id = ?", (1000 + number * 50,))
    conn.execute("DELETE FROM models WHERE id = ?", (5000 + number * 50,))
    conn.execute("COMMIT")
os._exit(0)  # no close, no checkpoint
