from __future__ import annotations

import configparser
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import SourceError
from modelstore.locator import model_id
from modelstore.render.preset import PresetModel, write_preset
from modelstore.sources.base import Target
from modelstore.sources.configs.preset import parse, read
from tests.sources.reading import faults, models, notes, only, parameters, read_bytes
from tests.sources.stores.making import context, found, write_gguf, write_projector

if TYPE_CHECKING:
    from pathlib import Path

    from modelstore.sources.base import Item

EXAMPLE = """version = 1
; all models
[*]
c = 8192
hf-token = s3cret

[a model: 7B/x]      # what it is called
model = /no/a b.gguf ; inline
LLAMA_ARG_CTX_SIZE = 4096
alias = one, two
load-on-startup = true
tags = fast,small

[org/repo:Q8_0]
ngl = 99

[by-repo]
hf = org/other:q4_k_m
[by-file]
hf-repo = org/third
hf-file = sub/x-Q5_K_M.gguf

[only-options]
temp = 1
"""


def test_the_dialect_of_the_real_program() -> None:
    items = read_bytes("preset", EXAMPLE)
    assert faults(items) == []
    first, named, repo, file = models(items)
    assert first["name"] == "a model: 7B/x"
    assert first["locator"] == "file://box/no/a b.gguf"
    assert first["path"] == "/no/a b.gguf"
    assert first["status"] == "missing"
    assert first["context_length"] == 4096
    assert first["tags"] == '["fast","small"]'
    assert parameters(first) == {"aliases": ["one", "two"]}
    assert named["locator"] == "hf:org/repo:Q8_0"
    assert named["quantization"] == "Q8_0"
    assert (repo["locator"], repo["quantization"]) == ("hf:org/other:q4_k_m", "Q4_K_M")
    assert (file["locator"], file["quantization"]) == ("hf:org/third:sub/x-Q5_K_M.gguf", "Q5_K_M")
    assert {model["status"] for model in (named, repo, file)} == {"remote"}
    assert {model["context_length"] for model in (named, repo, file)} == {8192}
    assert "s3cret" not in repr(items)
    assert "hf-token" in notes(items)
    assert "[only-options]" in notes(items)


def test_a_model_that_is_here_is_described_from_its_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "models" / "tiny.gguf", context_length=2048)
    write_projector(tmp_path / "elsewhere" / "eyes.gguf")
    preset = tmp_path / "preset.ini"
    preset.write_text(
        "[mine]\nmodel = models/tiny.gguf\nmmproj = elsewhere/eyes.gguf\nc = 99\ntags = t\n"
        "[broken]\nmodel = preset.ini\n"
    )
    items = list(read(Target(str(preset)), context()))
    (item,) = found(items)
    assert item.model.locator == f"file://box{tmp_path}/models/tiny.gguf"
    assert item.model.context_length == 2048
    assert item.model.tags == ("t",)
    assert item.model.source == "gguf"
    assert [file.role for file in item.files] == ["model", "projector"]
    assert item.place is not None
    assert (item.place.root, item.place.name) == (str(preset), "mine")
    ((what, _),) = faults(items)
    assert what.startswith("broken")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a\nmodel = x", 1),
        ("[a]\nno value", 2),
        ("[a]\n= x", 2),
        ("[a]\nmodel = x\x1b[31m", 2),
        ("[a\x00]\nmodel = x", 1),
        ("[a]\n7 = x", 2),
        ("[]\n", 1),
    ],
)
def test_a_line_that_is_none_is_named(text: str, fault: int) -> None:
    items = read_bytes("preset", text)
    assert [what for what, _ in faults(items)] == [f"standard input line {fault}"]


def test_a_section_that_comes_twice_counts_as_it_comes_last() -> None:
    sections, faults = parse("[a]\nmodel = x\nc = 1\n[b]\nmodel = y\n[a]\nmodel = z\n")
    assert faults == []
    assert sections["a"] == {"model": "z"}


def test_every_line_end_and_a_comment_without_space() -> None:
    sections, _ = parse("[a]\r\nmodel = /x#1\rc = 2;3\nd = \n")
    assert sections["a"] == {"model": "/x", "c": "2", "d": ""}


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(SourceError, match="larger than"):
        read_bytes("preset", "[a]\n" + "; x\n" * (2 << 20))


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="]"), min_size=1, max_size=20)
PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).map(
    lambda text: "/no/" + text
)


def preset_of(*presets: PresetModel) -> tuple[str, list[str]]:
    written: list[str] = []
    left_out: list[str] = []
    write_preset(written.append, presets, lambda model, _why: left_out.append(model.id))
    return "".join(written), left_out


@given(st.lists(st.tuples(NAMES, PATHS), max_size=4, unique_by=lambda pair: pair[1]))
def test_what_we_write_is_read_back_as_the_same_models(pairs: list[tuple[str, str]]) -> None:
    presets = [
        PresetModel(id=f"{number:016x}", name=name, locator="", path=path)
        for number, (name, path) in enumerate(pairs)
    ]
    text, left_out = preset_of(*presets)
    items = read_bytes("preset", text)
    assert faults(items) == []
    back = [model["path"] for model in models(items)]
    assert len(back) == len(presets) - len(left_out)
    written = [model.path for model in presets if model.id not in left_out]
    normal = [model["path"] for model in models(read_bytes("jsonl", _lines(written)))]
    assert back == normal


def _lines(paths: list[str | None]) -> str:
    return "".join(json.dumps({"path": path}) + "\n" for path in paths)


def test_a_row_goes_out_and_comes_back_as_itself() -> None:
    locator = "file://box/no/a model-Q4_K_M.gguf"
    text, left_out = preset_of(
        PresetModel(
            id=model_id(locator),
            name="A [model] #1",
            locator=locator,
            path="/no/a model-Q4_K_M.gguf",
            type="embedding",
            tags=("x", "y"),
        ),
        PresetModel(id="1", name="hub", locator="hf:org/repo@abc", status="remote"),
        PresetModel(id="2", name="bad", locator="file://box/no/a#b", path="/no/a#b"),
    )
    assert left_out == ["2"]
    model, hub = models(read_bytes("preset", text))
    assert model["id"] == model_id(locator)
    assert model["type"] == "embedding"
    assert model["tags"] == '["x","y"]'
    assert hub["locator"] == "hf:org/repo"


@given(st.text(alphabet="[]=;# \t\nabc*", max_size=60))
def test_no_text_breaks_the_parser_and_configparser_agrees_on_plain_lines(text: str) -> None:
    sections, bad = parse(text)
    assert all(isinstance(line, int) for line, _ in bad)
    plain = "".join(f"[s{number}]\nkey = value {number}\n" for number in range(len(text)))
    oracle = configparser.ConfigParser(interpolation=None)
    oracle.read_string(plain)
    ours, none = parse(plain)
    assert none == []
    assert {name: dict(oracle[name]) for name in oracle.sections()} == {
        name: options for name, options in ours.items() if name != "default"
    }
    assert isinstance(sections, dict)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(content: bytes) -> None:
    items: list[Item] = []
    try:
        items = read_bytes("preset", b"[a]\nmodel = /no/x\n" + content)
    except SourceError:
        return
    models(items)


def test_one_model_in_a_preset_of_the_dashboard() -> None:
    model = only(read_bytes("preset", "LLAMA_CONFIG_VERSION = 1\n\n[m]\nmodel = /no/m.gguf\n"))
    assert model["name"] == "m"


def test_what_follows_too_many_sections_is_no_part_of_the_last_one() -> None:
    text = "".join(f"[m{number}]\nmodel = {number}\n" for number in range(100_010))
    sections, faults = parse(text)
    assert len(sections) == 100_000
    assert all(options == {"model": name[1:]} for name, options in sections.items() if options)
    assert [reason for _, reason in faults] == ["more than 100,000 sections: the rest is not read"]
