"""Make a database of a size, fold it, and leave a transaction in its log that changes many pages.

Arguments: database, bytes. One row in 170 is changed, each in another page: the log gets a tenth of
the database's size.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys

database, size = sys.argv[1], int(sys.argv[2])
conn = sqlite3.connect(database, isolation_level=None)
for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = OFF"):
    conn.execute(f"PRAGMA {pragma}").fetchall()
conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, body TEXT, n INTEGER)")
chance = random.Random(1)
count = size // 236
rows = (
    (n, f"name {chance.getrandbits(40)}", f"{'body ' * 35}{chance.random()}", n)
    for n in range(count)
)
conn.execute("BEGIN")
conn.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
conn.execute("COMMIT")
conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
conn.execute("BEGIN")
for n in chance.sample(range(count), count // 170):
    conn.execute("UPDATE t SET body = ?, n = n + 1 WHERE id = ?", ("changed " * 10, n))
conn.execute("COMMIT")
os._exit(0)  # no close, no checkpoint
