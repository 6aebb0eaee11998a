"""Directories of GGUF files: the first import, and the next, which opens none of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.data import write_gguf
from tests.bench.measure import Command, FailedError, Sample, alternate, environment, output, run
from tests.bench.place import CHILDREN, Place, program, python, remove_database
from tests.bench.row import Row, compared, missing

_SIZES = (20_000, 4_000_000_000, 70_000, 40_000_000_000, 500_000)  # bytes; most of it holes


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    for count in (20, 200) if place.quick else (1000, 10_000):
        tree = make_tree(place.directory / f"tree-{count}", count)
        database = place.directory / "tree.db"
        command: Command = [*program(), "import", tree, "--db", database, "--json"]

        def cold(command: Command = command, database: Path = database) -> Sample:
            remove_database(database)
            return run(command)

        what = f"import {count:,} GGUF files, sparse ones of 40 GB among them"
        yield from _beside_official(place, tree, cold, database, what)
        floor: Command = [python(), CHILDREN / "our_tree.py", tree]
        bare = alternate(cold, lambda floor=floor: run(floor), place.size(5, 2))  # type: ignore[misc]
        budget = place.limit(1.3) if count == 10_000 else None
        yield compared("trees", what, "our header reader on each file", bare, limit=budget)
        first, again = cold(), run(command)
        yield Row(
            bench="trees",
            what=f"re-import of {count:,} unchanged files by the first import",
            measured=again.wall / first.wall,
            ours=f"{again.wall:.2f} s and {first.wall:.2f} s",
        )
        yield from _calls(tree, command, count)


def make_tree(tree: Path, count: int) -> Path:
    """Return a directory tree of so many files, made once."""
    if not tree.exists():
        for number in range(count):
            directory = tree / f"{number % 97:02d}"
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / f"model-{number:05d}-7B-F32.gguf"
            write_gguf(path, number, _SIZES[number % len(_SIZES)])
    return tree


def _beside_official(
    place: Place, tree: Path, cold: object, database: Path, what: str
) -> Iterator[Row]:
    reader = place.peer("gguf", "python")
    peer = "gguf.GGUFReader on each file"
    if reader is None:
        yield missing("trees", what, peer)
        return
    assert callable(cold)
    answer = place.directory / "official.json"
    theirs: Command = [reader, CHILDREN / "official_tree.py", tree]
    pairs = alternate(cold, lambda: run(theirs, stdout=answer), place.size(3, 1))
    listed = json.loads(output([*program(), "list", "--json", "--db", database]))
    ours = {row["path"]: [row["architecture"], row["parameter_count"]] for row in listed}
    if ours != json.loads(answer.read_text()):
        raise FailedError(f"{what}: the official reader finds other models")
    yield compared("trees", what, peer, pairs, faster=True, note="same models")


def _calls(tree: Path, command: Command, count: int) -> Iterator[Row]:
    """Count what the re-import asks the system about the files."""
    what = f"re-import of {count:,} unchanged files"
    strace = shutil.which("strace")
    if strace is None:
        yield missing("trees", f"{what}: system calls a file", "strace")
        return
    log = tree.parent / "calls.txt"
    traced = [strace, "-f", "-qq", "-e", "trace=%file,%desc", "-o", str(log), *map(str, command)]
    subprocess.run(traced, check=True, capture_output=True, env=environment())
    opened = looked = 0
    with log.open(errors="replace") as file:
        for line in file:
            if ".gguf" in line:
                opened += bool(re.search(r"\bopen(at)?\(", line))
                looked += bool(re.search(r"\b(newfstatat|[lf]?stat(x|64)?)\(", line))
    log.unlink()
    yield Row(bench="trees", what=f"{what}: opened", measured=opened, unit="files", limit=0)
    yield Row(
        bench="trees", what=f"{what}: stat", measured=looked / count, unit="a file", limit=1.0
    )
