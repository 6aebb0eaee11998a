"""Catalogues that the tests of the commands read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.program import modelstore

MODELS: list[dict[str, Any]] = [
    {
        "name": f"Qwen3-{size}B-A3B-Instruct-2507-UD-{quant}",
        "locator": f"file://box/srv/qwen/{size}.{quant}.gguf",
        "path": f"/srv/qwen/{size}.{quant}.gguf",
        "architecture": "qwen3moe" if size > 8 else "llama",
        "type": "embedding" if size == 1 else "model",
        "quantization": quant,
        "parameter_count": size * 1_000_000_000,
        "context_length": 262_144 if size > 8 else 40_960,
        "file_size": size * 600_000_000,
        "file_type": 15,
        "host": "box" if size > 8 else "den",
        "tags": ["favorite", "work"] if size == 30 else [],
        "sha256": f"{size:064x}" if quant == "Q4_K_M" else None,
        "parameters": {"general.basename": "Qwen3"},
        "modified_at": "2026-11-22T10:00:00Z",
    }
    for size in (1, 8, 14, 30)
    for quant in ("Q4_K_M", "Q8_0")
]
NAMES = [str(model["name"]) for model in MODELS]


def fill(db: Path, models: list[dict[str, Any]]) -> Path:
    """Import `models` into `db` and return it."""
    lines = "\n".join(json.dumps(model) for model in models)
    result = modelstore("import", "-", "--allow-empty", "--db", db, stdin=lines.encode())
    assert result.code == 0, result.err
    return db


# Leaves seven commits in the log, as a killed application does: no close, no checkpoint.
KILLED_WRITER = """
    import os, sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("PRAGMA wal_autocheckpoint=0")
    conn.execute("PRAGMA synchronous=OFF")
    for n in range(7):
        conn.execute("UPDATE models SET license = ?", (f"licence {n}",))
    print("written", flush=True)
    os.kill(os.getpid(), 9)
"""
