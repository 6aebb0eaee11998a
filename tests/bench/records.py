"""The import of many records, beside a bare loop and sqlite-utils."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.data import catalogue_rows, records, write_lines
from tests.bench.measure import Command, Pairs, Sample, alternate, middle, output, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database, shell
from tests.bench.row import Row, compared, missing

_FRAME = 4096 + 24  # bytes of the log a page


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    count = place.size(1_000_000, 20_000)
    tables = write_tables(place)
    exported = write_lines(place.directory / "rows.jsonl", catalogue_rows(count))
    plain = write_lines(place.directory / "records.jsonl", records(count))
    some = place.size(20_000, 2_000)
    part = write_lines(place.directory / "some.jsonl", records(some))
    yield from _beside_floor(place, part, tables, f"import {some:,} JSONL records", 1.25)
    yield from _beside_floor(place, plain, tables, f"import {count:,} JSONL records", 1.1)
    yield from _beside_floor(place, exported, tables, f"import {count:,} rows of a catalogue", 1.1)
    yield from _beside_utils(place, exported, tables, f"import {count:,} rows of a catalogue")
    yield _memory(place, plain, count)


def write_tables(place: Place) -> Path:
    """Write the SQL of the catalogue's tables, for the bare loop."""
    tables = place.directory / "tables.sql"
    few = write_lines(place.directory / "one.jsonl", records(1))
    run([*program(), "import", few, "--db", place.fresh("one.db")])
    tables.write_text(_schema(place.directory / "one.db"))
    return tables


def _schema(database: Path) -> str:
    import sqlite3

    conn = sqlite3.connect(database)
    statements = conn.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    conn.close()
    return ";\n".join(sql for (sql,) in statements) + ";\n"


class Ours:
    """Our import, each time into a new database, with what it says of itself."""

    def __init__(self, place: Place, lines: Path) -> None:
        self.database = place.directory / "ours.db"
        self._lines = lines
        self._answer = place.directory / "answer.json"
        self.high_water = 0

    def __call__(self) -> Sample:
        remove_database(self.database)
        self.high_water = 0
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,))
        watcher.start()
        command: Command = [*program(), "import", self._lines, "--db", self.database, "--json"]
        try:
            return run(command, stdout=self._answer)
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        log = Path(f"{self.database}-wal")
        while not done.wait(0.005):
            try:
                self.high_water = max(self.high_water, log.stat().st_size)
            except OSError:
                continue

    @property
    def summary(self) -> Any:
        return json.loads(self._answer.read_text())


def _beside_floor(
    place: Place, lines: Path, tables: Path, what: str, budget: float
) -> Iterator[Row]:
    ours = Ours(place, lines)
    floor = place.directory / "floor.db"

    def bare() -> Sample:
        remove_database(floor)
        return run([python(), CHILDREN / "floor.py", lines, floor, tables])

    pairs = alternate(ours, bare, place.size(3, 2))
    _check_same(place, ours.database, floor)
    peer = "bare json.loads + executemany"
    yield compared("records", what, peer, pairs, limit=place.limit(budget), note="same rows")
    yield _about(ours, pairs, what)
    yield Row(
        bench="records",
        what=f"{what}: write lock held",
        measured=ours.summary["write_lock_seconds"],
        unit="s",
        ours=f"{ours.summary['write_lock_seconds'] / middle(pairs.ours).wall:.0%} of the import",
    )


def _about(ours: Ours, pairs: Pairs, what: str) -> Row:
    pages = ours.summary["checkpoint"]["db_size_after"] // 4096
    log = Path(f"{ours.database}-wal")
    after = log.stat().st_size if log.exists() else 0
    return Row(
        bench="records",
        what=f"{what}: WAL high-water by pages changed",
        measured=ours.high_water / (pages * _FRAME),
        limit=1.1,
        note=f"{after} bytes afterwards",
        ours=f"{ours.high_water / 1e6:,.0f} MB",
        facts={"after": after, "memory": middle(pairs.ours).memory},
    )


def _check_same(place: Place, ours: Path, theirs: Path) -> None:
    """Compare all rows in a process that has neither database open otherwise.

    All columns but the times of the imports, which differ.
    """
    script = (
        "import sqlite3, sys\n"
        "conn = sqlite3.connect(sys.argv[1])\n"
        "conn.execute('ATTACH ? AS other', (sys.argv[2],))\n"
        "names = [row[1] for row in conn.execute('PRAGMA table_info(models)')]\n"
        "names = [name for name in names if name not in ('created_at', 'updated_at')]\n"
        "columns = ', '.join(names).replace('tags', 'json(tags)')\n"
        "for a, b in (('main', 'other'), ('other', 'main')):\n"
        "    left = conn.execute(f'SELECT count(*) FROM (SELECT {columns} FROM {a}.models '\n"
        "        f'EXCEPT SELECT {columns} FROM {b}.models)').fetchone()[0]\n"
        "    assert left == 0, f'{left} rows differ'\n"
    )
    output([python(), "-c", script, ours, theirs])


def _beside_utils(place: Place, lines: Path, tables: Path, what: str) -> Iterator[Row]:
    utils, sqlite = place.peer("sqlite-utils", "sqlite-utils"), shell()
    peer = "sqlite-utils upsert"
    if utils is None or sqlite is None:
        yield missing("records", what, peer)
        return
    database = place.directory / "utils.db"

    def upsert() -> Sample:
        remove_database(database)
        run([sqlite, database, "PRAGMA journal_mode = WAL", f".read {tables}"])
        return run([utils, "upsert", database, "models", lines, "--nl", "--pk", "id"])

    ours = Ours(place, lines)
    pairs = alternate(ours, upsert, place.size(3, 1))
    _check_same(place, ours.database, database)
    yield compared(
        "records", what, peer, pairs, limit=place.limit(2.5), faster=True, note="same rows"
    )


def _memory(place: Place, lines: Path, count: int) -> Row:
    """Compare the memory that a part of the records takes with that of all."""
    part = place.directory / "part.jsonl"
    with lines.open() as file, part.open("w") as out:
        out.writelines(line for _, line in zip(range(count // 4), file, strict=False))
    small, large = Ours(place, part)(), Ours(place, lines)()
    return Row(
        bench="records",
        what=f"memory: {count:,} records by a quarter of them",
        measured=large.memory / small.memory,
        limit=place.limit(1.1),
        ours=f"{large.memory / 1e6:,.0f} MB and {small.memory / 1e6:,.0f} MB",
        note="its page caches are not full yet" if place.quick else "",
    )
