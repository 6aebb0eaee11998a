from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.sources.files import naming
from modelstore.sources.files.naming import FileName


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", FileName("Qwen3-8B-Q4_K_M", "gguf")),
        ("x.GGUF", FileName("x", "gguf")),
        ("a-00002-of-00003.gguf", FileName("a", "gguf", 2, 3)),
        ("model-00001-of-00004.safetensors", FileName("model", "safetensors", 1, 4)),
        ("a-00004-of-00003.gguf", FileName("a-00004-of-00003", "gguf")),
        ("a-00000-of-00003.gguf", FileName("a", "gguf", 0, 3)),
        ("a-00002-of-000163.safetensors", FileName("a", "safetensors", 2, 163)),
        ("model-1-of-61.safetensors", FileName("model", "safetensors", 1, 61)),
        (
            "model.safetensors-00003-of-00014.safetensors",
            FileName("model", "safetensors", 3, 14),
        ),
        ("a.gguf-split-c", FileName("a", "gguf", 3, 0, raw_part=True)),
        ("a.gguf.part-ab", FileName("a", "gguf", 2, 0, raw_part=True)),
        ("a-0-of-0.gguf", FileName("a-0-of-0", "gguf")),
        ("a.gguf.part", FileName("a", "gguf", partial=True)),
        ("a-00001-of-00002.gguf.incomplete", FileName("a", "gguf", 1, 2, partial=True)),
        ("downloading_a.gguf.part", FileName("a", "gguf", partial=True)),
        ("a.safetensors.crdownload", FileName("a", "safetensors", partial=True)),
        ("a.gguf.part2of3", FileName("a", "gguf", 2, 3, raw_part=True)),
        ("line\nbreak\x1b[31m.gguf", FileName("line\nbreak\x1b[31m", "gguf")),
        ("\udcff\udcfe.gguf", FileName("\udcff\udcfe", "gguf")),
        ("a.gguf.txt", None),
        ("a.bin.part", None),
        ("gguf", None),
        (".part", None),
        ("", None),
    ],
)
def test_a_file_name_is_taken_apart(name: str, expected: FileName | None) -> None:
    assert naming.parse_name(name) == expected


@given(st.text(max_size=400))
def test_any_name_can_be_asked_about(name: str) -> None:
    naming.parse_name(name + ".gguf")
    naming.sidecar(name)
    naming.encoding(name)
    naming.size_label(name)
    assert naming.model_name(f"/models/{name}.gguf")
    assert isinstance(naming.main_stem(name), str)


@pytest.mark.parametrize("unit", ["-a", "7B-", "Q4_", "_K", "-0", "x", "mmproj-", "8x", "-Q4_0"])
def test_a_name_made_to_be_slow_is_not(unit: str) -> None:
    name = unit * 100_000
    naming.parse_name(name + ".gguf")
    naming.sidecar(name)
    naming.main_stem(name)
    naming.is_secondary(name)
    assert naming.encoding(name) is None
    assert naming.size_label(name) is None


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("Qwen3-8B-Q4_K_M", "Q4_K_M"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("llama-2-7b.Q5_0", "Q5_0"),
        ("model-IQ2_XXS", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("gemma-bf16", "BF16"),
        ("gemma-fp16", "F16"),
        ("Qwen3-8B", None),
        ("F16-notes", None),
    ],
)
def test_the_quantization_at_the_end_of_a_name(stem: str, expected: str | None) -> None:
    assert naming.encoding(stem) == expected


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("Llama-3.2-1B-Instruct", "1B"),
        ("qwen2.5-0.5b-q4_0", "0.5B"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL", "30B-A3B"),
        ("Mixtral-8x7B-Instruct-v0.1", "8x7B"),
        ("SmolLM2-135M", "135M"),
        ("Phi-3-mini-128k-instruct", None),
        ("model-4bit", None),
        ("gemma", None),
    ],
)
def test_the_size_in_a_name(stem: str, expected: str | None) -> None:
    assert naming.size_label(stem) == expected


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("mmproj-gemma-3-4b-it-F16", "projector"),
        ("Qwen2-VL-7B.mmproj-Q8_0", "projector"),
        ("mtp-GLM-4.5", "draft"),
        ("Qwen3-0.6B-draft", "draft"),
        ("GLM-4.5-MTP-Q4_0", None),
        ("overdraft-7B", None),
    ],
)
def test_a_sidecar_is_known_by_its_name(stem: str, expected: str | None) -> None:
    assert naming.sidecar(stem) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/m/Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q4_K_M"),
        ("/m/a-00001-of-00003.gguf", "a"),
        ("/m/mistral/model-00001-of-00002.safetensors", "mistral"),
        ("/m/llava/ggml-model-q4_0.gguf", "llava"),
        ("/model.gguf", "model"),
        ("/m/a.gguf.part", "a"),
        ("/m/DeepSeek-R1/model-00001-of-000163.safetensors", "DeepSeek-R1"),
        ("/m/Qwen/model.safetensors-00001-of-00014.safetensors", "Qwen"),
        ("/m/gemma/mmproj-F16.gguf", "mmproj-F16"),
    ],
)
def test_a_model_is_called_after_its_file_unless_any_would_be(path: str, expected: str) -> None:
    assert naming.model_name(path) == expected


def test_the_first_shard_is_where_the_others_are() -> None:
    assert naming.first_shard("/m/a-00003-of-00003.gguf") == "/m/a-00001-of-00003.gguf"
    assert naming.first_shard("/m/a-00002-of-00003.GGUF.part") == "/m/a-00001-of-00003.GGUF"
    assert naming.first_shard("/m/a-7-of-61.safetensors") == "/m/a-1-of-61.safetensors"
    assert naming.first_shard("/m/a-00000-of-00002.gguf") == "/m/a-00000-of-00002.gguf"
    assert naming.first_shard("/m/a.gguf") == "/m/a.gguf"
