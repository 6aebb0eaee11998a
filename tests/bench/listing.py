"""Listing, searching, sorting and filtering, beside the sqlite3 shell and sqlite-utils."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench.data import records, write_lines
from tests.bench.equality import json_rows, same_rows
from tests.bench.measure import Command, in_turn, output, run
from tests.bench.place import Place, program, shell
from tests.bench.row import Row, compared, missing, seconds

_TEXT = "qwen3-30B-variant-00"
_ORDER = "ORDER BY name COLLATE NOCASE NULLS LAST, id"
_QUERIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "search",
        (_TEXT,),
        f"WHERE name LIKE '%{_TEXT}%' OR path LIKE '%{_TEXT}%' OR architecture LIKE '%{_TEXT}%' "
        f"{_ORDER}",
    ),
    (
        "filter",
        ("--arch", "gemma3", "--quant", "Q8_0"),
        "WHERE architecture = 'gemma3' COLLATE NOCASE AND quantization = 'Q8_0' COLLATE NOCASE "
        f"{_ORDER}",
    ),
    (
        "sort, first 100",
        ("--sort", "-file_size", "-n", "100"),
        "ORDER BY file_size DESC NULLS LAST, id LIMIT 100",
    ),
    ("sort all by a text", ("--sort", "name"), _ORDER),
    (
        "where",
        ("--where", "parameter_count > 2e10 AND context_length >= 32768"),
        f"WHERE parameter_count > 2e10 AND context_length >= 32768 {_ORDER}",
    ),
)


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    count = place.size(1_000_000, 20_000)
    database = filled(place, count)
    sqlite = shell()
    yield from _streams(place, database, count, sqlite)
    yield from _whole(place, database, count)
    for name, arguments, sql in _QUERIES:
        what = f"list on {count:,} rows: {name}"
        if sqlite is None:
            yield missing("listing", what, "sqlite3 shell")
            continue
        ours: Command = [*program(), "list", *arguments, "-f", "jsonl", "--db", database]
        theirs = _in_shell(sqlite, database, f"SELECT * FROM models {sql}")
        note = _same(place, ours, theirs)
        pairs = in_turn(ours, theirs, place.rounds)
        yield compared(
            "listing", what, "sqlite3 shell, same SQL", pairs, limit=place.limit(3.0), note=note
        )
    yield from _table(place)


def filled(place: Place, count: int) -> Path:
    """Return a catalogue of so many models, made once."""
    database = place.directory / f"models-{count}.db"
    if not database.exists():
        lines = write_lines(place.directory / f"records-{count}.jsonl", records(count))
        run([*program(), "import", lines, "--db", database])
        lines.unlink()
    return database


def _streams(place: Place, database: Path, count: int, sqlite: str | None) -> Iterator[Row]:
    """Compare the plain formats, as the rows lie on disk, with the shell's own."""
    for form, mode in (("tsv", "-tabs"), ("json", "-json")):
        what = f"list -f {form} --sort none, {count:,} rows"
        if sqlite is None:
            yield missing("listing", what, f"sqlite3 {mode}")
            continue
        ours: Command = [
            *program(),
            "list",
            "-f",
            form,
            "-c",
            "all",
            "--sort",
            "none",
            "--db",
            database,
        ]
        theirs: Command = [sqlite, mode, database, "SELECT * FROM models"]
        note = _same(place, ours, theirs) if form == "json" else ""
        pairs = in_turn(ours, theirs, place.rounds)
        yield compared("listing", what, f"sqlite3 {mode}", pairs, limit=place.limit(0.6), note=note)


def _in_shell(sqlite: str, database: Path, sql: str) -> Command:
    return [sqlite, "-json", database, sql]


def _same(place: Place, ours: Command, theirs: Command) -> str:
    """Check that both give the same rows in the same order; return that as a note."""
    one, other = place.directory / "ours.out", place.directory / "theirs.out"
    run(ours, stdout=one)
    run(theirs, stdout=other)
    count = same_rows(json_rows(one), json_rows(other))
    one.unlink()
    other.unlink()
    return f"the same {count:,} rows"


def _whole(place: Place, database: Path, count: int) -> Iterator[Row]:
    utils, sqlite = place.peer("sqlite-utils", "sqlite-utils"), shell()
    ours: Command = [*program(), "list", "-f", "jsonl", "--sort", "none", "--db", database]
    what = f"list -f jsonl --sort none, {count:,} rows"
    if sqlite is None:
        yield missing("listing", what, "sqlite3 -json")
    else:
        theirs = _in_shell(sqlite, database, "SELECT * FROM models")
        note = _same(place, ours, theirs)
        pairs = in_turn(ours, theirs, place.rounds)
        yield compared("listing", what, "sqlite3 -json", pairs, limit=place.limit(1.5), note=note)
    if utils is None:
        yield missing("listing", what, "sqlite-utils rows --nl")
    else:
        theirs = [utils, "rows", "--nl", database, "models"]
        note = _same(place, ours, theirs)
        pairs = in_turn(ours, theirs, place.size(3, 1))
        yield compared(
            "listing",
            what,
            "sqlite-utils rows --nl",
            pairs,
            limit=place.limit(6),
            faster=True,
            note=note,
        )
    # SQLite's cache of 64 MB is full at a quarter already, but not at a tenth.
    small = run([*program(), "list", "-f", "jsonl", "--db", filled(place, count // 4)])
    large = run(ours)
    yield Row(
        bench="listing",
        what=f"memory: list -f jsonl, {count:,} rows by a quarter of them",
        measured=large.memory / small.memory,
        limit=place.limit(1.1),
        ours=f"{large.memory / 1e6:,.0f} MB and {small.memory / 1e6:,.0f} MB",
    )


def _table(place: Place) -> Iterator[Row]:
    count = place.size(100_000, 10_000)
    database = filled(place, count)
    utils = place.peer("sqlite-utils", "sqlite-utils")
    ours: Command = [*program(), "list", "-f", "table", "--db", database]
    what = f"list -f table, {count:,} rows, piped"
    if utils is None:
        yield missing("listing", what, "sqlite-utils rows -t")
        return
    columns = ("id", "name", "architecture", "parameter_count", "quantization", "context_length")
    chosen = [word for column in (*columns, "file_size") for word in ("-c", column)]
    theirs: Command = [utils, "rows", database, "models", "-t", *chosen]
    lines = len(output(ours).splitlines())
    pairs = in_turn(ours, theirs, place.rounds)
    rate = count / min(sample.wall for sample in pairs.ours)
    yield compared(
        "listing",
        what,
        "sqlite-utils rows -t",
        pairs,
        limit=1.0,
        note=f"{lines:,} lines, a row in {seconds(1 / rate)}",
    )
