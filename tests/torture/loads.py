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
    """One command line that writes, and what it is to bring.

    `names` are what shows in the catalogue of each model it brings. A load that comes `in_batches`
    may be there in part when it was interrupted; another is there wholly or not at all.
    """

    arguments: tuple[str, ...]
    names: frozenset[str] = frozenset()
    stdin: Path | None = None
    in_batches: bool = False

    def is_whole(self, names: frozenset[str]) -> bool:
        """Whether all of it is there."""
        return self.names <= names

    def is_torn(self, names: frozenset[str]) -> bool:
        """Whether a part of it is there that may not be there alone."""
        return not self.in_batches and bool(self.names & names) and not self.is_whole(names)


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
    return Load(arguments=("import", str(path)), names=frozenset(names), in_batches=True)


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
    "directory": lambda place, rng: directory(place / "load", "New", rng.choice((1, 5, 40))),
    "large": lambda place, rng: jsonl(place / "load.jsonl", "New", rng.choice((2000, 5000))),
    "batches": lambda place, _: directory(place / "load", "New", 1100),
}
"""The kinds of data that are imported, besides other catalogues."""
