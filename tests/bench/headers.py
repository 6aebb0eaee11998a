"""GGUF headers: ours and the official reader, each in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.measure import Command, FailedError, output, run
from tests.bench.place import CHILDREN, Place, python
from tests.bench.row import Row, missing, seconds

_REAL = Path(__file__).resolve().parents[3] / "shared" / "gguf"


def bench(place: Place) -> Iterator[Row]:
    """Yield the rows."""
    reader = place.peer("gguf", "python")
    if reader is None:
        yield missing("headers", "GGUF headers", "gguf (official reader)")
        return
    made = place.directory / "vocabulary.gguf"
    vocabulary = place.size(152_000, 10_000)
    output([reader, CHILDREN / "make_gguf.py", made, str(vocabulary)])
    given = os.environ.get("MODELSTORE_TEST_GGUF", str(_REAL))
    real = sorted(Path(given).glob("*.gguf")) if Path(given).is_dir() else []
    for path in [made, *(real[:1] if place.quick else real)]:
        yield from _one(place, path, reader)


def _one(place: Place, path: Path, reader: Path) -> Iterator[Row]:
    ours = _ask(place, [python(), CHILDREN / "our_header.py", path])
    theirs = _ask(place, [reader, CHILDREN / "official_header.py", path])
    if ours["matter"] != theirs["matter"]:
        raise FailedError(f"{path.name}: {ours['matter']} {theirs['matter']}")
    yield Row(
        bench="headers",
        what=f"GGUF header, {path.name}, {path.stat().st_size / 1e6:.1f} MB",
        peer="gguf.GGUFReader",
        measured=theirs["seconds"] / ours["seconds"],
        unit="× faster",
        limit=100,
        at_least=True,
        ours=seconds(ours["seconds"]),
        theirs=seconds(theirs["seconds"]),
        note="same metadata",
    )
    yield Row(
        bench="headers",
        what=f"GGUF header, {path.name}",
        peer="reading its bytes",
        measured=ours["seconds"] / ours["floor"],
        limit=place.limit(1.3),
        ours=seconds(ours["seconds"]),
        theirs=seconds(ours["floor"]),
        note=f"{ours['strings']:,} strings to step over",
    )
    yield Row(
        bench="headers",
        what=f"extra memory, {path.name}",
        measured=ours["memory"] / 1e6,
        unit="MB",
        limit=20,
        ours=f"{ours['memory'] / 1e6:.1f} MB",
        theirs=f"{theirs['memory'] / 1e6:.1f} MB",
    )


def _ask(place: Place, command: Command) -> Any:
    answer = place.directory / "header.json"
    run(command, stdout=answer)  # from a small process: see spawn.py
    return json.loads(answer.read_text())
