from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import SourceError
from modelstore.sources.base import Target
from modelstore.sources.configs import llama_swap
from modelstore.sources.configs.llama_swap import read
from tests.sources.reading import faults, models, notes, only, parameters, read_bytes
from tests.sources.stores.making import context, found, write_gguf

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = """
healthCheckTimeout: 500
apiKeys: ["s3cret-key"]
macros:
  "latest": >
    /opt/llama-server
    --port ${PORT}
  "ctx": 4096
  "args": "--ctx-size ${ctx}"
  "dir": "${env.MODELS}/llm"
models:
  "one":
    macros:
      "ctx": 16384
    cmd: |
      # -m /no/commented.gguf
      ${latest} \\
      --model ${dir}/a-Q4_K_M.gguf
      ${args} --api-key s3cret-cmd
    name: "Model ${MODEL_ID}"
    description: first
    env: ["HF_TOKEN=s3cret-env"]
    aliases:
      - short
      - {id: other, unlisted: true}
    metadata: {note: n, api_key: s3cret-meta}
  two: {cmd: "llama-server -hf org/repo:Q8_0 -c 100", unlisted: true}
  three: {cmd: "vllm serve org/model --port ${PORT}"}
  four: {cmd: "other-server --port ${PORT}", useModelName: org/upstream}
  five: {cmd: "whisper-server --port ${PORT}", capabilities: {context: 8, reranker: true}}
"""


def test_commands_macros_and_names() -> None:
    items = read_bytes("llama-swap", EXAMPLE, context(environ={"MODELS": "/no"}))
    assert faults(items) == []
    one, two, three, four, five = models(items)
    assert one["path"] == "/no/llm/a-Q4_K_M.gguf"
    assert one["locator"] == "file://box/no/llm/a-Q4_K_M.gguf"
    assert (one["name"], one["source_id"]) == ("Model one", "one")
    assert (one["context_length"], one["quantization"]) == (16384, "Q4_K_M")
    assert (one["status"], one["source"], one["host"]) == ("missing", "llama-swap", "box")
    assert parameters(one) == {
        "aliases": ["short", "other"],
        "description": "first",
        "metadata": {"note": "n"},
    }
    assert (two["locator"], two["status"], two["context_length"]) == (
        "hf:org/repo:Q8_0",
        "remote",
        100,
    )
    assert three["locator"] == "hf:org/model"
    assert four["locator"] == "hf:org/upstream"
    assert (five["locator"], five["type"], five["context_length"]) == ("name:five", "reranker", 8)
    assert "s3cret" not in repr(items)
    assert "apiKeys" in notes(items)


def test_a_model_that_is_here_is_described_from_its_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", context_length=2048)
    config = tmp_path / "config.yaml"
    config.write_text("models:\n  tiny:\n    cmd: llama-server -m tiny.gguf -c 1\n")
    (item,) = found(read(Target(str(config)), context()))
    assert item.model.locator == f"file://box{tmp_path}/tiny.gguf"
    assert (item.model.context_length, item.model.status) == (2048, "available")
    assert item.place is not None
    assert (item.place.root, item.place.source, item.place.name) == (
        str(config),
        "llama-swap",
        "tiny",
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("{}", "no command"),
        ("{cmd: [a]}", "no command"),
        ("{cmd: \"x -m 'open\"}", "split into words"),
        ("{cmd: 'x -m ${unknown}/a.gguf'}", "${unknown}"),
        ("{cmd: 'x -m ${env.UNSET}/a.gguf'}", "${env.UNSET}"),
        ("{cmd: '${a}', macros: {z: '" + "y" * 100 + "', b: '" + "${z}" * 1000 + "', a: '"
         + "${b}" * 1000 + "'}}", "expand"),
        ("7", "no command"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_understood_is_skipped(settings: str, reason: str) -> None:
    text = "models:\n  bad: " + settings + "\n  good: {cmd: x -m /no/a.gguf}\n"
    items = read_bytes("llama-swap", text)
    ((what, why),) = faults(items)
    assert what == "standard input: bad"
    assert reason in why
    assert [model["path"] for model in models(items)] == ["/no/a.gguf"]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join(lines) + "\nmodels: {}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "cannot be read as YAML"),
        ("models: {a: !!python/object/apply:os.system [x]}", "on line 1"),
        ("models: &a {b: *a}", "refers to itself"),
        ("models: " + "[" * 100 + "]" * 100, "nests deeper"),
        # The parser may have a limit of its own, lower than ours.
        ("x: " + "[" * 50_000 + "\nmodels: {}", "cannot be read as YAML"),
        (bomb(40), "aliases counted in full"),
        ("models: {a: 2026-99-99}", "cannot be read as YAML"),
        ("models: {a: " + "9" * 5000 + "}", "cannot be read as YAML"),
        ("? [a]\n: b\nmodels: {}", "cannot be read as YAML"),
        ("models: 7", "no mapping of models"),
        ("- a\n", "no mapping of models"),
        ("a: b\n---\nc: d\n", "cannot be read as YAML"),
    ],
)
def test_hostile_yaml_is_refused_with_its_reason(text: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_bytes("llama-swap", text)
    assert said in caught.value.message
    assert len(caught.value.message) < 500


def test_a_bomb_in_merge_keys_is_refused() -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
    with pytest.raises(SourceError, match="aliases counted in full"):
        read_bytes("llama-swap", "\n".join(lines) + "\nmodels: {}\n")


def test_a_large_file_is_refused() -> None:
    with pytest.raises(SourceError, match="larger than"):
        read_bytes("llama-swap", "# x\n" * (2 << 20))


def test_an_empty_configuration_holds_no_model() -> None:
    assert read_bytes("llama-swap", "models:\n") == []


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_yaml_is_loaded_as_the_library_loads_it(value: object) -> None:
    text = yaml.safe_dump(value)
    assert llama_swap.load(text) == yaml.safe_load(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(content: bytes) -> None:
    try:
        items = read_bytes("llama-swap", b"models:\n  a: {cmd: x -m /no/a}\n" + content)
    except SourceError:
        return
    models(items)


def test_one_command_over_several_lines() -> None:
    model = only(
        read_bytes("llama-swap", "models:\n  a:\n    cmd: |\n      x \\\n        -m /no/b\n")
    )
    assert model["path"] == "/no/b"
