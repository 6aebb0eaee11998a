"""What the attacks import: files of records, directories of small GGUFs, other catalogues."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One command line that writes, and the rows that it brings, in every table.

    `names` are those of `oracle.Found`. A load that comes `in_batches` may be there in part when it
    was interrupted, but its `root` is there only with all of it; any other load is there wholly or
    not at all, whatever the table.
    """

    arguments: tuple[str, ...]
    names: frozenset[str] = frozenset()
    stdin: Path | None = None
    in_batches: bool = False
    root: str | None = None

    def is_whole(self, names: frozenset[str]) -> bool:
        """Whether all of it is there."""
        return self.names <= names

    def is_torn(self, names: frozenset[str]) -> bool:
        """Whether a part of it is there that may not be there alone."""
        if self.is_whole(names):
            return False
        return self.root in names if self.in_batches else bool(self.names & names)


def jsonl(path: Path, prefix: str, count: int, *, piped: bool = False) -> Load:
    """Return the import of a file of JSON lines, or of the same from stdin."""
    names = [f"{prefix}-{number}" for number in range(count)]
    path.write_text("".join(f"{json.dumps(_record(name))}\n" for name in names))
    source = ("-", "--from", "jsonl") if piped else (str(path),)
    return Load(
        arguments=("import", *source), names=frozenset(names), stdin=path if piped else None
    )


def json_array(path: Path, prefix: str, count: int) -> Load:
    """Return the import of a JSON array of records."""
    names = [f"{prefix}-{number}" for number in range(count)]
    path.write_text(json.dumps([_record(name) for name in names]))
    return Load(arguments=("import", str(path)), names=frozenset(names))


def csv(path: Path, prefix: str, count: int) -> Load:
    """Return the import of a CSV file."""
    names = [f"{prefix}-{number}" for number in range(count)]
    rows = "".join(f"{name},llama,{len(name)}\n" for name in names)
    path.write_text(f"name,architecture,parameter_count\n{rows}")
    return Load(arguments=("import", str(path)), names=frozenset(names))


def directory(path: Path, prefix: str, count: int) -> Load:
    """Return the import of a directory of GGUF files."""
    path.mkdir()
    names = [f"{prefix}-{number}.gguf" for number in range(count)]
    for name in names:
        (path / name).write_bytes(_gguf(name.removesuffix(".gguf")))
    root = f"roots:{path.resolve()}"
    names += [root, *(f"model_files:{(path / name).resolve()}" for name in names)]
    return Load(arguments=("import", str(path)), names=frozenset(names), in_batches=True, root=root)


def gguf(path: Path) -> Load:
    """Return the import of one GGUF file: a row in each table of the catalogue."""
    path.write_bytes(_gguf(path.stem))
    file = path.resolve()
    rows = (f"{table}:{file}" for table in ("model_files", "model_places", "roots"))
    return Load(arguments=("import", str(path)), names=frozenset((path.name, *rows)))


def preset(path: Path, prefix: str, count: int) -> Load:
    """Return the import of a llama-server preset of several models, each in a place."""
    names = [f"{prefix}-{number}" for number in range(count)]
    path.write_text("".join(f"[{name}]\nhf-repo = org/{name}-GGUF:Q8_0\n" for name in names))
    file = path.resolve()
    places = (f"model_places:{file}#{name}" for name in names)
    return Load(
        arguments=("import", str(path), "--from", "preset"),
        names=frozenset((*names, *places, f"roots:{file}")),
    )


def _record(name: str) -> dict[str, object]:
    return {
        "name": name,
        "architecture": random.Random(name).choice(["llama", "qwen3", "gemma3"]),
        "parameter_count": len(name) * 1_000_003,
        "license": "x" * random.Random(name).choice([0, 10, 300, 2000]),
    }


def _gguf(name: str) -> bytes:
    """Return a GGUF file without tensors (github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    pairs = {"general.architecture": "llama", "general.name": name}
    body = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in pairs.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body


Maker = Callable[[Path, random.Random], Load]


def _size(rng: random.Random) -> int:
    return rng.choice((1, 3, 20, 100, 400))


MAKERS: dict[str, Maker] = {
    "stdin": lambda place, rng: jsonl(place / "load.jsonl", "New", _size(rng), piped=True),
    "jsonl": lambda place, rng: jsonl(place / "load.jsonl", "New", _size(rng)),
    "json": lambda place, rng: json_array(place / "load.json", "New", _size(rng)),
    "csv": lambda place, rng: csv(place / "load.csv", "New", _size(rng)),
    "gguf": lambda place, _: gguf(place / f"One-{place.name}.gguf"),
    "preset": lambda place, rng: preset(
        place / "load.ini", f"Preset-{place.name}", rng.choice((1, 40))
    ),
    "directory": lambda place, rng: directory(place / "load", "New", rng.choice((1, 5, 40))),
    "large": lambda place, rng: jsonl(place / "load.jsonl", "New", rng.choice((2000, 5000))),
    "batches": lambda place, _: directory(place / "load", "New", 1100),
}
"""The kinds of data that are imported, besides other catalogues."""
