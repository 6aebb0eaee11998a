from __future__ import annotations

import configparser
from typing import Any

import pytest

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
            "Qwen 3: 8B/é",
            tags=("favorite", "work"),
            projector="/srv/mmproj.gguf",
            draft="/srv/draft.gguf",
        ),
        model("nomic", path="/srv/nomic.gguf", type="embedding"),
        model("hub", path=None, locator="hf:org/repo-GGUF@0123abcd"),
    )
    assert left_out == []
    assert text.startswith("version = 1\n")
    assert read(text) == {
        "Qwen 3: 8B/é": {
            "model": "/srv/m.gguf",
            "mmproj": "/srv/mmproj.gguf",
            "model-draft": "/srv/draft.gguf",
            "tags": "favorite,work",
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
