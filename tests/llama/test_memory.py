from __future__ import annotations

from pathlib import Path

import pytest

from tests.llama.memory import CACHES, differences, our_memory
from tests.llama.server import buffers, find_server
from tests.llama.small_models import MODELS, small_model, told

TOLD = told()
SERVER = find_server()
real = pytest.mark.skipif(
    SERVER is None, reason="no llama-server: set LLAMA_SERVER to one, or put it into PATH"
)


@pytest.mark.parametrize("name", MODELS)
def test_memory_is_what_a_llama_server_told(name: str, tmp_path: Path) -> None:
    path = small_model(tmp_path, name)
    ours = {cache: our_memory(path, cache) for cache in CACHES}
    assert differences(name, ours, TOLD["models"][name]["buffers"]) == []


def test_the_server_told_of_many_models() -> None:
    kept = [of["buffers"][CACHES[0]] for of in TOLD["models"].values()]
    assert TOLD["models"].keys() == MODELS.keys()
    assert all(kept)
    assert sum(buffer["recurrent_state"] > 0 for buffer in kept) > 8


@real
@pytest.mark.parametrize("name", ["llama", "gemma3", "deepseek2", "jamba", "qwen3next"])
def test_memory_is_what_a_llama_server_tells(name: str, tmp_path: Path) -> None:
    assert SERVER is not None
    path = small_model(tmp_path, name)
    found = buffers(SERVER, path, "-c", "16384")
    assert found is not None
    theirs = {
        "weights": found.weights,
        "kv_cache": found.kv_cache,
        "recurrent_state": found.recurrent_state,
        "count": found.count,
    }
    ours = {CACHES[0]: our_memory(path, CACHES[0])}
    assert differences(name, ours, {CACHES[0]: theirs}) == []
