"""Write a WAL and die before anybody folds it. Arguments: database, bytes, shape.

append-only: new rows at the end of one table. random: updates of random rows of a large one, with
an index. many tables: new rows in 1,000 tables by turns.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from collections.abc import Iterator

database, size = sys.argv[1], int(sys.argv[2])
shape = sys.argv[3] if len(sys.argv) > 3 else "append-only"
chance = random.Random(3)
conn = sqlite3.connect(database, isolation_level=None)
for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = OFF"):
    conn.execute(f"PRAGMA {pragma}").fetchall()


def append_only() -> Iterator[None]:
    conn.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, content BLOB)")
    while True:
        rows = [(os.urandom(4000),) for _ in range(500)]
        conn.executemany("INSERT INTO filler (content) VALUES (?)", rows)
        yield


def random_updates() -> Iterator[None]:
    conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, content TEXT)")
    conn.execute("CREATE INDEX t_name ON t (name)")
    count = size // 800
    rows = ((f"name {number}", "x" * 300) for number in range(count))
    conn.executemany("INSERT INTO t (name, content) VALUES (?, ?)", rows)
    conn.execute("COMMIT")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    conn.execute("BEGIN")
    while True:
        ids = [(f"new {chance.random()}", chance.randrange(count)) for _ in range(200)]
        conn.executemany("UPDATE t SET name = ? WHERE id = ?", ids)
        yield


def many_tables() -> Iterator[None]:
    for number in range(1000):
        conn.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, content TEXT)")
    while True:
        for _ in range(100):
            table = chance.randrange(1000)
            conn.execute(f"INSERT INTO t{table} (content) VALUES (?)", ("x" * 1000,))
        yield


shapes = {"append-only": append_only, "random": random_updates, "many tables": many_tables}
conn.execute("BEGIN")
for _ in shapes[shape]():
    conn.execute("COMMIT")
    if os.path.getsize(database + "-wal") >= size:
        os._exit(0)  # no close, no checkpoint
    conn.execute("BEGIN")
