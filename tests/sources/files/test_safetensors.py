from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from modelstore.errors import SourceError
from modelstore.found import Found, Skipped
from modelstore.model import INTEGER_COLUMNS
from modelstore.sources.base import Context, Item, Target
from modelstore.sources.files import directory
from modelstore.sources.files.safetensors_header import (
    DTYPE_BITS,
    SafetensorsError,
    SafetensorsHeader,
    read_safetensors_header,
)
from tests.sources.files import hostile
from tests.sources.files.oracle import TINY
from tests.sources.files.test_gguf import mutate

CONTEXT = Context(host="box", now="2026-11-22T20:00:00Z")
MISTRAL = TINY / "tiny-mistral"
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def items(path: Path) -> list[Item]:
    return list(directory.SOURCES["directory"].read(Target(str(path)), CONTEXT))


def only(path: Path) -> Found:
    (item,) = items(path)
    assert isinstance(item, Found), item
    return item


def facts(found: Found) -> dict[str, Any]:
    loaded = json.loads(found.model.parameters or "{}")
    assert isinstance(loaded, dict)
    return loaded


def packed(header: object, data: int = 0) -> bytes:
    """The bytes of a file with any header, and so many bytes of data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data)


def make(folder: Path, tensors: dict[str, Any], config: object = None, name: str = "model") -> Path:
    """Write one safetensors file by the official writer, and a config.json."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / f"{name}.safetensors", metadata={"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def zeros(*shape: int, dtype: Any = np.float16) -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype=dtype)


def test_every_column_of_a_sharded_model() -> None:
    found = only(MISTRAL)
    model = found.model
    first, second = sorted(MISTRAL.glob("*.safetensors"))
    assert (model.name, model.source, model.status) == ("tiny-mistral", "safetensors", "available")
    assert (model.locator, model.path) == (f"file://box{first}", str(first))
    assert (model.architecture, model.type, model.quantization) == ("mistral", "model", "F16")
    assert model.parameter_count == 64 * 32 + 32 * 32 + 32
    assert model.file_size == first.stat().st_size + second.stat().st_size
    assert (model.context_length, model.embedding_length, model.block_count) == (8192, 32, 1)
    assert (model.head_count, model.head_count_kv) == (4, 2)
    assert (model.feed_forward_length, model.vocab_size) == (128, 64)
    assert [file.role for file in found.files] == ["shard", "shard", "config", "index"]
    assert facts(found)["architectures"] == ["MistralForCausalLM"]


@pytest.mark.parametrize("path", sorted(MISTRAL.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_header_agrees_with_the_official_reader(path: Path) -> None:
    header = read_safetensors_header(str(path))
    with safe_open(path, framework="numpy") as official:
        names = list(official.keys())
        shapes = [official.get_slice(name).get_shape() for name in names]
        assert header.metadata == official.metadata()
    assert header.tensor_count == len(names)
    assert sum(header.elements.values()) == sum(int(np.prod(shape)) for shape in shapes)
    assert header.data_end == header.size == path.stat().st_size


_dtypes = st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int64", "bool"])
_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__"
)


@settings(quick, max_examples=60)
@given(
    tensors=st.dictionaries(_names, st.tuples(_dtypes, st.lists(st.integers(0, 4), max_size=3))),
    metadata=st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=30), min_size=1),
)
def test_what_the_official_writer_writes_is_read(
    tmp_path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    arrays = {name: np.zeros(shape, dtype=dtype) for name, (dtype, shape) in tensors.items()}
    path = tmp_path / "x.safetensors"
    save_file(arrays, path, metadata=metadata)
    header = read_safetensors_header(str(path))
    assert header.tensor_count == len(arrays)
    assert sum(header.elements.values()) == sum(array.size for array in arrays.values())
    assert header.metadata == (metadata or {})
    assert header.data_end == header.size


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
RAW_ENTRY = json.dumps(ENTRY).encode()
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "four bytes": (b"\1\0\0\0", "not a safetensors file"),
    "a web page": (b"<!DOCTYPE html><title>404</title>", "web page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "length of 2^64-1": (struct.pack("<Q", (1 << 64) - 1) + b"{}", "not a safetensors file"),
    "length of 99 MB": (struct.pack("<Q", 99_000_000) + b"{}", "a header of 99000000 bytes"),
    "length past the end": (struct.pack("<Q", 5000) + b"{}", "ends within its header"),
    "a list": (packed([1, 2]), "not a safetensors file"),
    "cut off": (packed(b'{"a":{"dtype":"F32","shape":[2'), "not what safetensors writes"),
    "no object inside": (packed({"a": 1}), "not what safetensors writes"),
    "nested 100,000 deep": (packed(b'{"a":' + b'{"a":' * 100_000), "not what safetensors writes"),
    "a name that is no UTF-8": (packed(b'{"a\xff":' + RAW_ENTRY + b"}", 16), "not in UTF-8"),
    "half a surrogate": (packed(b'{"\\ud800":' + RAW_ENTRY + b"}", 16), "not in UTF-8"),
    "a control character": (
        packed(b'{"a\n":' + RAW_ENTRY + b"}", 16),
        "not what safetensors writes",
    ),
    "an escape that is none": (
        packed(b'{"a\\x":' + RAW_ENTRY + b"}", 16),
        "not what safetensors writes",
    ),
    "a form feed for a space": (
        packed(b'{\x0c"a":' + RAW_ENTRY + b"}", 16),
        "not what safetensors writes",
    ),
    "one name spelled in two ways": (
        packed(b'{"a":' + RAW_ENTRY + b',"\\u0061":' + RAW_ENTRY + b"}", 16),
        "two tensors of one name",
    ),
    "lists 2,000 deep": (packed(b'{"a":{"shape":' + b"[" * 2000 + b"}}"), "not JSON"),
    "a string without end": (packed(b'{"' + b"a" * 100_000), "not what safetensors writes"),
    "escapes without end": (packed(b'{"' + b"\\" * 100_001), "not what safetensors writes"),
    "spaces without end": (packed(b"{" + b" " * 1_000_000 + b"x"), "not what safetensors writes"),
    "no dtype": (packed({"a": {**ENTRY, "dtype": None}}), "without dtype"),
    "a shape of text": (packed({"a": {**ENTRY, "shape": "2,2"}}), "without dtype"),
    "a negative shape": (packed({"a": {**ENTRY, "shape": [-2, -2]}}), "without dtype"),
    "a shape of truth": (packed({"a": {**ENTRY, "shape": [True]}}), "without dtype"),
    "a shape of floats": (packed({"a": {**ENTRY, "shape": [2.0, 2]}}), "without dtype"),
    "an entry of 5 KB": (packed({"a": {**ENTRY, "more": "x" * 5000}}), "without dtype"),
    "a shape that overflows": (
        packed({"a": {**ENTRY, "shape": [1 << 40, 1 << 40]}}),
        "does not fit into 64 bits",
    ),
    "offsets that disagree": (packed({"a": {**ENTRY, "data_offsets": [0, 17]}}), "disagree"),
    "offsets backwards": (packed({"a": {**ENTRY, "data_offsets": [16, 0]}}), "disagree"),
    "one offset": (packed({"a": {**ENTRY, "data_offsets": [16]}}), "disagree"),
    "the same tensor twice": (
        packed(f'{{"a":{json.dumps(ENTRY)},"a":{json.dumps(ENTRY)}}}'.encode()),
        "two tensors of one name",
    ),
    "more text after": (packed(f'{{"a":{json.dumps(ENTRY)}}}x'.encode()), "more text after"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_hostile_file_is_skipped_with_its_fault_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = hostile.write(tmp_path / "hostile.safetensors", content)
    (item,) = items(tmp_path)
    assert isinstance(item, Skipped)
    assert item.what == str(path)
    assert words in item.reason


def test_more_parameters_than_a_column_holds_are_unknown(tmp_path: Path) -> None:
    entry = {"dtype": "F4", "shape": [1 << 62], "data_offsets": [0, 1 << 61]}
    content = packed(dict.fromkeys("abc", entry))
    hostile.write(tmp_path / "x.safetensors", content)
    model = only(tmp_path).model
    assert (model.parameter_count, model.status) == (None, "truncated")


_MEMORY = """
import resource, sys
from modelstore.sources.files.safetensors_header import SafetensorsError, read_safetensors_header
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_safetensors_header(path)
    except SafetensorsError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures with Linux's tools")
def test_a_header_full_of_nothing_costs_little_memory(tmp_path: Path) -> None:
    lists = b'{"a":{"x":[' + b"[]," * 5_000_000 + b"[]]}}"
    texts = b'{"__metadata__":{"x":[' + b"[]," * 5_000_000 + b"[]]}}"
    hole = struct.pack("<Q", 30_000_000) + b"{"
    paths = [
        hostile.write(tmp_path / "lists", packed(lists)),
        hostile.write(tmp_path / "texts", packed(texts)),
        hostile.write(tmp_path / "hole", hole, 16 << 30),
    ]
    command = [sys.executable, "-c", _MEMORY, *map(str, paths)]
    result = subprocess.run(
        command, capture_output=True, check=True, text=True, cwd=TINY.parents[2]
    )
    assert int(result.stdout) < 100 << 10


def test_tensors_may_lie_in_any_order(tmp_path: Path) -> None:
    entries = {"b": {**ENTRY, "data_offsets": [16, 32]}, "a": ENTRY}
    path = hostile.write(tmp_path / "x.safetensors", packed(entries, 31))
    header = read_safetensors_header(str(path))
    assert (header.data_end, header.truncated) == (header.size + 1, True)


@settings(quick, max_examples=200)
@given(
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.sampled_from(["flip", "insert", "delete", "number"]),
            st.binary(min_size=1, max_size=9) | st.sampled_from([b"{", b"}", b'"', b"[", b"\\"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path: Path, edits: list[tuple[float, str, bytes]]
) -> None:
    seed = next(MISTRAL.glob("model-00002*")).read_bytes()[:400]
    path = hostile.write(tmp_path / "damaged.safetensors", mutate(seed, edits))
    outcome: SafetensorsHeader | str
    try:
        outcome = read_safetensors_header(str(path))
    except SafetensorsError as error:
        outcome = error.reason
    assert outcome.isprintable() if isinstance(outcome, str) else outcome.data_end >= 8


def test_a_truncated_shard_is_a_status(tmp_path: Path) -> None:
    shutil.copytree(MISTRAL, tmp_path / "m")
    (shard,) = (tmp_path / "m").glob("model-00002*")
    whole = shard.stat().st_size
    hostile.write(shard, shard.read_bytes()[:-5])
    found = only(tmp_path / "m")
    assert found.model.status == "truncated"
    assert facts(found)["faults"] == [f"{shard.name} ends at {whole - 5} of {whole} bytes"]


def test_a_missing_shard_is_named_once(tmp_path: Path) -> None:
    shutil.copytree(MISTRAL, tmp_path / "m")
    next((tmp_path / "m").glob("model-00001*")).unlink()
    found = only(tmp_path / "m")
    assert (found.model.status, found.model.parameter_count) == ("incomplete", None)
    assert facts(found)["faults"] == ["1 of 2 shards are missing: 1"]
    assert found.model.locator.endswith("/m/model-00001-of-00002.safetensors")


def test_files_that_only_the_index_makes_shards_of_one_model(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"a": zeros(2, 2)}, {"model_type": "odd"}, "part_one")
    make(folder, {"b": zeros(3)}, None, "part_two")
    weight_map = {"a": "part_one.safetensors", "b": "part_two.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    found = only(folder)
    assert (found.model.parameter_count, found.model.architecture) == (7, "odd")
    assert [file.role for file in found.files] == ["shard", "shard", "config", "index"]
    (folder / "part_two.safetensors").unlink()
    (found,) = (item for item in items(folder) if isinstance(item, Found))
    assert found.model.status == "incomplete"
    assert facts(found)["faults"] == ["1 of 2 files are missing: part_two.safetensors"]


def test_a_multimodal_configuration_is_read_where_its_text_is(tmp_path: Path) -> None:
    config = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "vision_config": {"hidden_size": 1152, "model_type": "siglip"},
        "hidden_size": 7,
        "text_config": {"hidden_size": 2560, "max_position_embeddings": 131072, "vocab_size": 9},
    }
    model = only(make(tmp_path / "m", {"a": zeros(2)}, config)).model
    assert (model.architecture, model.embedding_length) == ("gemma3", 2560)
    assert (model.context_length, model.vocab_size) == (131072, 9)


@pytest.mark.parametrize(
    ("config", "tensors", "quantization", "parameters"),
    [
        ({}, {"w": zeros(8, 8), "norm": zeros(8, dtype=np.float32)}, "F16", 72),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            {
                "q.qweight": zeros(8, 64, dtype=np.int32),
                "q.qzeros": zeros(8, 8, dtype=np.int32),
                "q.scales": zeros(8, 8),
                "norm.weight": zeros(64),
            },
            "GPTQ-4bit",
            64 * 64 + 64,
        ),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            {"q.weight": zeros(32, 1, dtype=np.uint8), "q.weight.absmax": zeros(4)},
            "BITSANDBYTES-4bit",
            64,
        ),
        (
            {"quantization": {"group_size": 64, "bits": 4}},
            {
                "q.weight": zeros(4, 8, dtype=np.uint32),
                "q.scales": zeros(4, 1),
                "q.biases": zeros(4, 1),
            },
            "MLX-4bit",
            256,
        ),
        (
            {"quantization_config": {"quant_method": "mxfp4"}},
            {
                "experts.down_proj_blocks": zeros(4, 16, dtype=np.uint8),
                "experts.down_proj_scales": zeros(4, dtype=np.uint8),
            },
            "MXFP4",
            128,
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
                }
            },
            {"q.weight_packed": zeros(4, 8, dtype=np.int32), "q.weight_scale": zeros(4)},
            "W4A16",
            256,
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            {"q.weight": zeros(8, 8, dtype=np.uint8)},
            "FP8",
            64,
        ),
    ],
)
def test_quantized_weights_are_counted_as_the_parameters_that_they_hold(
    tmp_path: Path, config: object, tensors: dict[str, Any], quantization: str, parameters: int
) -> None:
    model = only(make(tmp_path / "m", tensors, config)).model
    assert (model.quantization, model.parameter_count) == (quantization, parameters)


def test_the_type_is_told_by_the_configuration(tmp_path: Path) -> None:
    def type_of(config: object) -> str | None:
        return only(make(tmp_path / "m", {"a": zeros(2)}, config)).model.type

    assert type_of({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}) == "model"
    assert type_of({"model_type": "bert", "architectures": ["BertModel"]}) == "embedding"
    ranks = {"architectures": ["XLMRobertaForSequenceClassification"]}
    assert type_of({**ranks, "id2label": {"0": "LABEL_0"}}) == "reranker"
    assert type_of({**ranks, "id2label": {"0": "NO", "1": "YES"}}) == "classifier"
    assert type_of({**ranks, "num_labels": 1}) == "reranker"
    assert type_of(ranks) == "classifier"  # transformers writes no labels where there are two
    assert type_of({"architectures": ["LlamaForCausalLMEagle3"]}) == "draft"
    assert type_of({"architectures": ["Qwen3ForCausalLM"], "speculators_config": {}}) == "draft"
    assert type_of({"_class_name": "AutoencoderKL"}) == "vae"
    assert type_of({"_class_name": "FluxTransformer2DModel"}) == "diffusion"
    assert type_of({"model_type": "qwen3", "architectures": ["Qwen3Model"]}) == "model"
    (tmp_path / "m" / "modules.json").write_text("[]")  # of sentence-transformers
    assert type_of({"model_type": "qwen3", "architectures": ["Qwen3Model"]}) == "embedding"


def test_an_adapter_is_known_by_its_configuration_or_its_tensors(tmp_path: Path) -> None:
    lora = {"base.q_proj.lora_A.weight": zeros(2, 4)}
    folder = make(tmp_path / "m", lora, None, "adapter_model")
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    found = only(folder)
    assert (found.model.name, found.model.type) == ("m", "adapter")
    assert facts(found)["base_model_name_or_path"] == "org/base"
    assert [file.role for file in found.files] == ["model", "config"]
    alone = make(tmp_path / "k", {"lora_unet_down.lora_down.weight": zeros(2)}, None, "style")
    assert (only(alone).model.name, only(alone).model.type) == ("style", "adapter")


def test_a_part_of_a_pipeline_carries_the_name_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    config = {"_class_name": "UNet2DConditionModel"}
    make(tmp_path / "sd" / "unet", {"a": zeros(2)}, config, "diffusion_pytorch_model")
    model = only(tmp_path / "sd").model
    assert (model.name, model.architecture) == ("sd/unet", "UNet2DConditionModel")


@pytest.mark.parametrize(
    "content", [b"not JSON", b"[1]", b'{"a":' * 5000, b"\xff\xfe", b'{"x":"' + b"x" * (1 << 20)]
)
def test_a_configuration_that_cannot_be_read_is_a_fault_and_no_more(
    tmp_path: Path, content: bytes
) -> None:
    folder = make(tmp_path / "m", {"a": zeros(2)})
    (folder / "config.json").write_bytes(content)
    found = only(folder)
    assert (found.model.status, found.model.parameter_count) == ("available", 2)
    assert facts(found)["faults"] == ["config.json cannot be read as JSON"]


@pytest.mark.parametrize("depth", [100, 400, 900, 980, 990, 3000])
@pytest.mark.parametrize("core", ["1", "1e999", '"\\ud800"'])
def test_a_configuration_nested_to_the_limit_is_no_error(
    tmp_path: Path, depth: int, core: str
) -> None:
    folder = make(tmp_path / "m", {"a": zeros(2)})
    nested = '{"a":' * depth + core + "}" * depth
    content = f'{{"model_type":"x","rope_scaling":{nested},"quantization_config":{nested}}}'
    (folder / "config.json").write_text(content)
    assert only(folder).model.status == "available"


def test_lies_in_a_configuration_are_unknown(tmp_path: Path) -> None:
    config = {
        "model_type": "\ud800" + "x" * 20,
        "hidden_size": "4096",
        "num_hidden_layers": -3,
        "max_position_embeddings": 1 << 70,
        "vocab_size": True,
        "num_attention_heads": [[1]],
        "text_config": [],
        "architectures": [{}],
        "rope_theta": 1e999,
    }
    found = only(make(tmp_path / "m", {"a": zeros(2)}, config))
    model = found.model
    assert model.architecture == "?" + "x" * 20
    unknown = {"embedding_length", "block_count", "context_length", "vocab_size", "head_count"}
    assert {name for name in unknown if getattr(model, name) is not None} == set()
    assert facts(found)["rope_theta"] is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=4,
)
_keys = st.sampled_from(
    [
        "model_type",
        "architectures",
        "hidden_size",
        "vocab_size",
        "text_config",
        "license",
        "bits",
        "rope_theta",
        "quantization_config",
        "quantization",
        "quant_method",
        "group_size",
        "_class_name",
    ]
)
_config = st.dictionaries(_keys, _json | st.dictionaries(_keys, _json))


@settings(quick, max_examples=100)
@given(config=_config)
def test_whatever_the_configuration_says_a_record_fits_its_columns(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    tensors = {"a.weight": zeros(4, dtype=np.uint8)}
    model = only(make(tmp_path / "m", tensors, config)).model
    for name in INTEGER_COLUMNS:
        value = getattr(model, name)
        assert value is None or (type(value) is int and 0 < value < 1 << 63), name
    for name in ("architecture", "type", "quantization", "license", "parameters"):
        value = getattr(model, name)
        assert value is None or (isinstance(value, str) and value and value.encode()), name


def test_loose_files_are_models_of_their_own(tmp_path: Path) -> None:
    for name in ("sdxl_base", "flux_dev"):
        make(tmp_path, {"a": zeros(2)}, None, name)
    found = [item for item in items(tmp_path) if isinstance(item, Found)]
    assert [item.model.name for item in found] == ["flux_dev", "sdxl_base"]


def test_files_beside_the_shards_that_the_index_names_are_there(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_next"}
    for number in (1, 2):
        make(tmp_path, {f"a{number}": zeros(3)}, config, f"model-0000{number}-of-00002")
    make(tmp_path, {"mtp.fc": zeros(2)}, None, "mtp")
    make(tmp_path, {"other": zeros(1)}, None, "vision")  # in the index, but by no rule of names
    names = [*(f"model-0000{n}-of-00002" for n in (1, 2)), "mtp", "vision"]
    weights = {name: f"{name}.safetensors" for name in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    one, other = (item.model for item in items(tmp_path) if isinstance(item, Found))
    assert (one.status, one.parameter_count) == ("available", 8)
    assert other.name == "vision"
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    one, other = (item.model for item in items(tmp_path) if isinstance(item, Found))
    assert (one.status, one.parameter_count) == ("incomplete", None)


def test_the_card_beside_a_model_names_its_licence(tmp_path: Path) -> None:
    make(tmp_path, {"a": zeros(2)}, {"model_type": "llama"})
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert only(tmp_path).model.license == "apache-2.0"
    (tmp_path / "config.json").unlink()
    assert only(tmp_path).model.license is None  # that README may speak of anything


def test_layers_in_directories_of_their_own_are_parts_of_the_model(tmp_path: Path) -> None:
    make(tmp_path / "m", {"a": zeros(2)}, {"model_type": "bert"})
    (tmp_path / "m" / "modules.json").write_text("[]")
    make(tmp_path / "m" / "2_Dense", {"linear.weight": zeros(3)}, {"in_features": 3})
    model = only(tmp_path / "m")
    assert (model.model.name, model.model.type) == ("m", "embedding")
    assert (model.model.parameter_count, model.model.block_count) == (5, None)
    (tmp_path / "m" / "modules.json").unlink()
    assert len(items(tmp_path / "m")) == 2  # two models of somebody's


def test_mistral_s_two_formats_of_one_model_have_two_names(tmp_path: Path) -> None:
    folder = tmp_path / "Small-24B"
    for name in ("model", "consolidated"):
        make(folder, {"a": zeros(2)}, {"model_type": "mistral3"}, name)
    names = {item.model.name for item in items(folder) if isinstance(item, Found)}
    assert names == {"Small-24B", "Small-24B/consolidated"}
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    told = {"dim": 5120, "n_kv_heads": 8, "hidden_dim": 14336, "vision_encoder": {}}
    (folder / "params.json").write_text(json.dumps(told))
    model = only(folder).model
    assert (model.name, model.capabilities) == ("Small-24B", ("vision",))
    assert (model.embedding_length, model.head_count_kv) == (5120, 8)
    assert model.feed_forward_length == 14336


def test_a_file_alone_is_the_model_that_it_belongs_to(tmp_path: Path) -> None:
    shard = next(MISTRAL.glob("model-00002*"))
    (item,) = directory.SOURCES["safetensors"].read(Target(str(shard)), CONTEXT)
    assert isinstance(item, Found)
    assert item.model == only(MISTRAL).model
    blob = tmp_path / "blob"
    shutil.copy(shard, blob)
    (item,) = directory.SOURCES["safetensors"].read(Target(str(blob)), CONTEXT)
    assert isinstance(item, Found)
    assert item.model.parameter_count == 32 * 32 + 32
    with pytest.raises(SourceError, match="cannot be read"):
        list(directory.SOURCES["safetensors"].read(Target(str(tmp_path / "none")), CONTEXT))


def test_only_safetensors_are_taken_where_that_is_asked() -> None:
    found = list(directory.SOURCES["safetensors"].read(Target(str(TINY)), CONTEXT))
    assert [item.model.name for item in found if isinstance(item, Found)] == ["tiny-mistral"]


def test_the_bits_of_every_dtype_are_the_official_ones(tmp_path: Path) -> None:
    """The official reader refuses a file whose offsets disagree with its dtype's size."""
    for dtype, bits in DTYPE_BITS.items():
        size = 8 * bits // 8
        entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}
        path = hostile.write(tmp_path / "x.safetensors", packed({"a": entry}, size))
        with safe_open(path, framework="numpy") as official:
            assert list(official.keys()) == ["a"]
        assert read_safetensors_header(str(path)).elements == {(dtype, "a"): 8}
