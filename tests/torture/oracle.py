"""What another SQLite, in a process that does not run the program, finds in a database."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

SUFFIXES = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds. `trouble` says why it could not be read, or is malformed."""

    trouble: str | None = None
    names: frozenset[str] = frozenset()
    """Names of models, base names of their paths, and ``table:key`` for rows that belong to them:
    ``model_files:PATH``, ``model_places:LOCATOR``, ``roots:ROOT``."""
    torn: int = 0  # models that name a file, without a row of that file
    digest: str = ""  # of the schema and all rows


EMPTY = Found()


def examine(database: Path, *, alone: bool = False) -> Found:
    """Look at a database and its log, or at its main file `alone`, by way of a private copy."""
    place = database.with_name("examined")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if not copy(database, place / "copy.db", ("",) if alone else ("", "-wal", "-journal")):
        return EMPTY
    return look(place / "copy.db")


def copy(database: Path, to: Path, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Copy a database's files; return whether there is one."""
    for suffix in suffixes:
        source = Path(f"{database}{suffix}")
        if source.exists():
            shutil.copyfile(source, f"{to}{suffix}")
    return to.exists()


def look(database: Path) -> Found:
    """Open a database as any application would, and check all of it."""
    if not database.exists() or (
        not database.stat().st_size and not Path(f"{database}-wal").exists()
    ):
        return EMPTY
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as conn:
            conn.execute("PRAGMA synchronous = OFF")
            (verdict,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                return Found(f"integrity_check: {verdict}")
            return _contents(conn)
    except sqlite3.Error as error:
        return Found(f"cannot be read: {error}")


def _contents(conn: sqlite3.Connection) -> Found:
    digest = hashlib.sha256()
    schema = conn.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    if not schema:
        return EMPTY
    digest.update(repr(schema).encode("utf-8", "surrogatepass"))
    tables = [name for name, sql in schema if (sql or "").startswith("CREATE TABLE")]
    for table in tables:
        rows = sorted(map(repr, conn.execute(f'SELECT * FROM "{table}"')))
        digest.update(repr((table, rows)).encode("utf-8", "surrogatepass"))
    names: set[str] = set()
    torn = 0
    if "models" in tables:
        for name, path in conn.execute("SELECT name, path FROM models"):
            names.update(filter(None, (name, path and os.path.basename(path))))
    for table, key in _COMPANIONS.items():
        if table in tables:
            names.update(f"{table}:{row[0]}" for row in conn.execute(f"SELECT {key} FROM {table}"))
    if "model_files" in tables:
        (torn,) = conn.execute(
            "SELECT count(*) FROM models WHERE path IS NOT NULL AND source = 'gguf' "
            "AND id NOT IN (SELECT model_id FROM model_files)"
        ).fetchone()
    return Found(None, frozenset(names), torn, digest.hexdigest())


_COMPANIONS = {"model_files": "path", "model_places": "locator", "roots": "root"}

_COMPANION = """
import ctypes, os, sqlite3, sys
if sys.argv[1:]:
    if ctypes.CDLL(None).shim_attach(*map(os.fsencode, sys.argv[1:])):
        sys.exit("the shim could not be attached")
conn = None
for line in sys.stdin:
    verb, _, path = line.rstrip("\\n").partition(" ")
    if verb == "open":
        conn = sqlite3.connect(path, isolation_level=None, timeout=1)
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    elif verb == "begin":
        conn.execute("BEGIN")
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    elif verb == "commit":
        conn.execute("CREATE TABLE IF NOT EXISTS notes (text)")
        conn.execute("INSERT INTO notes VALUES ('noted')")
    elif verb == "end":
        conn.execute("ROLLBACK")
    elif verb == "close":
        conn.close()
    print("done", flush=True)
"""


class Companion:
    """Another application that has databases open, one at a time, and does as it is told.

    With the paths of a shim's control block and log, what it writes is recorded.
    """

    def __init__(
        self, shim: Sequence[str] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMPANION, *shim],
            env={**os.environ, **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, verb: str, path: Path | None = None) -> None:
        """Have it open, begin (a read transaction), commit (a row of its own), end or close."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{verb} {path or ''}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n", f"the companion failed to {verb}"

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextmanager
def workplace(root: str | None) -> Iterator[Path]:
    """Yield a directory for one attack, in memory where that can be had, deleted at the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="torture-", dir=root, ignore_cleanup_errors=True) as it:
        os.chmod(it, 0o755)
        yield Path(it)
