from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.catalogue.architectures import ARCHITECTURES
from modelstore.catalogue.memory import (
    CACHE_TYPES,
    COLUMNS,
    MAX_CONTEXT,
    MAX_PARALLEL,
    CacheOptions,
    context_memory,
)
from modelstore.catalogue.query import Query, count, json_lines, select
from modelstore.errors import UsageError
from modelstore.model import COMPUTED_COLUMNS
from tests.catalogue.making import catalogue, model, take_rows

if TYPE_CHECKING:
    from pathlib import Path

    from modelstore.model import Model
    from tests.catalogue.making import Opened

# Llama 3.1 8B: 32 layers, 8 heads of 128 for keys and values.
LLAMA: dict[str, Any] = {
    "architecture": "llama",
    "block_count": 32,
    "embedding_length": 4096,
    "head_count": 32,
    "head_count_kv": 8,
    "feed_forward_length": 14336,
    "context_length": 131072,
    "parameters": json.dumps({"llama.rope.dimension_count": 128, "tensor_bytes": 4_912_898_304}),
}


def llama(**values: Any) -> dict[str, Any]:
    return {**LLAMA, **values}


def row(path: str, **values: Any) -> Model:
    return model(path, **{**LLAMA, "head_count": 32, **values})


def test_a_model_with_grouped_heads() -> None:
    memory = context_memory(LLAMA, CacheOptions(context=32768))
    assert memory is not None
    assert (memory.weights, memory.recurrent_state) == (4_912_898_304, 0)
    assert memory.kv_cache == 32 * 32768 * 8 * (128 + 128) * 2
    assert memory.total == memory.weights + memory.kv_cache


def test_the_context_is_the_models_own_and_is_rounded_up() -> None:
    own = context_memory(LLAMA, CacheOptions())
    odd = context_memory(LLAMA, CacheOptions(context=1000))
    assert own is not None
    assert odd is not None
    assert (own.context_length, odd.context_length) == (131072, 1024)


def test_slots_divide_the_context() -> None:
    memory = context_memory(LLAMA, CacheOptions(context=9000, parallel=3))
    assert memory is not None
    assert memory.context_length == 3 * 3072  # each slot's share is rounded up
    assert memory.kv_cache == 32 * 3 * 3072 * 8 * (128 + 128) * 2


def test_types_of_the_cache_have_blocks() -> None:
    options = CacheOptions(context=1024, type_k="q8_0", type_v="q4_0")
    memory = context_memory(LLAMA, options)
    assert memory is not None
    assert memory.kv_cache == 32 * 1024 * 8 * (128 // 32) * (34 + 18)


@pytest.mark.parametrize(
    "values",
    [
        llama(architecture="notyetknown"),
        llama(architecture=None),
        llama(parameters=None),
        llama(parameters="{"),
        llama(parameters="[]"),
        llama(parameters=json.dumps({"llama.rope.dimension_count": 128})),  # unknown weights
        llama(parameters=json.dumps({"tensor_bytes": 5})),  # not of a GGUF file
        llama(block_count=None),
        llama(block_count=10**6),
        llama(embedding_length="4096"),
        llama(head_count=-1),
        llama(context_length=None),
        llama(parameters=json.dumps({"llama.nextn_predict_layers": 33, "tensor_bytes": 5})),
        llama(parameters=json.dumps({"llama.attention.head_count_kv": [8], "tensor_bytes": 5})),
    ],
)
def test_what_is_not_known_is_none(values: dict[str, Any]) -> None:
    assert context_memory(values, CacheOptions()) is None


def test_layers_with_an_indexer_are_listed_in_the_models_that_leave_some_out() -> None:
    told = {
        "glm-dsa.attention.key_length": 576,
        "glm-dsa.attention.key_length_mla": 256,
        "glm-dsa.attention.value_length_mla": 256,
        "glm-dsa.attention.indexer.key_length": 128,
        "tensor_bytes": 5,
    }
    values = {**LLAMA, "architecture": "glm-dsa", "head_count_kv": 1}
    options = CacheOptions(context=1024)

    def kv_cache(trained: int, **further: object) -> int | None:
        parameters = json.dumps({**told, **further})
        memory = context_memory(
            {**values, "context_length": trained, "parameters": parameters}, options
        )
        return None if memory is None else memory.kv_cache

    assert kv_cache(202_752) == 32 * 1024 * (576 + 128) * 2
    assert kv_cache(1 << 20) is None
    listed = {"glm-dsa.attention.indexer.types": [1, 0] * 16}
    assert kv_cache(1 << 20, **listed) == (32 * 576 + 16 * 128) * 1024 * 2


def test_a_cache_that_llama_cpp_refuses_is_none() -> None:
    narrow = llama(embedding_length=32 * 80)  # 80 elements are no whole blocks
    assert context_memory(narrow, CacheOptions(type_v="q8_0")) is None
    assert context_memory(narrow, CacheOptions(type_v="f16")) is not None


_numbers = st.one_of(st.none(), st.booleans(), st.integers(-2, 2**70), st.text(max_size=3))
_KEYS = (
    *("attention.key_length", "attention.sliding_window", "attention.sliding_window_pattern"),
    *("attention.key_length_mla", "attention.value_length_mla", "attention.head_count_kv"),
    *("attention.recurrent_layers", "attention.shared_kv_layers", "attention.indexer.key_length"),
    *("attention.indexer.types", "full_attention_interval", "nextn_predict_layers"),
    *("feed_forward_length", "kda.head_dim", "shortconv.l_cache", "wkv.head_size"),
    *("attention.compress_ratios", "attention.indexer.kpool", "attention.indexer.top_k"),
    *("leading_dense_block_count", "num_loops"),
    *("ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.group_count"),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_header_breaks_it(data: st.DataObject) -> None:
    architecture = data.draw(st.sampled_from(sorted(ARCHITECTURES)))
    value = st.one_of(_numbers, st.lists(_numbers, max_size=4))
    parameters = data.draw(st.dictionaries(st.sampled_from(_KEYS), value))
    told = {f"{architecture}.{key}": item for key, item in parameters.items()}
    values: dict[str, Any] = {
        column: data.draw(st.one_of(st.integers(1, 4), _numbers)) for column in COLUMNS
    }
    values |= {
        "architecture": architecture,
        "parameters": json.dumps({**told, f"{architecture}.x": 1, "tensor_bytes": 2**62}),
    }
    types = st.sampled_from(sorted(CACHE_TYPES))
    options = CacheOptions(
        context=data.draw(st.integers(1, MAX_CONTEXT)),
        type_k=data.draw(types),
        type_v=data.draw(types),
        parallel=data.draw(st.one_of(st.none(), st.integers(1, MAX_PARALLEL))),
    )
    memory = context_memory(values, options)
    if memory is not None:
        assert memory.weights == 2**62
        assert min(memory.kv_cache, memory.recurrent_state) >= 0
        assert memory.total < 2**63


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Opened:
    opened = catalogue(tmp_path)
    take_rows(
        opened,
        [
            row("/m/large.gguf", block_count=64),
            row("/m/small.gguf"),
            row("/m/unknown.gguf", architecture="notyetknown"),
        ],
    )
    return opened


def _select(opened: Opened, **asked: Any) -> list[tuple[object, ...]]:
    return list(select(opened.db, Query(columns=("name", "memory"), **asked)))


SMALL = 4_912_898_304 + 32 * 8 * 256 * 2 * 131072
LARGE = 4_912_898_304 + 64 * 8 * 256 * 2 * 131072


def test_the_column_is_computed_and_unknown_is_last(opened: Opened) -> None:
    small, large, unknown = ("small.gguf", SMALL), ("large.gguf", LARGE), ("unknown.gguf", None)
    assert _select(opened, sort=("name",)) == [large, small, unknown]
    assert _select(opened, sort=("memory",)) == [small, large, unknown]
    assert _select(opened, sort=("-memory",), limit=2) == [large, small]


def test_it_is_of_the_context_that_is_asked_for(opened: Opened) -> None:
    ((_, memory),) = _select(opened, text="small", cache=CacheOptions(context=256))
    assert memory == 4_912_898_304 + 32 * 8 * 256 * 2 * 256


def test_it_takes_part_in_expressions(opened: Opened) -> None:
    memory = COMPUTED_COLUMNS["memory"].format("")
    query = Query(where=f"{memory} < {LARGE}", columns=("name",), sort=("name",))
    assert list(select(opened.db, query)) == [("small.gguf",)]
    assert count(opened.db, query) == 1
    assert count(opened.db, Query(where=f"{memory} IS NULL")) == 1


def test_its_function_takes_what_it_takes(opened: Opened) -> None:
    with pytest.raises(UsageError):
        _select(opened, where="modelstore_memory(1) > 2")


def test_json_has_it_when_it_is_asked_for(opened: Opened) -> None:
    (line,) = json_lines(opened.db, Query(text="unknown", columns=("name", "memory")))
    assert json.loads(line) == {"name": "unknown.gguf", "memory": None}
    assert "memory" not in json.loads(next(json_lines(opened.db, Query())))
