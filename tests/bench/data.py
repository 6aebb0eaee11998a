"""The data that are measured on, the same in every run."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3", "phi3", "mistral", "deepseek2", "gpt-oss")
_QUANTS = ("Q4_K_M", "Q8_0", "Q6_K", "IQ4_XS", "BF16", "Q5_K_M")
_BILLIONS = (1, 3, 4, 7, 8, 13, 14, 30, 70)


def records(count: int) -> Iterator[dict[str, object]]:
    """Yield models as a program that knows them might write them, in no order of theirs."""
    chance = random.Random(7)
    for number in range(count):
        kind, quant = chance.choice(_ARCHITECTURES), chance.choice(_QUANTS)
        billions = chance.choice(_BILLIONS)
        name = f"{kind}-{billions}B-variant-{number:07d}-{quant}"
        yield {
            "name": name,
            "path": f"/srv/models/{kind}/{number % 1000:03d}/{name}.gguf",
            "architecture": kind,
            "type": "model",
            "parameter_count": billions * 10**9 + number,
            "size_label": f"{billions}B",
            "quantization": quant,
            "file_type": 15,
            "context_length": chance.choice((4096, 8192, 32768, 131072)),
            "embedding_length": 4096,
            "block_count": 32,
            "head_count": 32,
            "head_count_kv": 8,
            "feed_forward_length": 14336,
            "vocab_size": 128256,
            "file_size": billions * 600_000_000 + number,
            "license": "apache-2.0",
            "tags": ["chat", chance.choice(("code", "math", "vision"))],
            "modified_at": f"2026-11-01T12:{number % 60:02d}:{number // 60 % 60:02d}Z",
        }


def catalogue_rows(count: int) -> Iterator[dict[str, object]]:
    """Yield the same models as a catalogue exports them: nothing is left to be worked out."""
    for record in records(count):
        locator = f"file://rack{record['path']}"
        yield {
            "id": hashlib.sha256(locator.encode()).hexdigest()[:16],
            "source": "jsonl",
            "locator": locator,
            "status": "available",
            "host": "rack",
            "created_at": "2026-11-02T00:00:00Z",
            "updated_at": "2026-11-02T00:00:00Z",
        } | record


def write_lines(path: Path, rows: Iterator[dict[str, object]]) -> Path:
    """Write JSON lines, once."""
    if not path.exists():
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def write_gguf(path: Path, number: int, size: int) -> None:
    """Write a small GGUF file that is `size` bytes long; what is not written is a hole.

    The layout: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
    """

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def pair(key: str, value: str | int) -> bytes:
        if isinstance(value, str):
            return text(key) + struct.pack("<I", 8) + text(value)
        return text(key) + struct.pack("<II", 4, value)

    pairs = [
        pair("general.architecture", "llama"),
        pair("general.name", f"Model {number}"),
        pair("general.type", "model"),
        pair("general.size_label", "7B"),
        pair("general.file_type", 0),
        pair("llama.context_length", 4096 + number % 7),
        pair("llama.embedding_length", 4096),
        pair("llama.block_count", 32),
        pair("llama.attention.head_count", 32),
        pair("llama.attention.head_count_kv", 8),
        pair("llama.feed_forward_length", 14336),
        pair("llama.vocab_size", 32000),
    ]
    tokens = [f"token{index}" for index in range(200)]
    pairs.append(
        text("tokenizer.ggml.tokens")
        + struct.pack("<IIQ", 9, 8, len(tokens))
        + b"".join(map(text, tokens))
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs)
    # One tensor of 32-bit numbers takes all that is left of the file.
    info = text("output.weight") + struct.pack("<I", 1)
    start = -(-(len(head) + len(info) + 8 + 4 + 8) // 32) * 32
    numbers = (size - start) // 4
    head += info + struct.pack("<QIQ", numbers, 0, 0)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(start + numbers * 4)
