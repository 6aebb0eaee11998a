"""The sound things that attacks make wrong: databases with their logs, models, texts, replies."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.cli.program import DATA, modelstore

CORPUS = Path(__file__).parent / "corpus"
MODELS = 12  # rows of each database, log included


@dataclass(frozen=True, slots=True)
class Files:
    """A database as bytes, beside the log that holds its last commits."""

    name: str
    database: bytes
    log: bytes
    index: bytes


@cache
def databases() -> tuple[Files, ...]:
    """Return databases of several kinds; the newest third of their rows is in the log alone."""
    with tempfile.TemporaryDirectory() as name:
        return tuple(_made(Path(name)))


def _made(directory: Path) -> Iterator[Files]:
    path = directory / "catalogue.db"
    lines = b"\n".join(
        json.dumps({"name": f"Model-{n}", "file_size": n + 1, "tags": ["a"]}).encode()
        for n in range(MODELS - 4)
    )
    made = modelstore("import", "-", "--db", path, stdin=lines)
    assert made.code == 0, made.err
    with closing(_connect(path)) as connection:
        for n in range(MODELS - 4, MODELS):
            connection.execute(
                "INSERT INTO models (id, name, source, locator, status, tags, created_at,"
                " updated_at) SELECT ?, ?, source, ?, status, tags, created_at, updated_at"
                " FROM models LIMIT 1",
                (f"{n:016x}", f"Model-{n}", f"name:Model-{n}"),
            )
        yield _taken("catalogue", path)
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        connection.execute("UPDATE models SET license = 'MIT' WHERE rowid % 2")
        yield _taken("restarted", path)
    for page_size, encoding, vacuum in ((512, "UTF-8", 0), (1024, "UTF-16le", 1)):
        path = directory / f"other{page_size}.db"
        with closing(_connect(path, page_size, encoding, vacuum)) as connection:
            connection.execute("CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT, path TEXT)")
            connection.execute(
                "CREATE TABLE pairs (a TEXT PRIMARY KEY, b NOT NULL CHECK (b BETWEEN 0 AND 99))"
                " WITHOUT ROWID"
            )
            connection.execute("CREATE INDEX by_name ON models (name)")
            for n in range(MODELS):
                if n == MODELS - 4:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                name = f"Model-{n}" + "x" * 300 * (n % 3)
                connection.execute("INSERT INTO models VALUES (?, ?, ?)", (n, name, f"/m/{n}"))
                connection.execute("INSERT INTO pairs VALUES (?, ?)", (f"k{n}", n))
            yield _taken(f"other{page_size}", path)


def _connect(
    path: Path, page_size: int = 4096, encoding: str = "UTF-8", vacuum: int = 0
) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute(f"PRAGMA encoding='{encoding}'")
    connection.execute(f"PRAGMA auto_vacuum={vacuum}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return connection


def _taken(name: str, path: Path) -> Files:
    parts = [Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm")]
    return Files(name, *parts)


def ggufs() -> list[bytes]:
    """Return small models in GGUF: little- and big-endian, arrays, tensors, a projector."""
    return [path.read_bytes() for path in sorted(DATA.rglob("*.gguf"))]


def safetensors() -> list[bytes]:
    header = {
        "__metadata__": {"format": "pt", "note": "x"},
        "model.embed.weight": {"dtype": "F16", "shape": [8, 4], "data_offsets": [0, 64]},
        "lm_head.lora_A": {"dtype": "I64", "shape": [], "data_offsets": [64, 72]},
    }
    text = json.dumps(header).encode()
    made = struct.pack("<Q", len(text)) + text + bytes(72)
    return [made, *(path.read_bytes() for path in sorted(DATA.rglob("*.safetensors")))]


STORES = ("ollama", "llama-cache", "huggingface", "lmstudio")


@cache
def store(kind: str) -> dict[str, bytes]:
    """Return the files of a small store of another program, by their paths in it."""
    weights, other = ggufs()[0], ggufs()[-1]
    one, two = (hashlib.sha256(data).hexdigest() for data in (weights, other))
    if kind == "ollama":
        media = "application/vnd.ollama.image."
        layers = [
            {"mediaType": media + name, "digest": f"sha256:{digest}", "size": len(data)}
            for name, digest, data in (("model", one, weights), ("projector", two, other))
        ]
        config = json.dumps({"model_family": "llama", "model_type": "3.2B"}).encode()
        digest = hashlib.sha256(config).hexdigest()
        head = {"mediaType": media + "v1+json", "digest": f"sha256:{digest}", "size": len(config)}
        manifest = {"schemaVersion": 2, "config": head, "layers": layers}
        return {
            "manifests/registry.ollama.ai/library/llama3.2/latest": json.dumps(manifest).encode(),
            "manifests/registry.ollama.ai/me/other/7b": json.dumps(manifest).encode(),
            f"blobs/sha256-{one}": weights,
            f"blobs/sha256-{two}": other,
            f"blobs/sha256-{digest}": config,
        }
    if kind == "llama-cache":
        gguf = {"rfilename": "a.gguf", "size": len(weights), "lfs": {"sha256": one}}
        sidecar = {"etag": f'"{two}"', "url": "https://huggingface.co/o/r/resolve/main/b.gguf"}
        return {
            "org_repo_a.gguf": weights,
            "manifest=org=repo=latest.json": json.dumps({"ggufFile": gguf}).encode(),
            "o_r_b.gguf": other,
            "o_r_b.gguf.json": json.dumps(sidecar).encode(),
            "o_r_b.gguf.etag": f'"{two}"'.encode(),
        }
    if kind == "huggingface":
        snapshot = "models--org--repo/snapshots/" + "a" * 40
        described = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 9}
        index = {"metadata": {"total_size": 72}, "weight_map": {"lm_head": "model.safetensors"}}
        return {
            "models--org--repo/refs/main": b"a" * 40,
            f"{snapshot}/a.gguf": weights,
            f"{snapshot}/config.json": json.dumps(described).encode(),
            f"{snapshot}/model.safetensors": safetensors()[0],
            f"{snapshot}/model.safetensors.index.json": json.dumps(index).encode(),
            f"models--org--repo/blobs/{'c' * 64}.incomplete": weights[:50],
        }
    return {
        "models/org/repo/a.gguf": weights,
        "models/org/repo/mmproj-a.gguf": other,
        "models/org/repo/downloading_b.gguf.part": weights[:60],
        "settings.json": json.dumps({"downloadsFolder": "models"}).encode(),
    }


RECORDS = [
    {
        "name": f"Model-{n}",
        "path": f"/srv/models/{n}.gguf",
        "architecture": "llama",
        "parameter_count": 10**n,
        "quantization": "Q4_K_M",
        "context_length": 4096,
        "tags": ["a", "ü"],
        "parameters": {"deep": [1, {"x": None}]},
        "created_at": 1_700_000_000_000,
    }
    for n in range(1, 6)
]
JSONL = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
JSON = json.dumps(RECORDS, indent=1).encode()
CSV = (
    b"name,path,architecture,parameter_count,tags\r\n"
    b'Model-1,/srv/1.gguf,llama,"1,000","a,b"\r\n"A ""q"" b",,,5,\r\n'
    b"Model-3,/srv/3.gguf,qwen3moe,30500000000,\r\n"
)
YAML = b"""healthCheckTimeout: 60
macros:
  server: /usr/bin/llama-server --port ${PORT}
  all: ${server} --jinja
models:
  "qwen":
    cmd: |
      ${all}
      # a comment
      -m /srv/qwen.gguf -c 32768
    aliases: &names [a, b]
    env: ["TOKEN=x"]
  other: {cmd: "${server} -hf org/repo:Q4_K_M", aliases: *names, metadata: {a: 1.5}}
"""
INI = b"""version = 1
[*]
ctx-size = 4096
hf-token = secret
; comment
[org/model:Q4_K_M]
hf-repo = org/model # inline
n-gpu-layers = 99
[local]
model = /srv/m.gguf
alias = x,y
tags = a,b
"""
REPLIES: dict[str, object] = {
    "/props": {"role": "router", "model_path": "none", "default_generation_settings": {}},
    "/models": {
        "object": "list",
        "data": [
            {
                "id": "org/model:Q4_K_M",
                "aliases": ["x"],
                "object": "model",
                "status": {"value": "unloaded", "args": ["llama-server", "-c", "4096"]},
                "architecture": {"input_modalities": ["text"]},
            }
        ],
    },
    "/v1/models": {
        "object": "list",
        "data": [{"id": "m", "meta": {"n_params": 8_030_261_312, "n_ctx_train": 131_072}}],
    },
    "/api/version": {"version": "0.9.0"},
    "/api/tags": {
        "models": [
            {
                "name": "llama3.2:latest",
                "model": "llama3.2:latest",
                "modified_at": "2026-01-01T00:00:00.5+01:00",
                "size": 2_019_393_189,
                "digest": "a80c4f17acd5",
                "details": {"family": "llama", "parameter_size": "3.2B", "families": None},
            }
        ]
    },
    "/api/show": {"model_info": {"general.parameter_count": 3_212_749_888}},
    "/api/v0/models": {
        "data": [{"id": "q", "type": "llm", "arch": "qwen", "max_context_length": 32768}]
    },
}
