"""Hold a read transaction until stdin ends. Argument: database."""

from __future__ import annotations

import sys

try:
    from pysqlite3 import dbapi2 as sqlite3
except ImportError:
    import sqlite3

conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN")
conn.execute("SELECT count(*) FROM sqlite_master").fetchall()
print("ready", flush=True)
sys.stdin.read()
