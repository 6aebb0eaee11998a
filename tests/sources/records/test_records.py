from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.errors import SourceError
from modelstore.locator import file_locator, model_id
from modelstore.model import INTEGER_COLUMNS, MODEL_COLUMNS
from modelstore.sources import text_input
from modelstore.sources.base import Rows, Target
from modelstore.sources.records.fields import BadRecordError
from modelstore.sources.records.json_records import (
    Document,
    MalformedError,
    read_document,
    read_lines,
)
from modelstore.sources.records.reader import RecordReader
from tests.sources.reading import (
    Fields,
    faults,
    models,
    notes,
    only,
    parameters,
    read_bytes,
    stream,
)
from tests.sources.stores.making import context

if TYPE_CHECKING:
    from pathlib import Path

TYPICAL: Fields = {
    "name": "Llama-3-8B",
    "path": "/no/models/llama.gguf",
    "architecture": "llama",
    "parameter_count": 8030261248,
    "quantization": "Q4_K_M",
    "context_length": 131072,
    "file_size": 4920734176,
    "tags": ["b", "a", "b"],
}


def one(record: object) -> Fields:
    return only(read_bytes("jsonl", json.dumps(record) + "\n"))


# --- what a record becomes


def test_a_typical_record_fills_its_columns_and_leaves_the_rest_unknown() -> None:
    model = one(TYPICAL)
    locator = file_locator("box", "/no/models/llama.gguf")
    expected = dict.fromkeys(MODEL_COLUMNS) | TYPICAL
    expected |= {
        "id": model_id(locator),
        "locator": locator,
        "source": "jsonl",
        "status": "available",
        "host": "box",
        "tags": '["a","b"]',
    }
    assert model == expected


@pytest.mark.parametrize(
    ("field", "value", "column", "expected"),
    [
        ("model_name", "x", "name", "x"),
        ("size", 7, "file_size", 7),
        ("size_bytes", 7, "file_size", 7),
        ("file_size_bytes", "7", "file_size", 7),
        ("sizeBytes", 7.0, "file_size", 7),
        ("size", "4920734176 bytes", "file_size", 4920734176),
        ("params", 8, "parameter_count", 8),
        ("n_params", "8,030,261,248", "parameter_count", 8030261248),
        ("ctx_size", 4096, "context_length", 4096),
        ("context_window", 4096, "context_length", 4096),
        ("n_ctx_train", 4096, "context_length", 4096),
        ("maxContextLength", 4096, "context_length", 4096),
        ("n_embd", 64, "embedding_length", 64),
        ("quant", "Q8_0", "quantization", "Q8_0"),
        ("arch", "llama", "architecture", "llama"),
        ("Arch", "llama", "architecture", "llama"),
        ("architectures", ["LlamaForCausalLM"], "architecture", None),
        ("n_head_kv", [8, 8, 8], "head_count_kv", 8),
        ("n_head_kv", [8, 2, 0], "head_count_kv", 8),
        ("file_type", 0, "file_type", 0),
        ("ctx_size", 0, "context_length", None),
        ("ctx_size", "", "context_length", None),
        ("ctx_size", "unknown", "context_length", None),
        ("license", "", "license", None),
        ("params", "7B", "size_label", "7B"),
        ("params", "7B", "parameter_count", None),
        ("size", "4.1 GB", "file_size", None),
        ("type", "vlm", "type", "model"),
        ("type", "embeddings", "type", "embedding"),
        ("status", "missing", "status", "missing"),
        ("status", "running", "status", "available"),
        ("sha256", "SHA256:" + "AB" * 32, "sha256", "ab" * 32),
        ("sha256", "abc", "sha256", None),
        ("created", 1700000000, "created_at", "2023-11-14T22:13:20Z"),
        ("created_at", 1700000000000, "created_at", "2023-11-14T22:13:20Z"),
        ("modified", "2026-01-02T03:04:05+02:00", "modified_at", "2026-01-02T01:04:05Z"),
        ("modified", "2026-01-02", "modified_at", "2026-01-02T00:00:00Z"),
        ("modified", "yesterday", "modified_at", None),
        ("host", "other", "host", "other"),
        ("host", "no/host", "host", "box"),
        ("tags", "b, a", "tags", '["a","b"]'),
        ("tags", [], "tags", "[]"),
        ("favorite", 1, "tags", '["favorite"]'),
        ("favorite", 0, "tags", "[]"),
        ("source", "ollama", "source", "ollama"),
        ("source", "https://example.org/x", "source", "jsonl"),
        ("parameters", "7", "parameter_count", 7),
    ],
)
def test_fields_of_other_names_and_forms(
    field: str, value: object, column: str, expected: object
) -> None:
    assert one({"name": "x", field: value})[column] == expected


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ({"publisher": "p", "n": {"a": [1]}}, {"publisher": "p", "n": {"a": [1]}}),
        ({"size": "4.1 GB"}, {"size": "4.1 GB"}),
        ({"params": "7B", "size_label": "8B"}, {"params": "7B"}),
        ({"n_head_kv": [8, 2]}, {"n_head_kv": [8, 2]}),
        ({"status": "running"}, {"status": "running"}),
        ({"parameters": {"b": 1, "a": 1e-06}, "x": True}, {"b": 1, "a": 1e-06, "x": True}),
        ({"parameters": '{"b": 1}'}, {"b": 1}),
        ({"parameters": [1]}, {"parameters": [1]}),
        ({"arch": "a", "architecture": "b"}, {"arch": "a"}),
        ({"arch": "a", "architecture": "a"}, None),
        ({"nothing": None}, None),
        ({"license": ["mit"]}, {"license": ["mit"]}),
        ({"params": {"temperature": 1}}, {"params": {"temperature": 1}}),
        ({"size": "many", "layers": True}, {"size": "many", "layers": True}),
        ({"tokens": 15}, {"tokens": 15}),
        ({"hf_commit": "main"}, {"hf_revision": "main"}),
    ],
)
def test_what_is_no_column_is_kept_beside_them(record: Fields, kept: object) -> None:
    assert parameters(one({"name": "x", **record})) == kept


@pytest.mark.parametrize(
    ("record", "locator"),
    [
        ({"name": "x", "path": "/no/a.gguf"}, "file://box/no/a.gguf"),
        ({"name": "x", "path": "/no/./b/../a.gguf"}, "file://box/no/a.gguf"),
        ({"name": "x", "path": "no/such.gguf"}, "file://box/no/such.gguf"),
        ({"name": "x", "path": "~/a.gguf"}, "file://box/nowhere/a.gguf"),
        ({"name": "x", "path": "/no/a.gguf", "host": "h2"}, "file://h2/no/a.gguf"),
        ({"name": "x", "path": r"C:\models\a.gguf"}, r"file://box/C:\models\a.gguf"),
        ({"path": "/no/a.gguf", "locator": "ollama:a"}, "ollama:a"),
        ({"name": "x", "locator": "http://me:pw@host/v1#x"}, "http://host/v1#x"),
        ({"name": "x", "locator": "no scheme"}, "name:x"),
        ({"name": "x", "locator": "a:\x1b[31m"}, "name:x"),
        ({"hf_repo": "org/repo"}, "hf:org/repo"),
        ({"repo_id": "org/repo", "revision": "abc"}, "hf:org/repo@abc"),
        ({"hf_repo": "org/repo", "hf_file": "a.gguf"}, "hf:org/repo:a.gguf"),
        ({"name": "x", "hf_repo": "not a repo"}, "name:x"),
        ({"id": "llama3"}, "name:llama3"),
        ({"model": "llama3"}, "name:llama3"),
        ({"model": "/no/a.gguf"}, "file://box/no/a.gguf"),
    ],
)
def test_what_a_model_is(record: Fields, locator: str) -> None:
    model = one(record)
    assert model["locator"] == locator
    assert model["id"] == model_id(locator)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"path": "/no/a b.gguf"}, "a b"),
        ({"path": "/no/dir"}, "dir"),
        ({"hf_repo": "org/repo"}, "org/repo"),
        ({"locator": "http://h:1#the-model"}, "the-model"),
        ({"name": 7}, "7"),
    ],
)
def test_a_model_without_a_name_is_given_one(record: Fields, name: str) -> None:
    assert one(record)["name"] == name


@pytest.mark.parametrize("locator", ["name:a\nb", "file://far/m/a\tb\x1b[0m", "http://h:1#a\rb"])
@pytest.mark.parametrize("host", ["box", "far"])
def test_a_locator_with_control_characters_stays_what_it_is(locator: str, host: str) -> None:
    model = one({"name": "x", "locator": locator, "host": host, "status": "available"})
    assert model["locator"] == locator
    assert model["id"] == model_id(locator)
    assert model["parameters"] is None


def test_a_locator_too_long_to_take_is_no_parameter_where_it_is_the_same() -> None:
    name = "n" * 100_000
    model = one({"name": name, "locator": f"name:{name}"})
    assert model["locator"] == f"name:{name}"
    assert model["parameters"] is None


def test_a_foreign_id_is_kept_as_where_it_came_from() -> None:
    assert one({"name": "x", "id": "row-7"})["source_id"] == "row-7"
    assert one({"name": "x", "id": model_id("name:x")})["source_id"] is None


def test_without_a_file_a_registry_model_is_remote() -> None:
    assert one({"hf_repo": "org/repo"})["status"] == "remote"
    assert one({"name": "x"})["status"] == "available"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_paths_on_this_machine_are_real_paths(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "blob").write_bytes(b"")
    (real / "a.gguf").symlink_to("blob")
    (tmp_path / "link").symlink_to(real)
    table = tmp_path / "models.csv"
    table.write_text(
        f"name,path\na,{tmp_path}/link/a.gguf\nb,link/blob\nc,{tmp_path}/link/absent.gguf\n"
    )
    source = read_bytes("csv", table.read_bytes())
    assert models(source)[0]["path"] == str(real / "blob")
    from modelstore.sources.kinds import load

    beside = models(load("csv").read(Target(str(table)), context()))
    assert [model["path"] for model in beside] == [
        str(real / "blob"),
        str(real / "blob"),
        str(real / "absent.gguf"),
    ]


# --- what is no record


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"name": "x"', "not JSON"),
        ("{'name': 'x'}", "not JSON"),
        ('{"name": "x" 7}', "at character 14"),
        ("[1]", "an array"),
        ("7", "a number"),
        ("null", "null"),
        ('"x"', "a text"),
        ('{"parameter_count": 1}', "names no model"),
        ('{"name": ["x"]}', "its name is a list"),
        ('{"name": "x", "file_size": true}', "its file_size is true"),
        ('{"name": "x", "file_size": 1.5}', "its file_size is 1.5"),
        ('{"name": "x", "file_size": -1}', "negative"),
        ('{"name": "x", "file_size": 9223372036854775808}', "64-bit"),
        ('{"name": "x", "file_size": "many"}', "its file_size is 'many'"),
        ('{"name": "x", "file_size": {"a": 1}}', "an object"),
        ('{"name": "x", "file_size": NaN}', "NaN"),
        ('{"name": "x", "n": Infinity}', "Infinity"),
        ('{"name": "x", "n": 1e999}', "not finite"),
        ('{"name": "x", "n": ' + "9" * 5000 + "}", "not JSON"),
        ('{"name": "a\\u0000b"}', "NUL"),
        ('{"name": "x", "tags": [1]}', "tags"),
        ('{"name": "x", "n": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        ('{"name": "x", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_a_bad_line_is_skipped_with_its_number_and_the_others_are_read(
    line: str, reason: str
) -> None:
    items = read_bytes("jsonl", '{"name": "before"}\n\n' + line + '\n{"name": "after"}')
    ((what, why),) = faults(items)
    assert what == "standard input line 3"
    assert reason in why
    assert len(why) < 400
    assert [model["name"] for model in models(items)] == ["before", "after"]


def test_a_line_that_is_too_long_is_skipped_in_flat_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_input, "MAX_RECORD", 1 << 20)
    long = b'{"name": "' + b"x" * (20 << 20) + b'"}'
    content = b'{"name": "a"}\n' + long + b'\n{"name": "b"}\n' + long
    tracemalloc.start()
    items = read_bytes("jsonl", content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [what for what, _ in faults(items)] == [
        "standard input line 2",
        "standard input line 4",
    ]
    assert [model["name"] for model in models(items)] == ["a", "b"]
    assert peak < 15 << 20


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_utf16_is_refused_by_name(kind: str, encoding: str) -> None:
    with pytest.raises(SourceError, match="UTF-16"):
        read_bytes(kind, '[{"name": "a"}]'.encode(encoding))


def test_bytes_that_are_no_utf8_are_kept_as_file_names_keep_them() -> None:
    model = only(read_bytes("jsonl", b'{"path": "/no/\xff.gguf"}\n'))
    escaped = only(read_bytes("jsonl", b'{"path": "/no/\\udcff.gguf"}\n'))
    document = only(read_bytes("json", b'[{"path": "/no/\xff.gguf"}]'))
    assert model["id"] == model_id("file://box/no/\udcff.gguf")
    assert {**model, "source": ""} == {**escaped, "source": ""} == {**document, "source": ""}
    str(model["path"]).encode()  # can be stored


# --- secrets

SECRETS: Fields = {
    "hf_token": "s3cret-1",
    "token": "s3cret-2",
    "apiKey": "s3cret-3",
    "OPENAI_API_KEY": "s3cret-4",
    "password": "s3cret-5",
    "Authorization": "Bearer s3cret-6",
    "note": "hf_" + "s3cret7890s3cret7890s3cret7890",
    "url": "https://me:s3cret-7@example.org/x",
    "nested": {"deep": [{"access_token": "s3cret-8"}]},
    "parameters": {"secret": "s3cret-9", "kept": 1},
    "headers": {"x": "s3cret-10"},
}


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_dropped_and_said_to_be(name: str) -> None:
    record = {"name": "x", name: SECRETS[name], "max_tokens": 5, "eos_token": "</s>"}
    items = read_bytes("jsonl", json.dumps(record))
    assert "s3cret" not in repr(items)
    kept = parameters(only(items))
    assert isinstance(kept, dict)
    assert kept["max_tokens"] == 5
    assert kept["eos_token"] == "</s>"
    assert ("left out" in notes(items)) == (name != "url")


def test_secrets_in_a_table_are_dropped() -> None:
    items = read_bytes("csv", "name,api_key\nx,s3cret\n")
    assert "s3cret" not in repr(items)
    assert "api_key" in notes(items)


def test_what_is_too_large_to_keep_is_left_out_and_said() -> None:
    items = read_bytes("jsonl", json.dumps({"name": "x", "big": "y" * 2_000_000, "small": 1}))
    assert parameters(only(items)) == {"small": 1}
    assert "too large" in notes(items)


# --- documents


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[]", []),
        (" \n[ ]\n", []),
        ("", []),
        ('[{"name": "a"}, {"name": "b"}]', ["a", "b"]),
        ('{"name": "a"}', ["a"]),
        ('{"name": "a"}\n{"name": "b"}', ["a", "b"]),
        ('{"models": [{"name": "a"}], "total": 1}', ["a"]),
        ('{"object": "list", "data": [{"id": "a"}, {"id": "b"}]}', ["a", "b"]),
        ('{"models": []}', []),
        ('{"name": "a", "data": [1, 2]}', ["a"]),
        ('\ufeff[{"name": "a"}]', ["a"]),
    ],
)
def test_the_forms_that_a_document_may_have(text: str, names: list[str]) -> None:
    items = read_bytes("json", text)
    assert faults(items) == []
    assert [model["name"] for model in models(items)] == names


@pytest.mark.parametrize(
    "text", ["hello", "[1", '[{"name": "a"', '{"a": }', "[,]", '{"a" 1}', "{1: 2}", "]", "nul"]
)
def test_what_is_no_document_at_all_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="not JSON"):
        read_bytes("json", text)


def test_a_document_that_breaks_off_gives_what_came_before() -> None:
    items = read_bytes("json", '[{"name": "a"},\n 7,\n {"name": "b"},\n {"name": "c')
    assert [model["name"] for model in models(items)] == ["a", "b"]
    first, last = faults(items)
    assert first == ("standard input line 2", "it is a number, not an object")
    assert last[0] == "standard input line 4"
    assert "middle of a record" in last[1]


def test_a_record_of_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelstore.sources.records import json_records

    monkeypatch.setattr(json_records, "MAX_RECORD", 1 << 20)
    many = "{" + ",".join(f'"k{n}": 1' for n in range(300_000)) + "}"
    huge = '[{"name": "' + "x" * (8 << 20) + '"}]'
    for text in (many, huge):
        with pytest.raises(SourceError, match="larger than"):
            read_bytes("json", text)


def test_a_long_array_is_read_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write("[")
        for number in range(60_000):
            file.write(("," if number else "") + json.dumps({**TYPICAL, "name": f"m{number}"}))
        file.write("]")
    assert path.stat().st_size > 12 << 20
    tracemalloc.start()
    count = sum(
        len(item.rows)
        for item in read_document(Target(str(path)), context())
        if isinstance(item, Rows)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 12 << 20


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.lists(JSON_VALUES, max_size=6), st.integers(1, 12), st.booleans())
def test_an_array_in_any_pieces_is_what_json_loads_makes_of_it(
    values: list[object], size: int, ascii_only: bool
) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only, indent=1)
    pieces = ((text[at : at + size], True) for at in range(0, len(text), size))
    assert list(Document(pieces).records()) == json.loads(text)


@given(st.text(alphabet='[]{},:"0a \\n', max_size=30), st.integers(1, 5))
def test_a_document_is_accepted_only_where_json_accepts_it(text: str, size: int) -> None:
    pieces = ((text[at : at + size], True) for at in range(0, len(text), size))
    try:
        found = list(Document(pieces).records())
    except MalformedError:
        return
    decoder, at, wanted = json.JSONDecoder(), 0, []
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        wanted += value if isinstance(value, list) else [value]
    assert found == wanted


# --- the quick way and the careful way

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
SHAPED = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "path": st.sampled_from(["/no/a.gguf", "/no//a", "/no/../b/", "rel", "~/x", "/"]) | NAMES,
        **{column: st.integers(0, 2**64) for column in ("file_size", "n_params", "ctx_size")},
        **{column: NAMES | st.none() for column in ("arch", "quant", "license", "publisher")},
        "tags": st.lists(NAMES | st.just(""), max_size=3),
        "locator": st.sampled_from(["name:x", "http://a@b/c", "no", "file://h/x"]),
        "id": st.sampled_from([model_id("name:x"), "other"]),
        "host": st.sampled_from(["box", "far", "no/host"]),
        "parameters": st.dictionaries(st.sampled_from(["a", "token"]), NAMES | st.integers()),
        "source_id": NAMES,
        "sha256": st.sampled_from(["ab" * 32, "AB" * 32, "x"]),
        "created_at": st.sampled_from(["2026-01-02T03:04:05Z", "2026", "x"]),
        "status": st.sampled_from(["missing", "loaded"]),
        "type": st.sampled_from(["model", "llm"]),
        "vocab_size": st.integers(-1, 9) | st.booleans() | st.floats(),
        "hf_token": st.just("s3cret"),
        "note": st.just("hf_" + "x" * 30) | st.booleans() | st.integers(),
    },
)


@settings(max_examples=300)
@given(SHAPED)
def test_both_ways_give_the_same_row(record: Fields) -> None:
    quick = RecordReader("jsonl", context(), "/").quick_row(record)
    if quick is None:
        return
    assert quick == RecordReader("jsonl", context(), "/").row(record)


def test_the_typical_record_goes_the_quick_way() -> None:
    reader = RecordReader("jsonl", context(), "/")
    assert reader.quick_row(TYPICAL) == reader.row(TYPICAL)
    assert reader.quick_row({**TYPICAL, "publisher": "x", "sha256": None}) is not None
    assert reader.quick_row({"name": "x", "locator": "name:x", "status": "remote"}) is not None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_lines(content: bytes) -> None:
    try:
        items = read_bytes("jsonl", content)
    except SourceError:
        return
    assert len(models(items)) + len(faults(items)) <= content.count(b"\n") + 1
    _assert_storable(items)


@given(st.lists(st.dictionaries(st.sampled_from([*MODEL_COLUMNS, "x"]), JSON_VALUES), max_size=5))
def test_whatever_a_record_holds_it_is_a_row_or_skipped(records: list[Fields]) -> None:
    content = "".join(json.dumps(record) + "\n" for record in records)
    items = read_bytes("jsonl", content)
    assert len(models(items)) + len(faults(items)) == len(records)
    _assert_storable(items)
    document = read_bytes("json", json.dumps(records))
    assert len(models(document)) == len(models(items))


def _assert_storable(items: object) -> None:
    """Whatever comes out binds in SQLite as it is: no lone surrogate, no integer of 65 bits."""
    assert isinstance(items, list)
    for model in models(items):
        for column, value in model.items():
            if isinstance(value, str):
                value.encode()
                assert "\0" not in value
                assert value
            elif value is not None:
                assert column in INTEGER_COLUMNS
                assert type(value) is int
                assert 0 <= value < 2**63
        assert model["id"] == model_id(str(model["locator"])) or "\U0010ffff" in str(
            model["locator"]
        )
        json.loads(str(model["tags"]))
        parameters(model)


# --- tables


def test_a_table_in_each_of_its_line_ends() -> None:
    for end in ("\n", "\r\n"):
        text = end.join(["\ufeffname,size,params,tags,publisher", 'a,7,"8,000",x,p', "", "b,,,,"])
        items = read_bytes("csv", text)
        first, second = models(items)
        assert faults(items) == []
        assert (first["file_size"], first["parameter_count"]) == (7, 8000)
        assert first["tags"] == '["x"]'
        assert parameters(first) == {"publisher": "p"}
        assert (second["name"], second["file_size"]) == ("b", None)


def test_a_table_of_a_spreadsheet_with_semicolons() -> None:
    items = read_bytes("csv", '\n"Name";"File size";License\n"a;b";7;"x,y"\nc;8;\n')
    assert faults(items) == []
    assert [(row["name"], row["file_size"], row["license"]) for row in models(items)] == [
        ("a;b", 7, "x,y"),
        ("c", 8, None),
    ]


def test_cells_may_hold_newlines_quotes_and_separators() -> None:
    written = io.StringIO()
    csv.writer(written).writerows([["name", "note"], ['a "b", c', "one\ntwo\r\nthree"]])
    model = only(read_bytes("csv", written.getvalue()))
    assert model["name"] == 'a "b", c'
    assert parameters(model) == {"note": "one\ntwo\nthree"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a", "1 cells"),
        ("a,1,2,3", "4 cells"),
        ("a,-7,", "'-7'"),
        ("a,many,", "'many'"),
        (",1,", "names no model"),
        ('"a"b,1,', "not a valid record"),
        ('"a,1,', "not a valid record"),
        ("a\0,1,", "NUL"),
    ],
)
def test_a_bad_row_is_skipped_and_the_others_are_read(row: str, reason: str) -> None:
    items = read_bytes("csv", f"name,file_size,note\nx,1,\n{row}\ny,1,\nz,1,")
    ((what, why),) = faults(items)
    assert what == "standard input line 3"
    assert reason in why
    assert [model["name"] for model in models(items)] == ["x", "y", "z"]


def test_open_quotes_cost_only_their_lines_and_bounded_work() -> None:
    rows = ["name,size"] + [f'"open{n},1' if n % 2 else f"m{n},1" for n in range(600)]
    items = read_bytes("csv", "\n".join(rows))
    names = {str(model["name"]) for model in models(items)}
    assert {f"m{n}" for n in range(0, 598, 2)} - names == set()
    hostile = "name\n" + '"a\n' * 20_000
    assert models(read_bytes("csv", hostile)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,b\n1,2\n", "no column that names a model"),
        ("1,2\n", "no column that names a model"),
        ("name,size,size\na,1,2\n", "twice"),
    ],
)
def test_a_table_needs_a_header(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read_bytes("csv", text)


def test_a_formula_is_read_back_without_its_guard() -> None:
    items = read_bytes("csv", "name,note\n'=1+1,'quoted'\n")
    model = only(items)
    assert model["name"] == "=1+1"
    assert parameters(model) == {"note": "'quoted'"}


# The csv module of Python 3.11 does not quote a lone carriage return, though it should.
CELLS = NAMES.map(lambda text: text.replace("\r", "\v"))


@given(
    st.lists(st.tuples(CELLS, st.integers(1, 2**63 - 1) | st.none(), CELLS), min_size=1),
    st.sampled_from(["csv", "tsv"]),
)
def test_what_the_csv_module_writes_is_read(
    rows: list[tuple[str, int | None, str]], kind: str
) -> None:
    written = io.StringIO()
    dialect: dict[str, str] = {"delimiter": "\t" if kind == "tsv" else ","}
    writer = csv.writer(written, lineterminator="\n", **dialect)  # type: ignore[arg-type]
    writer.writerow(["name", "size", "publisher"])
    writer.writerows(rows)
    items = read_bytes(kind, written.getvalue())
    assert faults(items) == []
    for model, (name, size, publisher) in zip(models(items), rows, strict=True):
        for text, got in ((name, model["name"]), (publisher, _publisher(model))):
            guarded = text[0] == "'" and text[1:2] in ("=", "+", "-", "@", "\t")
            wanted = text[1:] if guarded else text
            assert got == wanted
        assert model["file_size"] == size


def _publisher(model: Fields) -> object:
    kept = parameters(model)
    return kept["publisher"] if isinstance(kept, dict) else None


@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv"]))
def test_no_bytes_break_a_table(content: bytes, kind: str) -> None:
    try:
        items = read_bytes(kind, b"name,size\n" + content)
    except SourceError:
        return
    _assert_storable(items)


# --- streams and round trips


def test_a_slow_producer_is_waited_for() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb", buffering=0) as sink:
        items = read_lines(Target("-", source), context())
        sink.writelines((b'{"na', b'me": "a"}\n{"name"', b': "b"}'))
        sink.close()
        assert [model["name"] for model in models(items)] == ["a", "b"]


def test_progress_counts_models() -> None:
    seen: list[tuple[str, int]] = []
    read_bytes("jsonl", '{"name": "a"}\n7\n', context(progress=lambda *told: seen.append(told)))
    assert seen == [("-", 1)]


def test_a_row_of_ours_comes_back_as_it_was() -> None:
    ours: Fields = dict.fromkeys(MODEL_COLUMNS) | {
        "id": model_id("file://far/m/a.gguf"),
        "name": "a\x1b[31m\u202e\n[/]",
        "source": "ollama",
        "locator": "file://far/m/a.gguf",
        "path": "/m/a.gguf",
        "status": "incomplete",
        "file_type": 0,
        "head_count_kv": 8,
        "tags": ["favorite", "x"],
        "host": "far",
        "parameters": {"llama.rope": 1e-06, "faults": ["x"], "b": {"a": None}},
        "source_id": "s",
        "created_at": "2025-01-02T03:04:05Z",
        "updated_at": "2025-01-02T03:04:06Z",
        "modified_at": "2025-01-02T03:04:07.123Z",
    }
    for kind, text in (("json", json.dumps([ours])), ("jsonl", json.dumps(ours))):
        back = only(read_bytes(kind, text))
        back["tags"] = json.loads(str(back["tags"]))
        back["parameters"] = parameters(back)
        assert back == ours


@given(
    st.fixed_dictionaries(
        {
            "name": st.text(min_size=1).filter(lambda text: "\0" not in text),
            "locator": st.just("file://far/a"),
            "path": NAMES,
            "tags": st.lists(NAMES, max_size=2, unique=True),
            "vocab_size": st.integers(1, 2**63 - 1) | st.none(),
        }
    ),
    st.sampled_from(["json", "jsonl", "tsv"]),
)
def test_what_our_own_formats_write_is_read_back(ours: Fields, kind: str) -> None:
    from modelstore.render.rows import write_rows

    row = {**ours, "tags": json.dumps(ours["tags"]) if kind == "tsv" else ours["tags"]}
    written: list[str] = []
    write_rows(written.append, kind, tuple(row), [tuple(row.values())])
    back = only(read_bytes(kind, "".join(written)))
    assert back["name"] == ours["name"]
    assert back["locator"] == "file://far/a"
    assert back["path"] == ours["path"]
    assert back["vocab_size"] == ours["vocab_size"]
    tags = ours["tags"]
    assert isinstance(tags, list)
    assert json.loads(str(back["tags"])) == sorted(tags)


def test_bad_records_say_why_in_safe_words() -> None:
    reader = RecordReader("jsonl", context(), "/")
    with pytest.raises(BadRecordError) as caught:
        reader.row({"name": "x", "file_size": "\x1b[31m" + "y" * 1000})
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 120
    with pytest.raises(BadRecordError):
        reader.row({"name": "x", "file_size": math.inf})


def test_the_stream_is_not_closed() -> None:
    target = stream(b"{}\n")
    list(read_lines(target, context()))
    assert target.stream is not None
    assert not target.stream.closed
