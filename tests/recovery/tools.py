"""The tools that bring rows back, each as a black box: files in, rows out."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelstore.errors import ModelstoreError
from modelstore.recovery.recover import Request
from modelstore.recovery.recover import recover as modelstore_recover
from tests.recovery.histories import DATABASE, Row, Schema

_SECONDS = 120
_LOSSY = "bytes are lost: "  # begins the note of a row, before its columns


@dataclass(slots=True)
class Found:
    """The rows that a tool brought back: those in the table itself, and those beside it.

    `partial` are those of which it says that bytes are lost, with the places of these columns.
    """

    table: set[Row] = field(default_factory=set)
    beside: set[Row] = field(default_factory=set)
    partial: dict[Row, frozenset[int]] = field(default_factory=dict)
    failure: str = ""

    @property
    def all(self) -> set[Row]:
        """All rows."""
        return self.table | self.beside


Tool = Callable[[Path, Schema, Sequence[str], Path], Found]
"""Called with the folder of the files, the schema, more arguments, and a folder to work in."""


def recover(files: Path, schema: Schema, arguments: Sequence[str], work: Path) -> Found:
    """Run ``modelstore recover``."""
    new = work / "new.db"
    done = subprocess.run(
        [sys.executable, "-m", "modelstore", "recover", str(files / DATABASE), "--into", str(new),
         *arguments],
        capture_output=True, text=True, check=False, timeout=_SECONDS,
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    failed = done.returncode not in (0, 4, 5)
    found = read_result(new, schema)
    found.failure = done.stderr.strip().splitlines()[0] if failed and done.stderr else ""
    return found


def recover_here(files: Path, schema: Schema, arguments: Sequence[str], work: Path) -> Found:
    """Call what the command calls, in this process."""
    new = work / "new.db"
    pairs = list(pairwise(arguments))
    request = Request(
        str(files / DATABASE),
        str(new),
        tuple(value for name, value in pairs if name == "--wal"),
        tuple(value for name, value in pairs if name == "--also"),
        deleted="--deleted" in arguments,
    )
    try:
        modelstore_recover(request)
    except ModelstoreError as error:
        return Found(failure=error.message)
    return read_result(new, schema)


def read_result(path: Path, schema: Schema) -> Found:
    """Read a result of ours: the table, and the tables with rows that are set aside."""
    found = Found()
    if not path.exists():
        return found
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn:
        conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        names = [r[0] for r in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = [row[1] for row in conn.execute("PRAGMA table_info(t)")]
        lossy = "SELECT id, into_table, row_key, note FROM modelstore_recovered"
        lost = {
            key: frozenset(at for at, column in enumerate(columns) if column in names)
            for number, into, row_key, note in _rows(conn, lossy)
            if note.startswith(_LOSSY)
            for names in (note.removeprefix(_LOSSY).split(", "),)
            for key in (number, (into, row_key))
        }
        for name in names:
            skip = 2 if name.startswith(("lost_and_found_", "deleted_")) else 0
            skip = 1 if name.startswith("recovered_") else skip
            for row in _rows(conn, f'SELECT * FROM "{name}"'):
                rowid = row[skip - 1] if skip else None
                whole = shaped(row[skip:], rowid, schema)
                if whole is not None and name != "modelstore_recovered":
                    (found.table if name == "t" else found.beside).add(whole)
                    mark = row[0] if skip == 2 else (name, str(whole[schema.key]))
                    if mark in lost:
                        found.partial[whole] = lost[mark]
    return found


def shaped(row: Sequence[Any], rowid: Any, schema: Schema) -> Row | None:
    """Return a row of the schema's width; a table without names holds the key as its rowid."""
    if len(row) != schema.columns:
        return None
    values = list(row)
    if schema.has_alias and values[schema.key] is None:
        values[schema.key] = rowid
    return tuple(values)


def _rows(conn: sqlite3.Connection, sql: str) -> list[Row]:
    """Return the rows up to the first that cannot be read."""
    found: list[Row] = []
    with suppress(sqlite3.Error, UnicodeError):
        found.extend(conn.execute(sql))
    return found


def plain_open(files: Path, schema: Schema, arguments: Sequence[str], work: Path) -> Found:
    """Open a copy as any program does, and read until it fails."""
    copy = Path(shutil.copytree(files, work / "plain"))
    found = Found()
    if (copy / DATABASE).exists():
        with closing(sqlite3.connect(copy / DATABASE)) as conn:
            found.table = {tuple(row) for row in _rows(conn, "SELECT * FROM t")}
    return found


def shell_recover(shell: str) -> Tool:
    """Return ``.recover`` of a sqlite3 shell."""

    def run(files: Path, schema: Schema, arguments: Sequence[str], work: Path) -> Found:
        copy = Path(shutil.copytree(files, work / "shell"))
        done = subprocess.run(
            [shell, str(copy / DATABASE), ".recover"],
            capture_output=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        new = work / "shell.db"
        subprocess.run(
            [shell, str(new)], input=done.stdout, capture_output=True, check=False, timeout=_SECONDS
        )
        found = Found(failure="" if done.stdout else done.stderr.decode(errors="replace")[:80])
        if new.exists():
            _read_shell(new, schema, found)
        return found

    return run


def _read_shell(path: Path, schema: Schema, found: Found) -> None:
    with closing(sqlite3.connect(path)) as conn:
        names = [r[0] for r in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in names:
            is_lost = name.startswith("lost_and_found")
            for row in _rows(conn, f'SELECT * FROM "{name}"'):
                # rootpgno, pgno, nfield, id, c0, c1 and so on
                values = row[4 : 4 + row[2]] if is_lost and isinstance(row[2], int) else row
                whole = shaped(values, row[3] if is_lost else None, schema)
                if whole is not None:
                    (found.table if name == "t" else found.beside).add(whole)


_DISSECT = """
import json, sys
from dissect.database.sqlite3 import SQLite3
from pathlib import Path
path = Path(sys.argv[1])
log = Path(str(path) + "-wal")
def put(row):
    print(json.dumps([value.hex() if isinstance(value, bytes) else value for value in row]))
def put_all(database):
    for table in database.tables():
        names = [column.name for column in table.columns]
        for row in table.rows():
            put([row[name] for name in names])
database = SQLite3(path, wal=log) if log.exists() and log.stat().st_size else SQLite3(path)
put_all(database)
for number in range(len(database.wal.checkpoints) if database.wal is not None else 0):
    put_all(SQLite3(path, wal=log, checkpoint=number))
"""


def dissect(python: str) -> Tool:
    """Return dissect.database, run by an interpreter that has it: the state, and each commit."""

    def run(files: Path, schema: Schema, arguments: Sequence[str], work: Path) -> Found:
        done = subprocess.run(
            [python, "-c", _DISSECT, str(files / DATABASE)],
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        found = Found(failure=done.stderr.strip().splitlines()[-1][:80] if done.stderr else "")
        for line in done.stdout.splitlines():
            found.beside.add(tuple(json.loads(line)))
        return found

    return run


def sqlite_dissect(program: str) -> Tool:
    """Return sqlite-dissect with all that it carves, read from its CSV files."""

    def run(files: Path, schema: Schema, arguments: Sequence[str], work: Path) -> Found:
        copy = Path(shutil.copytree(files, work / "carved"))
        done = subprocess.run(
            [program, "-c", "-f", "-e", "csv", "-d", str(work), str(copy / DATABASE)],
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        found = Found(failure=done.stderr.strip().splitlines()[-1][:80] if done.stderr else "")
        kinds = [type(value) for value in schema.row(3, 1)]
        for path in work.glob("*.csv"):
            with path.open(encoding="utf-8", newline="") as file:
                for line in list(csv.reader(file))[1:]:
                    if len(line) <= _BEFORE:
                        continue
                    row = shaped(_typed(line[_BEFORE:], kinds), _number(line[_BEFORE - 1]), schema)
                    if row is not None:
                        found.beside.add(row)
        return found

    return run


_BEFORE = 9  # columns of sqlite-dissect in front of a row's own; the last of them is its rowid


def _typed(texts: Sequence[str], kinds: Sequence[type]) -> list[Any]:
    """Return values of the types that a row of the schema has; CSV has texts alone."""
    typed = zip(texts, kinds, strict=False)
    values = [text or None if kind is str else _number(text) for text, kind in typed]
    return [*values, *texts[len(kinds) :]]


def _number(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return None
