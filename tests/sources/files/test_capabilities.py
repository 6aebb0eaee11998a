"""What a model can do, from files and folders as their programs make them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from modelstore.found import Found
from modelstore.model import CAPABILITIES
from modelstore.sources.files import capabilities, directory
from modelstore.sources.files.gguf_model import describe_gguf
from modelstore.sources.files.local_files import Origin, local_file
from tests.sources.stores.making import context, found, read_all

# The part that matters of templates as their makers publish them.
QWEN3 = """{%- if tools %}{{- '<|im_start|>system\\n' }}{{- tools | tojson }}{%- endif %}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>' }}
{%- endif %}"""
LLAMA2 = "{% for message in messages %}{{ '[INST] ' + message['content'] }}{% endfor %}"
MISTRAL = "{%- if tools is not none %}{{- '[AVAILABLE_TOOLS]' }}{%- endif %}{{ '[THINK]' }}"
COHERE = "{{ '<|START_THINKING|>' }}"
DEEPSEEK = "{% set content = content.split('</think>')[-1] %}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (QWEN3, {"thinking", "tools"}),
        (LLAMA2, set()),
        (MISTRAL, {"thinking", "tools"}),
        (COHERE, {"thinking"}),
        (DEEPSEEK, {"thinking"}),
        ("{{ message.tool_calls }}", {"tools"}),
        ("the toolshed of a tool", set()),
        ("<think>" * 20_000, set()),  # and quick
    ],
)
def test_a_jinja_template_tells(template: str, expected: set[str]) -> None:
    assert capabilities.of_template(template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{- if .Tools }}# Tools{{ end }}{{ .Prompt }}", {"tools"}),
        ("{{ range .Messages }}{{ range .ToolCalls }}x{{ end }}{{ end }}", {"tools"}),
        ("{{ if and $.IsThinkSet $.Think }}/think{{ end }}", {"thinking"}),
        ("<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>", {"insert"}),
        ("{{ .System }} says .Tools and .Suffix {{ .Prompt }}", set()),
    ],
)
def test_a_template_of_ollama_tells(template: str, expected: set[str]) -> None:
    assert capabilities.of_go_template(template) == expected


@given(st.text(max_size=300), st.lists(st.text(max_size=8)))
def test_any_text_is_answered(text: str, names: list[str]) -> None:
    told = capabilities.of_template(text) | capabilities.of_go_template(text)
    assert told <= {*CAPABILITIES}
    assert set(capabilities.known_capabilities(names)) == {*names} & {*CAPABILITIES}


def write(path: Path, architecture: str = "llama", keys: Mapping[str, object] = {}) -> Path:
    writer = gguf.GGUFWriter(str(path), architecture)
    for key, value in keys.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, str(value))
    writer.add_tensor("t", np.zeros((2, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def able(path: Path, *companions: Path) -> tuple[str, ...] | None:
    files = [local_file(str(path))]
    files += [local_file(str(companion), "projector") for companion in companions]
    item = describe_gguf(files, Origin(), context())
    assert isinstance(item, Found)
    return item.model.capabilities


FIM = {"tokenizer.ggml.fim_pre_token_id": 1, "tokenizer.ggml.fim_suf_token_id": 2}
OLD_FIM = {"tokenizer.ggml.prefix_token_id": 1, "tokenizer.ggml.suffix_token_id": 2}


@pytest.mark.parametrize(
    ("architecture", "keys", "expected"),
    [
        ("llama", {"tokenizer.chat_template": QWEN3}, ("thinking", "tools")),
        ("llama", {"tokenizer.chat_template": LLAMA2}, ()),
        (
            "llama",
            {"tokenizer.chat_template": LLAMA2, "tokenizer.chat_template.tool_use": "{{ tools }}"},
            ("tools",),
        ),
        ("qwen2", FIM, ("insert",)),
        ("llama", OLD_FIM, ("insert",)),
        ("llama", {"tokenizer.ggml.fim_pre_token_id": 1}, ()),
        ("gpt-oss", {}, ("thinking",)),
        ("gemma3", {"gemma3.vision.block_count": 27}, ("vision",)),
        ("qwen3omni", {"qwen3omni.audio.block_count": 32}, ("audio",)),
        ("bert", {"bert.pooling_type": 1}, ("embedding",)),
        ("llama", {"general.type": "adapter", "tokenizer.chat_template": QWEN3}, ()),
        ("clip", {"clip.has_vision_encoder": True}, ()),
    ],
)
def test_a_gguf_header_tells(
    tmp_path: Path, architecture: str, keys: Mapping[str, object], expected: tuple[str, ...]
) -> None:
    assert able(write(tmp_path / "m.gguf", architecture, keys)) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"clip.has_vision_encoder": True}, ("vision",)),
        ({"clip.has_audio_encoder": True}, ("audio",)),
        ({"clip.has_audio_encoder": True, "clip.has_vision_encoder": True}, ("audio", "vision")),
        ({}, ("vision",)),
    ],
)
def test_a_projector_gives_its_model_a_sense(
    tmp_path: Path, keys: Mapping[str, object], expected: tuple[str, ...]
) -> None:
    projector = write(tmp_path / "mmproj.gguf", "clip", keys)
    assert able(write(tmp_path / "m.gguf"), projector) == expected


def folder(path: Path, config: object, **files: str) -> Path:
    path.mkdir(parents=True)
    save_file({"w": np.zeros((2, 32), dtype=np.float16)}, str(path / "model.safetensors"))
    (path / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


CAUSAL = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}


@pytest.mark.parametrize(
    ("config", "files", "expected", "template"),
    [
        (CAUSAL, {"chat_template__jinja": QWEN3}, ("thinking", "tools"), QWEN3),
        (
            CAUSAL,
            {"tokenizer_config__json": json.dumps({"chat_template": QWEN3})},
            ("thinking", "tools"),
            QWEN3,
        ),
        (
            CAUSAL,
            {
                "tokenizer_config__json": json.dumps(
                    {
                        "chat_template": [
                            {"name": "default", "template": LLAMA2},
                            {"name": "tool_use", "template": "{{ tools }}"},
                        ]
                    }
                )
            },
            ("tools",),
            LLAMA2,
        ),
        (CAUSAL, {"tokenizer_config__json": "[" * 100_000}, (), None),
        (CAUSAL, {"chat_template__jinja": "-----BEGIN OPENSSH PRIVATE KEY-----"}, (), None),
        ({**CAUSAL, "vision_config": {"depth": 32}}, {}, ("vision",), None),
        ({**CAUSAL, "thinker_config": {"audio_config": {}}}, {}, ("audio",), None),
        ({**CAUSAL, "embd_layer": {"audio_embd_layer": {}}}, {}, ("audio",), None),  # Phi-4
        ({"model_type": "bert", "architectures": ["BertModel"]}, {}, ("embedding",), None),
        ({"architectures": ["WhisperForConditionalGeneration"]}, {}, (), None),
        ({"model_type": "whisper"}, {}, ("audio",), None),
    ],
)
def test_a_folder_of_transformers_tells(
    tmp_path: Path,
    config: object,
    files: dict[str, str],
    expected: tuple[str, ...],
    template: str | None,
) -> None:
    path = folder(tmp_path / "model", config, **files)
    [item] = found(read_all(directory.SOURCES["directory"].read, path))
    assert item.model.capabilities == expected
    facts = json.loads(item.model.parameters or "{}")
    assert facts.get("chat_template") == template
    assert facts["tensor_bytes"] == 128


def test_bits_per_weight_are_those_of_the_official_writer(tmp_path: Path) -> None:
    """The bytes of the tensors, as the official reader counts them."""
    path = tmp_path / "mixed.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    values = np.linspace(-1, 1, 64 * 256, dtype=np.float32).reshape(64, 256)
    for kind in ("Q8_0", "Q4_0", "Q4_K", "Q6_K", "F16"):
        number = gguf.GGMLQuantizationType[kind]
        try:
            packed = gguf.quantize(values, number)
        except NotImplementedError:
            continue
        writer.add_tensor(f"t.{kind}", packed, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    item = describe_gguf([local_file(str(path))], Origin(), context())
    assert isinstance(item, Found)
    official = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)
    assert json.loads(item.model.parameters or "")["tensor_bytes"] == official


def test_a_missing_shard_leaves_them_unknown(tmp_path: Path) -> None:
    path = write(tmp_path / "m-00001-of-00002.gguf")
    item = describe_gguf([replace(local_file(str(path)), role="shard")], Origin(), context())
    assert isinstance(item, Found)
    assert "tensor_bytes" not in json.loads(item.model.parameters or "{}")
    assert os.path.basename(str(item.model.path)) == path.name
