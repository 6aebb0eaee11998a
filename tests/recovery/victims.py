"""Databases that something happens to, made by SQLite in a process of its own."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.cli.program import Result, modelstore

Row = tuple[Any, ...]

_MAKER = """
import json, os, sqlite3, sys
path, script, keep = sys.argv[1], json.load(sys.stdin), sys.argv[2:] == ["keep"]
conn = sqlite3.connect(path, isolation_level=None)
conn.execute("PRAGMA synchronous = OFF")  # no power is cut
for step in script:
    if isinstance(step, list):
        conn.execute("BEGIN")
        conn.executemany(step[0], step[1])
        conn.execute("COMMIT")
    else:
        conn.execute(step).fetchall()
print("done", flush=True)
if keep:
    os._exit(0)  # as a crash: the log stays
conn.close()
"""


def make(path: Path, *script: str | tuple[str, list[Row]], crash: bool = False) -> Path:
    """Run SQL, each step one transaction; with `crash` the log is left as it is."""
    subprocess.run(
        [sys.executable, "-c", _MAKER, str(path), *(["keep"] if crash else [])],
        input=json.dumps(script),
        text=True,
        check=True,
        capture_output=True,
    )
    return path


WAL = ("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0")
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size REAL)"
INSERT = "INSERT INTO t VALUES (?, ?, ?)"


def rows(first: int, count: int, text: str = "row") -> list[Row]:
    return [(n, f"{text} {n} {'x' * (n % 90)}", n / 4) for n in range(first, first + count)]


def commits(total: int, each: int = 1, text: str = "row") -> list[tuple[str, list[Row]]]:
    """Return `total` transactions of `each` rows."""
    return [(INSERT, rows(1 + n * each, each, text)) for n in range(total)]


def content(path: Path, sql: str = "SELECT * FROM t ORDER BY 1") -> list[Row]:
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def names(path: Path) -> set[str]:
    return {row[0] for row in content(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}


def integrity(path: Path) -> str:
    return str(content(path, "PRAGMA integrity_check")[0][0])


def digests(directory: Path) -> dict[str, str]:
    """Return a digest of each file, with its times: a harm test compares them."""
    return {
        file.name: f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_mtime_ns}"
        for file in directory.iterdir()
        if file.is_file()
    }


def recover(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Result:
    """Run the command as a black box."""
    done = modelstore("recover", *arguments, env=env)
    assert "this is a bug" not in done.err, done.err
    return done


FRAME = 24 + 4096


def damage_frame(log: Path, frame: int, at: int = 2000, size: int = 1) -> None:
    """Flip bytes of the page in a frame; more than four cannot be mended."""
    data = bytearray(log.read_bytes())
    start = 32 + (frame - 1) * FRAME + 24 + at
    data[start : start + size] = bytes(byte ^ 0x5A for byte in data[start : start + size])
    log.write_bytes(data)


_WRITER = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("PRAGMA journal_mode = WAL")
conn.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT)")
for line in sys.stdin:
    conn.execute("INSERT INTO t (name) VALUES (?)", (line.strip(),))
    print(conn.execute("SELECT max(id) FROM t").fetchone()[0], flush=True)
"""


_NODE_WRITER = """
const Database = require("better-sqlite3");
const db = new Database(process.argv[1]);
db.pragma("journal_mode = WAL");
db.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT)");
const insert = db.prepare("INSERT INTO t (name) VALUES (?)");
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  console.log(String(insert.run(line.trim()).lastInsertRowid));
});
"""


class Writer:
    """An application that commits one row whenever it is asked to, and acknowledges it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.rows = 0

    def write(self, count: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for _ in range(count):
            self.process.stdin.write(f"row {self.rows + 1}\n")
            self.process.stdin.flush()
            self.rows = int(self.process.stdout.readline())


_SHELL = (
    "PRAGMA journal_mode = WAL;\n"
    "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT);\n"
)


class ShellWriter(Writer):
    """The same in SQLite's own shell, which is C."""

    def write(self, count: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for _ in range(count):
            self.process.stdin.write(
                f"INSERT INTO t (name) VALUES ('row {self.rows + 1}') RETURNING id;\n"
            )
            self.process.stdin.flush()
            self.rows = int(self.process.stdout.readline())


@contextmanager
def writer(path: Path, language: str) -> Iterator[Writer]:
    """Run an application on a database until the block ends."""
    command = {
        "python": [sys.executable, "-c", _WRITER, str(path)],
        "node": ["node", "-e", _NODE_WRITER, str(path)],
        "shell": ["sqlite3", "-batch", str(path)],
    }[language]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if language != "shell":
            yield Writer(process)
        else:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(_SHELL)
            process.stdin.flush()
            assert process.stdout.readline().strip() == "wal"
            yield ShellWriter(process)
    finally:
        process.kill()
        process.communicate()
