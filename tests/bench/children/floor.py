"""The floor of an import: json.loads and executemany into the same table, and a checkpoint.

Arguments: JSON lines, database, a file with the SQL of the tables.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator

try:
    from pysqlite3 import dbapi2 as sqlite3
except ImportError:
    import sqlite3

lines, database, tables = sys.argv[1:]
sqlite3.register_adapter(type(None), {}.get)  # None costs less so
conn = sqlite3.connect(database, isolation_level=None)
for pragma in (
    "busy_timeout = 5000",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "cache_size = -64000",
    "temp_store = MEMORY",
    "foreign_keys = ON",
    "wal_autocheckpoint = 0",
):
    conn.execute(f"PRAGMA {pragma}").fetchall()
with open(tables, encoding="utf-8") as file:
    conn.executescript(file.read())
columns = [row[1] for row in conn.execute("PRAGMA table_info(models)")]
host, now, encode = os.uname().nodename, "2026-11-22T00:00:00Z", json.JSONEncoder().encode


def rows() -> Iterator[list[object]]:
    with open(lines, "rb") as file:
        for line in file:
            record = json.loads(line)
            get = record.get
            if "locator" not in record:
                locator = record["locator"] = f"file://{host}{record['path']}"
                record["id"] = hashlib.sha256(locator.encode()).hexdigest()[:16]
                record |= {"source": "jsonl", "status": "available", "host": host}
                record |= {"created_at": now, "updated_at": now}
            record["tags"] = encode(record["tags"])
            yield [get(column) for column in columns]


sets = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in ("id", "locator", "created_at"))
conn.execute("BEGIN IMMEDIATE")
conn.executemany(
    f"INSERT INTO models VALUES ({', '.join('?' * len(columns))}) "
    f"ON CONFLICT (locator) DO UPDATE SET {sets}",
    rows(),
)
conn.execute("COMMIT")
conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
conn.close()
