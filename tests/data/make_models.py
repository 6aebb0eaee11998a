"""Write the tiny models of tests/data/models with the official writers of both formats.

``python -m tests.data.make_models`` writes them anew. Their weights are zeros and ramps: they
have the shape of a model, and nothing to say.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

MODELS = Path(__file__).parent / "models"
WIDTH = 32
TOKENS = 64


def writer(path: Path, architecture: str, **options: Any) -> gguf.GGUFWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return gguf.GGUFWriter(str(path), architecture, **options)


def finish(file: gguf.GGUFWriter) -> None:
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def add_shape(file: gguf.GGUFWriter, *, layers: int = 2, context: int = 2048) -> None:
    file.add_context_length(context)
    file.add_embedding_length(WIDTH)
    file.add_block_count(layers)
    file.add_feed_forward_length(4 * WIDTH)
    file.add_head_count(4)
    file.add_head_count_kv(2)
    file.add_layer_norm_rms_eps(1e-6)
    file.add_rope_freq_base(10000.0)


def add_tokenizer(file: gguf.GGUFWriter) -> None:
    file.add_tokenizer_model("llama")
    file.add_tokenizer_pre("default")
    file.add_token_list([f"<{number}>" for number in range(TOKENS)])
    file.add_token_scores([-float(number) for number in range(TOKENS)])
    file.add_token_types([1] * TOKENS)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")


def ramp(*shape: int) -> np.ndarray[Any, Any]:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def add_layers(file: gguf.GGUFWriter, quantization: gguf.GGMLQuantizationType, layers: int) -> None:
    """Add the tensors of a small llama: norms stay F32, as llama.cpp leaves them."""

    def add(name: str, *shape: int) -> None:
        data = gguf.quants.quantize(ramp(*shape), quantization)
        file.add_tensor(name, data, raw_dtype=quantization)

    add("token_embd.weight", TOKENS, WIDTH)
    for layer in range(layers):
        file.add_tensor(f"blk.{layer}.attn_norm.weight", ramp(WIDTH))
        add(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
        add(f"blk.{layer}.attn_k.weight", WIDTH // 2, WIDTH)
        add(f"blk.{layer}.ffn_up.weight", WIDTH, WIDTH)
    file.add_tensor("output_norm.weight", ramp(WIDTH))


def chat() -> None:
    file = writer(MODELS / "tiny-llama" / "Tiny-Llama-7K-Instruct-Q8_0.gguf", "llama")
    file.add_name("Tiny Llama 7K Instruct")
    file.add_basename("Tiny-Llama")
    file.add_size_label("7K")
    file.add_license("mit")
    file.add_tags(["tiny", "text-generation"])
    file.add_languages(["en"])
    file.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    file.add_vocab_size(TOKENS)
    add_shape(file, context=4096)
    add_tokenizer(file)
    add_layers(file, gguf.GGMLQuantizationType.Q8_0, 2)
    finish(file)


def sharded() -> None:
    path = MODELS / "tiny-qwen3" / "Tiny-Qwen3-7K-F16.gguf"
    file = writer(path, "qwen3", split_max_tensors=4)
    file.add_name("Tiny Qwen3")
    file.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_shape(file, context=32768)
    add_tokenizer(file)
    add_layers(file, gguf.GGMLQuantizationType.F16, 2)
    finish(file)


def vision() -> None:
    folder = MODELS / "tiny-gemma3"
    file = writer(folder / "tiny-gemma-3-it-Q4_0.gguf", "gemma3")
    file.add_name("Tiny Gemma 3")
    file.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    file.add_sliding_window(512)
    add_shape(file, context=131072)
    add_tokenizer(file)
    add_layers(file, gguf.GGMLQuantizationType.Q4_0, 1)
    finish(file)
    file = writer(folder / "mmproj-tiny-gemma-3-it-F16.gguf", "clip")
    file.add_type("mmproj")
    file.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    file.add_clip_has_vision_encoder(value=True)
    file.add_vision_embedding_length(WIDTH)
    file.add_vision_block_count(1)
    file.add_vision_head_count(4)
    file.add_vision_feed_forward_length(2 * WIDTH)
    file.add_tensor("v.patch_embd.weight", ramp(WIDTH, 3, 4, 4).astype(np.float16))
    finish(file)


def embedding() -> None:
    file = writer(MODELS / "tiny-bert-embed-F32.gguf", "nomic-bert")
    file.add_name("Tiny Bert")
    file.add_context_length(512)
    file.add_embedding_length(WIDTH)
    file.add_block_count(1)
    file.add_feed_forward_length(2 * WIDTH)
    file.add_head_count(4)
    file.add_pooling_type(gguf.PoolingType.MEAN)
    file.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_tokenizer(file)
    file.add_tensor("token_embd.weight", ramp(TOKENS, WIDTH))
    finish(file)


def hybrid() -> None:
    """Write a model whose layers differ, for a big-endian machine."""
    file = writer(
        MODELS / "tiny-hybrid-BF16-big-endian.gguf", "lfm2", endianess=gguf.GGUFEndian.BIG
    )
    file.add_name("Tiny Hybrid")
    add_shape(file, layers=4)
    file.kv_data[0].pop("lfm2.attention.head_count_kv")
    file.kv_data[0].pop("lfm2.feed_forward_length")
    file.add_head_count_kv([0, 0, 4, 0])
    file.add_feed_forward_length([256, 256, 512, 256])
    add_layers(file, gguf.GGMLQuantizationType.BF16, 1)
    finish(file)


def adapter() -> None:
    file = writer(MODELS / "adapters" / "tiny-llama-pirate-lora-F16.gguf", "llama")
    file.add_type("adapter")
    file.add_string("adapter.type", "lora")
    file.add_float32("adapter.lora.alpha", 16.0)
    file.add_tensor("blk.0.attn_q.weight.lora_a", ramp(8, WIDTH).astype(np.float16))
    file.add_tensor("blk.0.attn_q.weight.lora_b", ramp(WIDTH, 8).astype(np.float16))
    finish(file)


def safetensors() -> None:
    folder = MODELS / "tiny-mistral"
    folder.mkdir()
    shards: dict[str, dict[str, tuple[int, ...]]] = {
        "model-00001-of-00002.safetensors": {"model.embed_tokens.weight": (TOKENS, WIDTH)},
        "model-00002-of-00002.safetensors": {
            "model.layers.0.self_attn.q_proj.weight": (WIDTH, WIDTH),
            "model.norm.weight": (WIDTH,),
        },
    }
    for name, tensors in shards.items():
        save_file(
            {tensor: ramp(*shape).astype(np.float16) for tensor, shape in tensors.items()},
            folder / name,
            metadata={"format": "pt"},
        )
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    size = sum((folder / name).stat().st_size for name in shards)
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": size}, "weight_map": weight_map},
    )
    write_json(
        folder / "config.json",
        {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "max_position_embeddings": 8192,
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "rope_theta": 10000.0,
            "torch_dtype": "float16",
            "vocab_size": TOKENS,
        },
    )


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    shutil.rmtree(MODELS, ignore_errors=True)
    MODELS.mkdir()
    for make in (chat, sharded, vision, embedding, hybrid, adapter, safetensors):
        make()
    total = sum(os.path.getsize(path) for path in MODELS.rglob("*") if path.is_file())
    print(f"{total} bytes in {MODELS}")


if __name__ == "__main__":
    main()
