"""Verifying in this process, and databases to verify."""

from __future__ import annotations

import random
import shutil
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelstore.database.sqlite import sqlite3
from modelstore.finding import Finding, Verification
from modelstore.verify.check import VerifyOptions
from modelstore.verify.run import verify

SUFFIXES = ("", "-wal", "-shm", "-journal")


def examine(path: Path, *checks: str, **options: Any) -> Verification:
    """Verify with the given options, all checks or only some."""
    if checks:
        options["checks"] = frozenset(checks)
    return verify(str(path), origin="test", options=VerifyOptions(**{"timeout": 0.3, **options}))


def severities(found: Verification) -> dict[str, str]:
    return {finding.code: finding.severity for finding in found.findings}


def codes(found: Verification, *severity: str) -> set[str]:
    """Return the codes of these severities; of warnings and failures by default."""
    wanted = severity or ("warn", "fail")
    return {finding.code for finding in found.findings if finding.severity in wanted}


def the(found: Verification, code: str) -> Finding:
    """Return the one finding of a code."""
    (finding,) = [finding for finding in found.findings if finding.code == code]
    return finding


def connect(path: Path, journal_mode: str = "wal") -> sqlite3.Connection:
    conn = sqlite3.connect(str(path), isolation_level=None)
    conn.execute(f"PRAGMA journal_mode = {journal_mode}")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute("PRAGMA synchronous = OFF")
    return conn


def copied(path: Path, target: Path, *suffixes: str) -> Path:
    """Copy a database with what lies beside it, as a crash would leave it there."""
    for suffix in suffixes or ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copyfile(f"{path}{suffix}", f"{target}{suffix}")
    return target


def crashed(path: Path, statements: Sequence[str], *, before: Sequence[str] = ()) -> Path:
    """Leave a database with `before` folded and `statements`, each a commit, in its log."""
    source = path.with_name(path.name + ".source")
    conn = connect(source)
    for statement in before:
        conn.execute(statement)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for statement in statements:
        conn.execute(statement)
    copied(source, path)
    conn.close()
    source.unlink()
    return path


TABLE = "CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT, note TEXT)"


def incident(path: Path, rows: int = 18) -> Path:
    """Leave `rows` models that are only in the log."""
    inserts = [f"INSERT INTO models (name) VALUES ('Model-{n}')" for n in range(1, rows + 1)]
    return crashed(path, inserts, before=[TABLE])


def settled(path: Path, rows: int = 400) -> Path:
    """Make a database of some pages, all of it in the main file."""
    conn = connect(path)
    conn.execute(TABLE)
    conn.execute("CREATE INDEX models_name ON models (name)")
    conn.execute("BEGIN")
    conn.executemany(
        "INSERT INTO models (name, note) VALUES (?, ?)",
        [(f"name{n:05d}", f"note {n} " + "x" * 60) for n in range(rows)],
    )
    conn.execute("COMMIT")
    conn.close()
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of the database and its log; empty where absent."""
    files = [Path(f"{path}{suffix}") for suffix in ("", "-wal")]
    return {file.name: file.read_bytes() if file.exists() else b"" for file in files}


_NAMES = ("models", 'we"ird', "select", "tab\tle", "ünïcode 模型", "a;--", "x'y", "%s", "[b]")


def healthy(path: Path, seed: int) -> bool:
    """Make a sound database of a shape that `seed` chooses; return whether a crash left its log."""
    chance = random.Random(seed)
    source = path.with_name("source-" + path.name)
    mode = chance.choice(("wal", "wal", "wal", "delete", "persist", "truncate"))
    conn = sqlite3.connect(str(source), isolation_level=None)
    conn.execute(f"PRAGMA page_size = {chance.choice((512, 1024, 4096, 4096, 8192, 65536))}")
    conn.execute(f"PRAGMA auto_vacuum = {chance.randrange(3)}")
    conn.execute(f"PRAGMA encoding = '{chance.choice(('UTF-8', 'UTF-8', 'UTF-16le', 'UTF-16be'))}'")
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute(f"PRAGMA journal_mode = {mode}")
    conn.execute(f"PRAGMA wal_autocheckpoint = {chance.choice((0, 3, 1000))}")
    if chance.random() < 0.9:
        _fill(conn, chance)
    is_crashed = mode == "wal" and chance.random() < 0.4
    if not is_crashed:
        conn.close()
        for suffix in SUFFIXES:
            if Path(f"{source}{suffix}").exists():
                Path(f"{source}{suffix}").rename(f"{path}{suffix}")
    else:
        copied(source, path)
        conn.close()
        source.unlink()
    return is_crashed


def _fill(conn: sqlite3.Connection, chance: random.Random) -> None:
    names = chance.sample(_NAMES, chance.randrange(1, 4))
    for number, name in enumerate(names):
        quoted = '"' + name.replace('"', '""') + '"'
        tail = chance.choice(("", "", " WITHOUT ROWID", " STRICT"))
        conn.execute(
            f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, rowid_ TEXT, v BLOB, n REAL, "
            f"g INTEGER GENERATED ALWAYS AS (id * 2) {chance.choice(('VIRTUAL', 'STORED'))}){tail}"
        )
        if chance.random() < 0.5:
            conn.execute(f"CREATE INDEX i{number} ON {quoted} (rowid_, n) WHERE n > 0")
        conn.execute("BEGIN")
        for key in range(chance.choice((0, 1, 30, 300))):
            text = "".join(chance.choices(string.printable, k=chance.randrange(40)))
            blob = chance.randbytes(chance.choice((0, 10, 10, 3000)))
            row = (key, text, blob, chance.random() - 0.5)
            conn.execute(f"INSERT INTO {quoted} (id, rowid_, v, n) VALUES (?, ?, ?, ?)", row)
        conn.execute("COMMIT")
        if chance.random() < 0.4:
            conn.execute(f"DELETE FROM {quoted} WHERE id % 3 = 0")
    # A build of SQLite need not have either module.
    modules = {row[0] for row in conn.execute("SELECT name FROM pragma_module_list")}
    if chance.random() < 0.3 and "fts5" in modules:
        conn.execute("CREATE VIRTUAL TABLE words USING fts5 (body)")
        conn.execute("INSERT INTO words VALUES ('some words'), ('other words')")
    if chance.random() < 0.2 and "rtree" in modules:
        conn.execute("CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1)")
        conn.execute("INSERT INTO boxes VALUES (1, 0, 1)")
    if chance.random() < 0.3:
        conn.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        conn.execute("CREATE TABLE children (parent REFERENCES parents (id))")
        conn.execute("INSERT INTO parents VALUES (1)")
        conn.execute("INSERT INTO children VALUES (1), (NULL)")
    if chance.random() < 0.2:
        conn.execute("CREATE VIEW seen AS SELECT 1 AS one")
        conn.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, rowid, oid)")
        conn.execute("INSERT INTO counted (rowid) VALUES (9), (8)")
        conn.execute("ANALYZE")
