from __future__ import annotations

import configparser
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.render.preset import PresetModel, write_preset
from tests.render.samples import HOSTILE, unsafe_characters


def written(*models: PresetModel) -> tuple[str, list[tuple[str, str]]]:
    parts: list[str] = []
    left_out: list[tuple[str, str]] = []
    write_preset(parts.append, models, lambda model, why: left_out.append((model.name, why)))
    return "".join(parts), left_out


def model(name: str = "Qwen3-8B", **fields: Any) -> PresetModel:
    known = {"id": "c02b7de90a1b2c3d", "locator": "file://h/m.gguf", "path": "/srv/m.gguf"}
    return PresetModel(name=name, **{**known, **fields})


def read(text: str) -> dict[str, dict[str, str]]:
    """Read the dialect as llama.cpp does: a value ends at the first ``;`` or ``#``."""
    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=(";", "#"), default_section="\0", strict=True
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("[before]\n" + text)
    return {name: dict(parser[name]) for name in parser.sections() if name != "before"}


def test_a_section_a_model() -> None:
    text, left_out = written(
        model(
            "Qwen 3 8B/é",
            tags=("favorite", "work"),
            projector="/srv/mmproj.gguf",
            draft="/srv/draft.gguf",
        ),
        model("eagle", draft="/srv/eagle3-Qwen3-8B-F16.gguf"),
        model("nomic", path="/srv/nomic.gguf", type="embedding"),
        model("hub", path=None, locator="hf:org/repo-GGUF@0123abcd"),
    )
    assert left_out == []
    assert text.startswith("version = 1\n")
    assert read(text) == {
        "Qwen 3 8B/é": {
            "model": "/srv/m.gguf",
            "mmproj": "/srv/mmproj.gguf",
            "model-draft": "/srv/draft.gguf",
            "tags": "favorite,work",
        },
        "eagle": {
            "model": "/srv/m.gguf",
            "model-draft": "/srv/eagle3-Qwen3-8B-F16.gguf",
            "spec-type": "draft-eagle3",
        },
        "nomic": {"model": "/srv/nomic.gguf", "embedding": "true"},
        "hub": {"hf-repo": "org/repo-GGUF"},
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"path": None}, "it has no file on this machine"),
        ({"status": "missing"}, "its file is missing"),
        ({"status": "truncated"}, "its file is truncated"),
        ({"status": "incomplete"}, "its file is incomplete"),
        ({"type": "projector"}, "a file of type projector is not served by itself"),
        ({"is_gguf": False}, "llama-server reads GGUF files only"),
        ({"type": "vae"}, "a file of type vae is not served by itself"),
        ({"file_type": 4, "quantization": "MXFP4"}, "only Ollama reads its MXFP4 tensors"),
        ({"file_type": 139}, "only ik_llama.cpp reads its quantization"),
        (
            {"path": None, "locator": "hf:org/repo", "status": "incomplete"},
            "its file is incomplete",
        ),
        ({"path": "/srv/a;b.gguf"}, "its path cannot be written in a presets file"),
        ({"path": "/srv/a#b.gguf"}, "its path cannot be written in a presets file"),
        ({"path": "/srv/a\nhf-token = x"}, "its path cannot be written in a presets file"),
        ({"path": "/srv/a "}, "its path cannot be written in a presets file"),
        ({"path": ""}, "its path cannot be written in a presets file"),
    ],
)
def test_what_cannot_be_served_or_said_is_left_out_and_named(
    fields: dict[str, Any], reason: str
) -> None:
    text, left_out = written(model("bad", **fields), model("good"))
    assert left_out == [("bad", reason)]
    assert list(read(text)) == ["good"]


@pytest.mark.parametrize(
    ("locator", "expected"),
    [
        ("hf:org/repo", {"hf-repo": "org/repo"}),
        ("hf:org/repo@0123", {"hf-repo": "org/repo"}),
        ("hf:org/repo:Q8_0", {"hf-repo": "org/repo:Q8_0"}),
        ("hf:org/repo@0123:Q4_K_M", {"hf-repo": "org/repo:Q4_K_M"}),
        ("hf:org/repo:sub/a-Q8_0.gguf", {"hf-repo": "org/repo", "hf-file": "sub/a-Q8_0.gguf"}),
    ],
)
def test_a_repository_keeps_its_tag_or_file(locator: str, expected: dict[str, str]) -> None:
    text, _ = written(model("hub", path=None, locator=locator, status="remote"))
    assert read(text) == {"hub": expected}


def canonical(name: str) -> str:
    """The name that llama-server lists: after a colon, its last part in capitals."""
    head, colon, tag = name.rpartition(":")
    end = re.search(r"[-.]([A-Za-z0-9_]+)$", tag)
    return head + colon + (end[1] if end else tag).upper() if colon else name


@given(st.lists(st.text("aB1:-._ /q]", min_size=1, max_size=9), min_size=1, max_size=8))
def test_the_server_lists_as_many_models_by_the_names_that_were_told(names: list[str]) -> None:
    told: dict[str, str] = {}
    parts: list[str] = []
    models = [model(name, id=f"{number:016x}") for number, name in enumerate(names)]
    for one in models:
        told[one.id] = one.name
    write_preset(
        parts.append,
        models,
        lambda _model, why: pytest.fail(why),
        lambda one, name: told.update({one.id: name}),
    )
    sections = list(read("".join(parts)))
    assert sections == list(told.values())
    assert [canonical(section) for section in sections] == sections
    assert len(set(sections)) == len(names)


def test_a_tag_that_the_server_leaves_alone_stays() -> None:
    text, _ = written(model("org/repo:Q8_0"), model("qwen3:8b-q4_K_M"), model("qwen3:14b-q4_K_M"))
    assert list(read(text)) == ["org/repo:Q8_0", "qwen3-8b-q4_K_M", "qwen3-14b-q4_K_M"]


def test_names_that_clash_are_told_apart() -> None:
    text, _ = written(
        model("same"),
        model("same", id="99e1aa00bb11cc22"),
        model("default"),
        model("*", id="2"),
        model("", id="3"),
    )
    assert list(read(text)) == [
        "same",
        "same 99e1aa00bb11cc22",
        "default c02b7de90a1b2c3d",
        "* 2",
        "3",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_becomes_a_line_of_its_own(name: str) -> None:
    text, left_out = written(
        model(HOSTILE[name], tags=(HOSTILE[name], "x")),
        model("path", path=HOSTILE[name]),
        model("files", projector=HOSTILE[name], draft=HOSTILE[name]),
    )
    assert not unsafe_characters(text)
    sections = read(text)
    assert len(sections) + len(left_out) == 3
    for section in sections.values():
        assert set(section) <= {"model", "mmproj", "model-draft", "tags"}


def test_an_injected_section_stays_a_name() -> None:
    text, _ = written(model("x]\n[*]\napi-key = secret\n["))
    assert len(read(text)) == 1
    assert "\n[*]" not in text


def test_no_models() -> None:
    assert written() == ("version = 1\n", [])
