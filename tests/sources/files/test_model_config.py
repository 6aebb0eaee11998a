"""What the configurations of published models say, and what their tensors do without one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import save_file

from modelstore.sources.files.model_config import config_columns, model_kind
from modelstore.sources.files.safetensors_header import read_safetensors_header
from tests.sources.files.test_safetensors import zeros

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2}
ROBERTA = {"max_position_embeddings": 8194, "pad_token_id": 1}
FALCON = {"num_attention_heads": 71, "num_kv_heads": 8, "multi_query": True}


@pytest.mark.parametrize(
    ("config", "column", "right"),
    [
        ({"thinker_config": {"text_config": TEXT}}, "head_count_kv", 2),  # Qwen3-Omni
        ({"decoder": TEXT, "encoder": {"hidden_size": 32}}, "embedding_length", 64),  # T5Gemma
        ({"decoder_config": TEXT}, "head_count", 8),  # VibeVoice
        ({"text_config": TEXT, "hidden_size": 1}, "embedding_length", 64),
        ({"text_config": {"intermediate_size": [16, 32]}}, "feed_forward_length", 32),  # Gemma 3n
        ({"model_type": "xlm-roberta", **ROBERTA}, "context_length", 8192),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, "context_length", 512),
        ({"model_type": "bert", **ROBERTA}, "context_length", 8194),
        ({"model_type": "roberta", "max_position_embeddings": 1}, "context_length", None),
        ({"d_kv": 64, "num_heads": 12}, "head_count", 12),  # T5
        ({"num_heads": 128}, "head_count", None),  # those of Mamba-2 attend to nothing
        (FALCON, "head_count_kv", 1),
        ({**FALCON, "new_decoder_architecture": True}, "head_count_kv", 8),
        ({"decoder": {"decoder": {"decoder": {}}}, "text_config": 3}, "head_count", None),
    ],
)
def test_columns(config: dict[str, Any], column: str, right: int | None) -> None:
    assert config_columns(config)[column] == right


def causal(title: str = "Qwen3ForCausalLM", **more: object) -> dict[str, Any]:
    return {"model_type": "qwen3", "architectures": [title], **more}


PHI = {f"layers.{n}.qkv.base_layer.weight": (64, 64) for n in range(4)}
LORA = {"layers.0.qkv.lora_A.speech.weight": (8, 64), "layers.0.qkv.lora_B.speech.weight": (64, 8)}
LOKR = {"lycoris_blocks_0.lokr_w1": (8, 8), "lycoris_blocks_0.alpha": ()}
HIFIGAN = ["SpeechT5HifiGan"]


@pytest.mark.parametrize(
    ("name", "config", "tensors", "right"),
    [
        ("Phi-4-multimodal", causal("Phi4MMForCausalLM"), PHI | LORA, "model"),
        ("jina-v3", {"model_type": "xlm-roberta", "architectures": ["X"]}, PHI | LORA, "model"),
        ("my-lora", {}, LORA, "adapter"),
        ("style", {}, LOKR, "adapter"),
        ("Qwen/Qwen3-Reranker-0.6B", causal(), PHI, "reranker"),
        ("Qwen/Qwen3-Embedding-0.6B", causal(), PHI, "model"),  # without its modules.json
        ("mtp-x", causal(), PHI, "draft"),
        ("whisper-large-v3-turbo", {"model_type": "whisper"}, PHI, "speech"),
        ("wav2vec2", {"architectures": ["Wav2Vec2ForCTC"]}, PHI, "speech"),
        ("mimi", {"model_type": "mimi", "architectures": ["MimiModel"]}, PHI, "vocoder"),
        ("vocoder", {"model_type": "hifigan", "architectures": HIFIGAN}, PHI, "vocoder"),
        ("vit", {"num_classes": 1000, "pretrained_cfg": {}}, PHI, "classifier"),  # timm
        ("vit", {"num_classes": 0, "pretrained_cfg": {}}, PHI, "model"),
        ("controlnet", {"_class_name": "FluxControlNetModel"}, PHI, "diffusion"),
        ("prior", {"_class_name": "StableCascadeUNet"}, PHI, "diffusion"),
        ("vqvae", {"_class_name": "AsymmetricAutoencoderKL"}, PHI, "vae"),
        ("sdxl", {}, {"model.diffusion_model.out.2.weight": (4, 4)}, "diffusion"),
        ("flux1-dev", {}, {"double_blocks.0.img_attn.qkv.weight": (4, 4)}, "diffusion"),
        ("wan", {}, {"blocks.0.ffn.0.weight": (4,), "time_embedding.0.bias": (4,)}, "diffusion"),
        ("rwkv", {}, {"blocks.0.att.time_decay": (4,), "emb.weight": (4,)}, "model"),
        ("ae", {}, {"decoder.conv_in.bias": (4,), "encoder.conv_in.bias": (4,)}, "vae"),
        ("t5", {}, {"decoder.block.0.layer.0.weight": (4,), "encoder.block.0": (4,)}, "model"),
    ],
)
def test_type(
    name: str,
    config: dict[str, Any],
    tensors: dict[str, tuple[int, ...]],
    right: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({key: zeros(*shape) for key, shape in tensors.items()}, path)
    header = read_safetensors_header(str(path))
    assert model_kind(str(tmp_path), name, config, [header]) == right


def test_what_a_file_alone_says_of_itself(tmp_path: Path) -> None:
    from tests.sources.files.test_safetensors import items

    told = json.dumps({"method": "svdquant", "weight": {"dtype": "fp4_e2m1_all"}})
    for name, metadata in {
        "flux": {"modelspec.architecture": "flux-1-dev"},
        "style": {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
        "svdq": {"model_class": "NunchakuFluxTransformer2dModel", "quantization_config": told},
    }.items():
        save_file({"a.weight": zeros(4)}, tmp_path / f"{name}.safetensors", metadata=metadata)
    flux, style, svdq = (item.model for item in items(tmp_path))  # type: ignore[union-attr]
    assert flux.architecture == "flux-1-dev"
    assert style.architecture == "stable-diffusion-xl-v1-base"
    assert (svdq.type, svdq.quantization) == ("diffusion", "SVDQUANT-FP4")
