"""Ask a real llama.cpp: ``python -m tests.llama --server PATH [--shapes PROGRAM] [--write]``.

Each small model is loaded into the server with several types of the cache, and its buffers are
compared with our figures. ``--write`` keeps what was told, for the tests. ``--shapes`` names
the program of shapes.cpp, which tells the tensors of a model; without it the kept ones serve.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.llama.memory import CACHES, differences, our_memory
from tests.llama.server import Buffers, buffers
from tests.llama.small_models import MODELS, TOLD, metadata, packed, told, unpacked, write_model

_OPTIONAL = (".scale", ".input_scale")  # of quantizers that keep a scale beside the weights


def main() -> int:
    """Judge every model; 1 if a figure of ours is more than 3 % off."""
    options = _parser().parse_args()
    kept = told()
    kept["version"] = options.version or kept["version"]
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models or MODELS:
            known = kept["models"].setdefault(name, {})
            if options.shapes:
                known["tensors"] = packed(_tensors(options.shapes, name, Path(scratch)))
            path = write_model(Path(scratch, "small.gguf"), name, unpacked(known["tensors"]))
            known["buffers"] = _told_buffers(options.server, path)
            ours = {cache: our_memory(path, cache) for cache in CACHES}
            faults = differences(name, ours, known["buffers"])
            wrong += bool(faults)
            print(f"{name}: {'; '.join(faults) or 'agrees'}", flush=True)
    if options.write:
        TOLD.write_text(_text(kept), "utf-8")
    return int(bool(wrong))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.llama", description=__doc__)
    parser.add_argument("models", nargs="*", help="names of small models; all of them")
    parser.add_argument("--server", required=True, help="a llama-server")
    parser.add_argument("--shapes", help="the program of shapes.cpp, of the same llama.cpp")
    parser.add_argument("--version", help="that llama.cpp's version, to be kept")
    parser.add_argument("--write", action="store_true", help="keep what was told")
    return parser


def _told_buffers(server: str, path: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for cache in CACHES:
        context, type_k, type_v, *slots = cache.split()
        parallel = ("--parallel", *slots) if slots else ()
        found = buffers(server, path, "-c", context, "-ctk", type_k, "-ctv", type_v, *parallel)
        answer[cache] = None if found is None else _rounded(found)
    return answer


def _rounded(found: Buffers) -> dict[str, int]:
    return {
        "weights": round(found.weights),
        "kv_cache": round(found.kv_cache),
        "recurrent_state": round(found.recurrent_state),
        "count": found.count,
    }


def _tensors(program: str, name: str, scratch: Path) -> dict[str, list[int]]:
    """Return the tensors that llama.cpp asks for, those of its layers for guessing too."""
    _, values = metadata(name)
    guessing = values.get("nextn_predict_layers", 0)
    special = MODELS[name]
    MODELS[name] = {**special, "nextn_predict_layers": 0}  # it tells no tensors of such layers
    path = write_model(scratch / "metadata.gguf", name, {})
    MODELS[name] = special
    output = subprocess.run([program, str(path)], capture_output=True, text=True, check=True)
    tensors = {}
    for line in output.stdout.splitlines():
        tensor, *shape = line.split()
        if not tensor.endswith(_OPTIONAL):
            tensors[tensor] = [int(length) for length in shape]
    for layer in range(values["block_count"] - guessing, values["block_count"]):
        width = values["embedding_length"]
        tensors |= {
            f"blk.{layer}.nextn.eh_proj.weight": [2 * width, width],
            f"blk.{layer}.nextn.enorm.weight": [width],
            f"blk.{layer}.nextn.hnorm.weight": [width],
            f"blk.{layer}.nextn.shared_head_norm.weight": [width],
        }
    return tensors


def _text(kept: dict[str, Any]) -> str:
    """Return JSON with one line for each tensor and each cache."""
    models = []
    for name, known in sorted(kept["models"].items()):
        parts = [
            f"  {json.dumps(part)}: {{\n"
            + ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in of.items())
            + "\n  }"
            for part, of in known.items()
        ]
        models.append(f" {json.dumps(name)}: {{\n" + ",\n".join(parts) + "\n }")
    version = json.dumps(kept["version"])
    return f'{{"version": {version}, "models": {{\n' + ",\n".join(models) + "\n}}\n"


if __name__ == "__main__":
    sys.exit(main())
