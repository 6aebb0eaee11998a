"""Small GGUF models of many architectures, written by the official writer.

The metadata is ours: what a converter writes, with few heads and layers. The tensors are those
that llama.cpp asks for, and `TOLD` keeps its answer, so that no llama.cpp is needed to write a
model. Vectors and embeddings are ones, so that nothing is divided by zero; all other data is a
hole in the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TOLD = Path(__file__).with_name("told.json")
"""What llama.cpp told of each model: its tensors, and the buffers of a llama-server."""

Metadata = dict[str, Any]

_VOCABULARY = 128
_EXPERTS: Metadata = {
    "expert_count": 2,
    "expert_used_count": 2,
    "expert_feed_forward_length": 64,
    "expert_shared_count": 1,
    "expert_shared_feed_forward_length": 64,
    "expert_gating_func": 2,
}
_LATENT: Metadata = {
    **_EXPERTS,
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 64,
    "attention.kv_lora_rank": 64,
    "attention.key_length": 96,
    "attention.value_length": 64,
    "attention.key_length_mla": 64,
    "attention.value_length_mla": 32,
    "rope.dimension_count": 32,
    "leading_dense_block_count": 1,
}
_STATE: Metadata = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 256,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 4,
}
_GROUPS: Metadata = {**_STATE, "ssm.group_count": 2}
_SPARSE: Metadata = {
    **_LATENT,
    "attention.indexer.head_count": 2,
    "attention.indexer.key_length": 64,
    "attention.indexer.top_k": 64,
}


def _some_heads(layers: int, *attending: int, heads: int = 2) -> list[int]:
    return [heads if layer in attending else 0 for layer in range(layers)]


def _window(size: int, **further: Any) -> Metadata:
    return {"attention.sliding_window": size, **further}


MODELS: dict[str, Metadata] = {
    "llama": {},
    "llama moe": {"architecture": "llama", **_EXPERTS},
    "llama embedding": {"architecture": "llama", "pooling_type": 1},
    "llama reranker": {"architecture": "llama", "pooling_type": 4},
    "qwen2": {},
    "qwen3": {
        "attention.head_count_kv": 1,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "rope.dimension_count": 64,
    },
    "qwen3moe": {**_EXPERTS},
    "glm4moe": {**_EXPERTS, "nextn_predict_layers": 1, "block_count": 3},
    "deci": {
        "block_count": 4,
        "attention.head_count": [4, 4, 0, 4],
        "attention.head_count_kv": [2, 1, 0, 4],
        "feed_forward_length": [64, 128, 64, 64],
    },
    "phi3": {**_window(512)},
    "gemma2": {"block_count": 5, **_window(256)},
    "gemma2 without a window": {"architecture": "gemma2", "block_count": 2},
    "gemma3": {"block_count": 13, **_window(512)},
    "gemma3 without a window": {"architecture": "gemma3", "block_count": 7},
    "gemma3n": {
        "block_count": 22,
        **_window(512),
        "attention.head_count": 1,
        "attention.head_count_kv": 1,
        "embedding_length": 64,
        "embedding_length_per_layer_input": 32,
    },
    "gemma4": {
        "block_count": 6,
        **_window(512),
        "attention.sliding_window_pattern": [True, True, True, False, True, False],
        "attention.shared_kv_layers": 2,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.key_length_swa": 32,
        "attention.value_length_swa": 32,
        "embedding_length_per_layer_input": 32,
    },
    "gpt-oss": {"block_count": 4, **_EXPERTS, **_window(128)},
    "cohere2": {"block_count": 6, **_window(512), "logit_scale": 1.0},
    "exaone4": {"block_count": 64, "embedding_length": 64, "rope.dimension_count": 16},
    "llama4": {"block_count": 8, **_EXPERTS, "interleave_moe_layer_step": 2},
    "olmo2": {"block_count": 6, **_window(512)},
    "smallthinker": {"block_count": 6, **_EXPERTS, **_window(512)},
    "step35": {
        "block_count": 4,
        **_EXPERTS,
        **_window(512),
        "attention.sliding_window_pattern": [False, True, True, True],
    },
    "deepseek2": {**_LATENT},
    "deepseek2 without a latent": {
        "architecture": "deepseek2",
        **_LATENT,
        "attention.head_count_kv": 4,
        "attention.key_length": 64,
        "attention.value_length": 32,
        "attention.key_length_mla": 0,
        "attention.value_length_mla": 0,
    },
    "glm-dsa": {**_SPARSE, "block_count": 3, "attention.indexer.types": [1, 0, 1]},
    "deepseek32": {**_SPARSE},
    "dots3note": {
        **_SPARSE,
        "block_count": 4,
        **_window(512),
        "attention.sliding_window_pattern": [False, True, True, True],
        "attention.indexer.types": [1, 0, 0, 0],
        "attention.kv_lora_rank_swa": 64,
        "attention.key_length_swa": 96,
        "attention.value_length_swa": 64,
        "attention.key_length_mla_swa": 64,
        "attention.value_length_mla_swa": 32,
        "rope.freq_base_swa": 10000.0,
    },
    "deepseek4": {
        **_EXPERTS,
        "expert_gating_func": 4,
        **_window(128),
        "block_count": 4,
        "attention.head_count_kv": 1,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.q_lora_rank": 64,
        "attention.output_group_count": 4,
        "attention.output_lora_rank": 32,
        "attention.compress_ratios": [0, 4, 128, 4],
        "attention.compress_rope_freq_base": 160000.0,
        "attention.indexer.head_count": 2,
        "attention.indexer.key_length": 32,
        "attention.indexer.top_k": 64,
        "hyper_connection.count": 4,
        "hyper_connection.sinkhorn_iterations": 2,
        "hyper_connection.epsilon": 1e-6,
        "hash_layer_count": 0,
        "swiglu_clamp_exp": 10.0,
        "expert_weights_scale": 1.0,
        "expert_weights_norm": True,
    },
    "glm5-next": {
        **_SPARSE,
        "block_count": 4,
        "attention.head_count_kv": _some_heads(4, 3, heads=1),
        "attention.key_length": 64,
        "rope.dimension_count": 0,
        "attention.indexer.kpool": 4,
        "ssm.conv_kernel": 4,
        "kda.head_dim": 32,
        "hyper_connection.count": 4,
        "hyper_connection.sinkhorn_iterations": 2,
        "hyper_connection.epsilon": 1e-6,
        "swiglu_clamp_exp": 10.0,
    },
    "hy_v4": {
        **_SPARSE,
        "attention.indexer.types": [1, 0],
        "hyper_connection.count": 4,
        "hyper_connection.epsilon": 1e-6,
        "hyper_connection.magnitude": 2.0,
        "swiglu_clamp_exp": 10.0,
        "expert_weights_scale": 1.0,
        "expert_weights_norm": True,
    },
    "minimax-m3": {
        **_EXPERTS,
        "block_count": 3,
        "leading_dense_block_count": 1,
        "attention.indexer.head_count": 2,
        "attention.indexer.key_length": 32,
        "attention.indexer.top_k": 64,
        "attention.indexer.block_size": 4,
        "attention.indexer.local_blocks": 1,
        "swiglu_clamp_exp": 10.0,
    },
    "nanbeige": {"num_loops": 2},
    "mamba": {**_STATE},
    "mamba2": {**_GROUPS},
    "rwkv7": {
        "wkv.head_size": 32,
        "attention.decay_lora_rank": 16,
        "attention.iclr_lora_rank": 16,
        "attention.value_residual_mix_lora_rank": 16,
        "attention.gate_lora_rank": 16,
    },
    "jamba": {"block_count": 8, **_STATE, "attention.head_count_kv": _some_heads(8, 4)},
    "falcon-h1": {**_GROUPS},
    "granitehybrid": {
        "block_count": 6,
        **_GROUPS,
        "attention.head_count_kv": _some_heads(6, 5),
    },
    "nemotron_h": {
        "block_count": 6,
        **_GROUPS,
        "attention.head_count_kv": _some_heads(6, 3),
        "feed_forward_length": [0, 64, 0, 0, 64, 0],
    },
    "lfm2": {
        "block_count": 6,
        "shortconv.l_cache": 3,
        "attention.head_count_kv": _some_heads(6, 2, 5),
    },
    "kimi-linear": {
        "block_count": 4,
        **_LATENT,
        "ssm.conv_kernel": 4,
        "kda.head_dim": 32,
        "attention.head_count_kv": _some_heads(4, 3, heads=1),
    },
    "qwen3next": {"block_count": 8, **_EXPERTS, **_GROUPS, "full_attention_interval": 4},
    "qwen35": {
        "block_count": 8,
        **_GROUPS,
        "nextn_predict_layers": 1,
        "rope.dimension_sections": [4, 4, 4, 4],
    },
    "minimax-01": {"block_count": 8, **_EXPERTS, "residual_scale": 1.0},
}
"""What is special about each model. A name is an architecture, or has one among its keys."""

_COMMON: Metadata = {
    "context_length": 16384,
    "embedding_length": 128,
    "block_count": 2,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.layer_norm_epsilon": 1e-5,
    "rope.dimension_count": 32,
    "vocab_size": _VOCABULARY,
}


def metadata(name: str) -> tuple[str, Metadata]:
    """Return the architecture of a model, and its metadata without the prefix."""
    special = dict(MODELS[name])
    architecture = special.pop("architecture", name)
    return architecture, {**_COMMON, **special}


def told() -> dict[str, Any]:
    """Return what llama.cpp told: ``version``, and for each model ``tensors`` and ``buffers``."""
    answer: dict[str, Any] = json.loads(TOLD.read_text("utf-8"))
    return answer


def write_model(path: Path, name: str, tensors: dict[str, list[int]]) -> Path:
    """Write a model with these tensors of 32-bit floats."""
    architecture, values = metadata(name)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("small")  # of a "phi-3", llama.cpp expects special tokens
    for key, value in values.items():
        _add(writer, f"{architecture}.{key}", value)
    tokens = [f"tok_{number}" for number in range(_VOCABULARY)]
    writer.add_tokenizer_model("test")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    size = 0
    ones = {}
    for tensor, shape in tensors.items():
        count = int(np.prod(shape))
        writer.add_tensor_info(tensor, shape[::-1], np.dtype(np.float32), count * 4)
        if len(shape) == 1 or tensor == "token_embd.weight":
            ones[size] = np.ones(count, np.float32).tobytes()
        size += -(-count * 4 // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    if size:
        start = -(-path.stat().st_size // 32) * 32
        os.truncate(path, start + size)
        with path.open("r+b") as file:
            for offset, data in ones.items():
                file.seek(start + offset)
                file.write(data)
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: gguf.GGUFValueType.BOOL, int: gguf.GGUFValueType.UINT32}
    if isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_key_value(key, value, kinds.get(type(value), gguf.GGUFValueType.FLOAT32))


def small_model(folder: Path, name: str) -> Path:
    """Write the model of that name, with the tensors that llama.cpp told."""
    tensors = unpacked(told()["models"][name]["tensors"])
    return write_model(folder / f"{name}.gguf", name, tensors)


def _layer(tensor: tuple[str, list[int]]) -> int:
    name = tensor[0]
    return int(name.split(".")[1]) if name.startswith("blk.") else -1


def packed(tensors: dict[str, list[int]]) -> dict[str, Any]:
    """Return tensors by name and shape, the layers of each together."""
    answer: dict[str, Any] = {}
    for name, shape in tensors.items():
        lengths = " ".join(map(str, shape))
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            answer.setdefault(f"blk {rest} {lengths}", []).append(int(layer))
        else:
            answer[f"{name} {lengths}"] = None
    return answer


def unpacked(packed_tensors: dict[str, Any]) -> dict[str, list[int]]:
    """Return the tensors that `packed` made small, layer by layer as a converter writes them."""
    answer = {}
    for entry, layers in packed_tensors.items():
        words = entry.split()
        if layers is None:
            answer[words[0]] = [int(word) for word in words[1:]]
            continue
        for layer in layers:
            answer[f"blk.{layer}.{words[1]}"] = [int(word) for word in words[2:]]
    return dict(sorted(answer.items(), key=_layer))
