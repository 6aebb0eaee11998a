from __future__ import annotations

import errno
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.found import Found, KnownFile, Place, Skipped
from modelstore.locator import model_id
from modelstore.model import INTEGER_COLUMNS
from modelstore.sources.base import Context, Unchanged
from modelstore.sources.files.gguf_model import describe_gguf
from modelstore.sources.files.local_files import LocalFile, Origin, local_file
from modelstore.sources.files.quantization import FILE_TYPES, GGML_TYPES, quantization_name
from tests.sources.files import hostile
from tests.sources.files.oracle import TINY

CONTEXT = Context(host="box", now="2026-11-22T20:00:00Z")
SHARDS = sorted((TINY / "tiny-qwen3").glob("*.gguf"))


def shard(path: Path) -> LocalFile:
    return local_file(str(path), "shard")


def describe(*files: LocalFile | Path, origin: Origin | None = None) -> Found:
    """Describe files that are a model."""
    made = [local_file(str(file)) if isinstance(file, Path) else file for file in files]
    found = describe_gguf(made, origin or Origin(), CONTEXT)
    assert isinstance(found, Found), found
    return found


def facts(found: Found) -> dict[str, Any]:
    loaded = json.loads(found.model.parameters or "{}")
    assert isinstance(loaded, dict)
    return loaded


def small(path: Path, *parts: bytes, tensors: int = 0, data: int = 0) -> Path:
    return hostile.write(path, hostile.gguf(*parts, tensors=tensors) + bytes(data))


def number(name: str, value: int) -> bytes:
    return hostile.key(name, hostile.U32, struct.pack("<I", value))


def words(name: str, value: str) -> bytes:
    return hostile.key(name, hostile.STRING, hostile.text(value))


def test_every_column_of_a_model_in_one_file() -> None:
    path = TINY / "tiny-llama" / "Tiny-Llama-7K-Instruct-Q8_0.gguf"
    found = describe(path)
    model = found.model
    assert model.name == "Tiny-Llama-7K-Instruct-Q8_0"
    assert model.locator == f"file://box{path}"
    assert model.id == model_id(model.locator)
    assert (model.source, model.host, model.path) == ("gguf", "box", str(path))
    assert (model.architecture, model.type, model.status) == ("llama", "model", "available")
    assert (model.parameter_count, model.size_label) == (7264, "7K")
    assert (model.quantization, model.file_type) == ("Q8_0", 7)
    assert (model.context_length, model.embedding_length, model.block_count) == (4096, 32, 2)
    assert (model.head_count, model.head_count_kv) == (4, 2)
    assert (model.feed_forward_length, model.vocab_size) == (128, 64)
    assert (model.file_size, model.license) == (path.stat().st_size, "mit")
    assert model.tags == ()
    assert model.created_at == model.updated_at == CONTEXT.now
    told = facts(found)
    assert told["general.name"] == "Tiny Llama 7K Instruct"
    assert told["general.tags"] == ["tiny", "text-generation"]
    assert told["llama.attention.layer_norm_rms_epsilon"] == 1e-06
    assert "tokenizer.ggml.tokens" not in told
    assert "llama.context_length" not in told
    st = path.stat()
    (file,) = found.files
    assert (file.path, file.role, file.size) == (str(path), "model", st.st_size)
    assert (file.mtime_ns, file.device, file.inode) == (st.st_mtime_ns, st.st_dev, st.st_ino)


def test_shards_are_one_model_with_the_sizes_and_parameters_of_all() -> None:
    found = describe(*(shard(path) for path in reversed(SHARDS)))
    model = found.model
    assert model.name == "Tiny-Qwen3-7K-F16"
    assert model.locator == f"file://box{SHARDS[0]}"
    assert (model.status, model.architecture, model.context_length) == ("available", "qwen3", 32768)
    assert model.file_size == sum(path.stat().st_size for path in SHARDS)
    tensors = [tensor for path in SHARDS for tensor in gguf.GGUFReader(path).tensors]
    assert model.parameter_count == sum(int(tensor.n_elements) for tensor in tensors)
    assert facts(found)["tensor_count"] == len(tensors)
    assert not any(key.startswith("split.") for key in facts(found))


def test_a_missing_shard_is_named_and_its_parameters_are_unknown() -> None:
    found = describe(shard(SHARDS[0]), shard(SHARDS[2]))
    assert (found.model.status, found.model.architecture) == ("incomplete", "qwen3")
    assert found.model.parameter_count is None
    assert facts(found)["faults"] == ["1 of 3 shards are missing: 2"]


def test_without_its_first_shard_a_model_keeps_the_locator_of_the_whole() -> None:
    found = describe(shard(SHARDS[1]), shard(SHARDS[2]))
    assert found.model.status == "incomplete"
    assert found.model.locator == f"file://box{SHARDS[0]}"
    assert found.model.architecture is None


def test_a_shard_without_a_shard_name_is_known_by_its_metadata(tmp_path: Path) -> None:
    alone = tmp_path / "renamed.gguf"
    shutil.copy(SHARDS[0], alone)
    found = describe(alone)
    assert found.model.status == "incomplete"
    assert facts(found)["faults"] == ["2 of 3 shards are missing: 2, 3"]
    others = []
    for count, path in enumerate(SHARDS):
        others.append(tmp_path / f"blob{count}")
        shutil.copy(path, others[-1])
    assert describe(*(shard(path) for path in others)).model.status == "available"


def test_a_shard_that_cannot_be_read_leaves_the_model_incomplete(tmp_path: Path) -> None:
    for path in SHARDS:
        shutil.copy(path, tmp_path / path.name)
    bad = hostile.write(tmp_path / SHARDS[1].name, b"<html>404")
    found = describe(*(shard(tmp_path / path.name) for path in SHARDS))
    assert (found.model.status, found.model.parameter_count) == ("incomplete", None)
    (fault,) = facts(found)["faults"]
    assert fault.startswith(f"{bad.name}: is not a GGUF file: it is a web page")


def test_many_faults_are_told_in_part(tmp_path: Path) -> None:
    files = [tmp_path / f"x-{number:05}-of-00300.gguf" for number in range(1, 301)]
    for path in files:
        path.touch()
    hostile.write(files[0], hostile.gguf(hostile.ARCHITECTURE))
    found = describe(*(shard(path) for path in files))
    assert found.model.status == "incomplete"
    assert len(facts(found)["faults"]) == 20


def test_weights_that_cannot_be_read_are_skipped_with_the_reason(tmp_path: Path) -> None:
    path = hostile.write(tmp_path / "bad.gguf", b"GGUF\1\0\0\0" + bytes(16))
    skipped = describe_gguf([local_file(str(path))], Origin(), CONTEXT)
    reason = "is of GGUF version 1, of August 2023; convert it to version 3"
    assert skipped == Skipped(str(path), reason)
    seen = local_file(str(path))
    path.unlink()
    assert describe_gguf([seen], Origin(), CONTEXT) == Skipped(str(path), os.strerror(errno.ENOENT))


def test_a_truncated_file_is_a_model_with_that_status(tmp_path: Path) -> None:
    content = (TINY / "tiny-bert-embed-F32.gguf").read_bytes()
    path = hostile.write(tmp_path / "cut.gguf", content[:-1])
    found = describe(path)
    assert (found.model.status, found.model.parameter_count) == ("truncated", 2048)
    assert facts(found)["faults"] == [
        f"cut.gguf ends at {len(content) - 1} of {len(content)} bytes"
    ]


@pytest.mark.parametrize("name", ["x-Q8_0.gguf.part", "downloading_x-Q8_0.gguf.part"])
def test_an_unfinished_download_is_incomplete_under_its_final_name(
    tmp_path: Path, name: str
) -> None:
    content = (TINY / "tiny-llama" / "Tiny-Llama-7K-Instruct-Q8_0.gguf").read_bytes()
    path = hostile.write(tmp_path / name, content[:-100])
    model = describe(path).model
    assert (model.status, model.architecture, model.parameter_count) == (
        "incomplete",
        "llama",
        7264,
    )
    assert model.locator == f"file://box{tmp_path}/x-Q8_0.gguf"
    assert (model.name, model.path) == ("x-Q8_0", str(path))
    begun = describe(hostile.write(path, content[:100]))
    assert (begun.model.status, begun.model.quantization) == ("incomplete", "Q8_0")
    (tmp_path / "x-Q8_0.gguf").touch()
    assert describe(path).model.locator == f"file://box{path}"


def test_pieces_of_a_cut_up_file_are_one_incomplete_model(tmp_path: Path) -> None:
    content = (TINY / "tiny-llama" / "Tiny-Llama-7K-Instruct-Q8_0.gguf").read_bytes()
    one = hostile.write(tmp_path / "x.gguf.part1of2", content[:6000])
    two = hostile.write(tmp_path / "x.gguf.part2of2", content[6000:])
    found = describe(shard(two), shard(one))
    assert (found.model.status, found.model.name) == ("incomplete", "x")
    assert (found.model.file_size, found.model.parameter_count) == (len(content), 7264)
    assert facts(found)["faults"] == ["the file is cut into pieces, which must be joined into one"]


def test_sidecars_are_checked_but_not_counted(tmp_path: Path) -> None:
    main = TINY / "tiny-gemma3" / "tiny-gemma-3-it-Q4_0.gguf"
    side = TINY / "tiny-gemma3" / "mmproj-tiny-gemma-3-it-F16.gguf"
    found = describe(main, local_file(str(side), "projector"))
    assert [file.role for file in found.files] == ["model", "projector"]
    assert found.model.file_size == main.stat().st_size
    assert found.model.status == "available"
    cut = hostile.write(tmp_path / "mmproj.gguf", side.read_bytes()[:-9])
    assert describe(main, local_file(str(cut), "projector")).model.status == "truncated"
    bad = hostile.write(tmp_path / "draft.gguf", b"")
    broken = describe(main, local_file(str(bad), "draft"))
    assert broken.model.status == "incomplete"
    assert broken.model.parameter_count == found.model.parameter_count
    assert facts(broken)["faults"] == ["draft.gguf: is empty"]


def test_numbers_that_differ_by_layer_are_the_greatest_and_the_whole_is_kept() -> None:
    found = describe(TINY / "tiny-hybrid-BF16-big-endian.gguf")
    assert (found.model.head_count_kv, found.model.feed_forward_length) == (4, 512)
    assert facts(found)["lfm2.attention.head_count_kv"] == [0, 0, 4, 0]
    assert facts(found)["lfm2.feed_forward_length"] == [256, 256, 512, 256]
    assert facts(found)["big_endian"] is True
    assert found.model.quantization == "BF16"  # by its tensors: it says none


def test_numbers_that_agree_in_all_layers_are_one_number(tmp_path: Path) -> None:
    heads = hostile.array(hostile.U32, 3, struct.pack("<3I", 8, 8, 8))
    key = hostile.key("llama.attention.head_count_kv", hostile.ARRAY, heads)
    found = describe(small(tmp_path / "x.gguf", hostile.ARCHITECTURE, key))
    assert found.model.head_count_kv == 8
    assert found.model.parameters == '{"tensor_count":0}'


def test_key_value_heads_are_the_heads_where_nothing_else_is_said(tmp_path: Path) -> None:
    heads = number("llama.attention.head_count", 12)
    assert (
        describe(small(tmp_path / "x.gguf", hostile.ARCHITECTURE, heads)).model.head_count_kv == 12
    )


def labels(*values: str) -> bytes:
    raw = b"".join(hostile.text(value) for value in values)
    array = hostile.array(hostile.STRING, len(values), raw)
    return hostile.key("llama.classifier.output_labels", hostile.ARRAY, array)


def test_unknown_is_none_and_never_zero(tmp_path: Path) -> None:
    zeros = [number(f"llama.{key}", 0) for key in ("context_length", "block_count", "vocab_size")]
    huge = hostile.key("llama.embedding_length", hostile.U64, struct.pack("<Q", (1 << 64) - 1))
    empty = words("general.license", "")
    model = describe(small(tmp_path / "x.gguf", hostile.ARCHITECTURE, *zeros, huge, empty)).model
    unknown = {"context_length", "block_count", "vocab_size", "embedding_length", "license"}
    unknown |= {"parameter_count", "quantization", "file_type", "size_label", "sha256"}
    assert {name for name in unknown if getattr(model, name) is not None} == set()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((words("general.type", "imatrix"),), "imatrix"),
        ((words("general.type", "mmproj"),), "projector"),
        ((words("general.architecture", "clip"),), "projector"),
        ((words("general.type", "adapter"), hostile.ARCHITECTURE), "adapter"),
        ((words("adapter.type", "lora"), hostile.ARCHITECTURE), "adapter"),
        ((hostile.ARCHITECTURE, words("tokenizer.ggml.model", "gpt2")), "vocab"),
        ((hostile.ARCHITECTURE, number("llama.pooling_type", 4)), "reranker"),
        ((hostile.ARCHITECTURE, number("llama.pooling_type", 3)), "embedding"),
        ((hostile.ARCHITECTURE, number("llama.pooling_type", 0)), "model"),
        ((words("general.architecture", "bert"),), "embedding"),
        ((words("general.architecture", "eagle3"),), "draft"),
        ((words("general.architecture", "dflash"),), "draft"),
        ((words("general.architecture", "gemma4-assistant"),), "draft"),
        ((words("general.architecture", "qwen3next_mtp"),), "draft"),
        ((words("general.architecture", "flux"),), "diffusion"),
        ((words("general.architecture", "wavtokenizer-dec"),), "vocoder"),
        ((words("general.architecture", "controlvector"),), "adapter"),
        (
            (hostile.ARCHITECTURE, number("llama.pooling_type", 4), labels("bad", "good")),
            "classifier",
        ),
        ((hostile.ARCHITECTURE, number("llama.pooling_type", 4), labels("yes", "no")), "reranker"),
        ((hostile.ARCHITECTURE,), "model"),
        ((), None),
    ],
)
def test_the_type_is_told_by_the_metadata(
    tmp_path: Path, parts: tuple[bytes, ...], expected: str | None
) -> None:
    assert describe(small(tmp_path / "x.gguf", *parts)).model.type == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("mtp-x", "draft"), ("x-draft-Q4_0", "draft"), ("mmproj-x", "model")]
)
def test_a_name_tells_the_type_where_a_header_cannot(
    tmp_path: Path, name: str, expected: str
) -> None:
    path = small(tmp_path / f"{name}.gguf", hostile.ARCHITECTURE)
    assert describe(path).model.type == expected


def test_the_quantization_tables_are_those_of_the_official_package() -> None:
    sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {number: GGML_TYPES[number] for number in sizes} == sizes
    official = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind != gguf.LlamaFileType.GUESSED
    }
    assert {number: FILE_TYPES[number] for number in official} == official


@pytest.mark.parametrize(
    ("file_type", "types", "label", "expected"),
    [
        (4, {4: 9, 30: 1}, None, "MXFP4"),  # Ollama's numbers
        (4, {3: 9, 1: 1}, None, "Q4_1_F16"),  # llama.cpp's of old
        (41, {42: 9}, None, "Q2_0"),
        (41, {41: 9}, None, "Q1_0"),  # ik_llama.cpp's number for it
        (139, {138: 9}, None, "IQ3_K"),
        (15, {12: 9, 14: 1}, "UD-Q4_K_XL", "UD-Q4_K_XL"),
        (10, {10: 9, 8: 1}, "Q2_K_L", "Q2_K_L"),
        (14, {22: 9, 12: 1}, "IQ2_M", "IQ2_M"),  # the header contradicts the tensors
        (15, {12: 9}, "Q8_0", "Q4_K_M"),  # the label does
        (15, {12: 9}, "UD-Q8_K_XL", "Q4_K_M"),
        (15, {12: 9}, "Q4_K_S", "Q4_K_M"),
        (None, {12: 9}, "Q4_K_M", "Q4_K_M"),
        (None, {12: 9}, "Q8_0", "Q4_K"),
        (None, {}, "Q8_0", "Q8_0"),
        (None, {77: 1}, None, None),
    ],
)
def test_a_name_refines_the_header_and_never_contradicts_the_tensors(
    file_type: int | None, types: dict[int, int], label: str | None, expected: str | None
) -> None:
    assert quantization_name(file_type, types, label) == expected


@pytest.mark.parametrize(
    ("file_type", "tensor_type", "expected"),
    [
        (15, 0, "Q4_K_M"),
        (15 + 1024, 0, "Q4_K_M"),
        (999, 1, "F16"),
        (None, 8, "Q8_0"),
        (None, 77, None),
    ],
)
def test_the_quantization_is_what_the_file_says_else_its_commonest_tensor(
    tmp_path: Path, file_type: int | None, tensor_type: int, expected: str | None
) -> None:
    parts = [hostile.ARCHITECTURE]
    if file_type is not None:
        parts.append(number("general.file_type", file_type))
    parts += [hostile.tensor("norm", (4,)), hostile.tensor("q", (64, 4), tensor_type)]
    model = describe(small(tmp_path / "x.gguf", *parts, tensors=2, data=4096)).model
    assert (model.quantization, model.file_type) == (expected, file_type)


def test_the_parameters_are_bounded_and_keep_a_template_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    file = gguf.GGUFWriter(str(path), "llama")
    file.add_chat_template("{{ x }}" * 20_000)
    for count in range(100):
        file.add_string(f"general.note.{count}", "é" * 3000)
    file.add_float32("llama.nan", float("nan"))
    file.add_array("llama.infinities", [float("inf"), 1.5])
    file.add_string("general.first", "kept")
    file.add_tensor("t", np.zeros(32, dtype=np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    found = describe(path)
    told = facts(found)
    assert told.pop("tokenizer.chat_template") == "{{ x }}" * 20_000
    assert len(json.dumps(told, ensure_ascii=False)) <= 66 << 10
    assert told["general.note.0"] == "é" * 3000
    assert told["general.first"] == "kept"
    assert told["llama.infinities"] == [None, 1.5]


def test_what_the_place_knows_goes_with_the_model(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("a" * 64)
    blob.parent.mkdir()
    shutil.copy(TINY / "tiny-bert-embed-F32.gguf", blob)
    link = tmp_path / "nice-name-F32.gguf"
    link.symlink_to(blob)
    place = Place("/hub", "org/repo", "huggingface", "org/repo")
    origin = Origin(
        source="huggingface", name="org/repo", place=place, source_id="abc", license="mit",
        extra={"revision": "main"},
    )  # fmt: skip
    found = describe(local_file(str(link), sha256="f" * 64), origin=origin)
    model = found.model
    assert (model.source, model.name, model.source_id) == ("huggingface", "org/repo", "abc")
    assert (model.license, model.sha256) == ("mit", "f" * 64)
    assert model.path == str(link)  # the blob's name tells nobody anything
    assert model.locator == f"file://box{blob}"
    assert (found.files[0].path, found.files[0].sha256) == (str(blob), "f" * 64)
    assert facts(found)["revision"] == "main"
    assert found.place == place
    assert describe(link).model.name == "nice-name-F32"


def test_a_link_to_a_model_with_a_name_is_that_model(tmp_path: Path) -> None:
    real = TINY / "tiny-bert-embed-F32.gguf"
    link = tmp_path / "latest.gguf"
    link.symlink_to(real)
    assert describe(link).model == describe(real).model


def test_only_what_is_unchanged_in_all_its_files_is_left_unread() -> None:
    files = [shard(path) for path in SHARDS]
    known = {
        file.real: KnownFile(file.size, file.mtime_ns, "file://box/x", model_file_count=3)
        for file in files
    }

    def outcome(known: dict[str, KnownFile], files: list[LocalFile]) -> type:
        context = Context(host="box", now=CONTEXT.now, known=known)
        return type(describe_gguf(files, Origin(), context))

    def changed(**differences: Any) -> dict[str, KnownFile]:
        fields = {"size": files[1].size, "mtime_ns": files[1].mtime_ns, "locator": "file://box/x"}
        made = KnownFile(**{**fields, "model_file_count": 3, **differences})
        return {**known, files[1].real: made}

    context = Context(host="box", now=CONTEXT.now, known=known)
    place = Place("/r", "/r/x", "gguf", "x")
    found = describe_gguf(files, Origin(place=place), context)
    assert found == Unchanged("file://box/x", place)
    assert outcome(known, files[:2]) is Found
    assert outcome({files[0].real: known[files[0].real]}, files) is Found
    assert outcome(changed(size=1), files) is Found
    assert outcome(changed(mtime_ns=1), files) is Found
    # A shard may serve two revisions: the first one tells which model it is.
    assert outcome(changed(locator="file://box/y"), files) is Unchanged
    assert outcome(changed(model_file_count=4), files[:2]) is Found


def test_a_time_out_of_all_calendars_is_unknown(tmp_path: Path) -> None:
    path = small(tmp_path / "x.gguf", hostile.ARCHITECTURE)
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert describe(path).model.modified_at == "2023-11-14T22:13:20Z"
    os.utime(path, ns=(0, -5_000_000_000))
    assert describe(path).model.modified_at is None


_KEYS = [
    "adapter.type",
    "general.architecture",
    "general.file_type",
    "general.license",
    "general.size_label",
    "general.type",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.block_count",
    "llama.context_length",
    "llama.pooling_type",
    "llama.vocab_size",
    "split.count",
    "split.no",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
]
_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
_TEXT = st.binary(max_size=300) | st.sampled_from([b"llama", b"clip", b"mmproj"])
_VALUES = st.one_of(
    _INT64.map(lambda value: (hostile.I64, struct.pack("<q", value))),
    st.integers(0, (1 << 64) - 1).map(lambda value: (hostile.U64, struct.pack("<Q", value))),
    st.floats().map(lambda value: (hostile.F64, struct.pack("<d", value))),
    st.booleans().map(lambda value: (hostile.BOOL, struct.pack("<?", value))),
    _TEXT.map(lambda value: (hostile.STRING, hostile.text(value))),
    st.lists(_INT64, max_size=4).map(
        lambda values: (
            hostile.ARRAY,
            hostile.array(hostile.I64, len(values), struct.pack(f"<{len(values)}q", *values)),
        )
    ),
    st.lists(_TEXT, max_size=4).map(
        lambda values: (
            hostile.ARRAY,
            hostile.array(hostile.STRING, len(values), b"".join(map(hostile.text, values))),
        )
    ),
)


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(metadata=st.dictionaries(st.sampled_from(_KEYS), _VALUES))
def test_whatever_the_metadata_say_a_record_fits_its_columns(
    tmp_path: Path, metadata: dict[str, tuple[int, bytes]]
) -> None:
    parts = [hostile.key(name, kind, raw) for name, (kind, raw) in metadata.items()]
    model = describe(small(tmp_path / "x.gguf", *parts)).model
    for name in INTEGER_COLUMNS:
        value = getattr(model, name)
        assert value is None or (type(value) is int and 0 <= value < 1 << 63), name
    for name in ("architecture", "type", "size_label", "quantization", "license", "parameters"):
        value = getattr(model, name)
        assert value is None or (isinstance(value, str) and value and value.encode()), name
    assert model.status in ("available", "incomplete")


def test_the_layers_that_guess_further_tokens_are_counted_apart(tmp_path: Path) -> None:
    def write(path: Path, *layers: int, **numbers: int) -> Path:
        writer = gguf.GGUFWriter(str(path), "glm4moe")
        for key, value in numbers.items():
            writer.add_uint32(key.replace("__", "."), value)
        for layer in layers:
            writer.add_tensor(f"blk.{layer}.attn_q.weight", np.zeros((2, 8), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    told = {"glm4moe__block_count": 12, "glm4moe__nextn_predict_layers": 2}
    whole = write(tmp_path / "whole.gguf", *range(12), **told)
    assert facts(describe(whole))["nextn_bytes"] == 2 * 64
    assert facts(describe(whole))["tensor_bytes"] == 12 * 64
    first = write(tmp_path / "m-00001-of-00002.gguf", *range(6), **told, split__count=2)
    second = write(tmp_path / "m-00002-of-00002.gguf", *range(6, 12), split__no=1, split__count=2)
    assert facts(describe(shard(first), shard(second)))["nextn_bytes"] == 2 * 64
    plain = write(tmp_path / "plain.gguf", 0, 1, glm4moe__block_count=2)
    assert "nextn_bytes" not in facts(describe(plain))
