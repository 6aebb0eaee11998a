"""Commit a row every few milliseconds until stdin ends; then print what each commit took.

Argument: database.
"""

from __future__ import annotations

import json
import select
import sys
import time

try:
    from pysqlite3 import dbapi2 as sqlite3
except ImportError:
    import sqlite3

conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
conn.execute("PRAGMA synchronous = NORMAL")
conn.execute("PRAGMA wal_autocheckpoint = 0")  # its own checkpoints are not what we measure
conn.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
print("ready", flush=True)
waits = []
while not select.select([sys.stdin], [], [], 0.003)[0]:
    begun = time.perf_counter()
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("INSERT INTO notes (text) VALUES ('something')")
    conn.execute("COMMIT")
    waits.append(time.perf_counter() - begun)
print(json.dumps(waits))
