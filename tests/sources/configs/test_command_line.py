from __future__ import annotations

import shlex
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.sources.configs.command_line import (
    MAX_COMMAND,
    OPTIONS,
    Served,
    from_options,
    parse_arguments,
    parse_command,
)


@pytest.mark.parametrize(
    ("command", "served"),
    [
        ("llama-server -m /m/a.gguf", Served(model="/m/a.gguf")),
        ("llama-server --model '/m/a b.gguf' -c 8192", Served(model="/m/a b.gguf", context=8192)),
        ("llama-server --model=/m/a.gguf", Served(model="/m/a.gguf")),
        ("llama-server -m a.gguf -m b.gguf", Served(model="b.gguf")),
        ("llama-server -hf org/repo:Q8_0", Served(hf_repo="org/repo:Q8_0")),
        ("x -hfr org/repo -hff a.gguf", Served(hf_repo="org/repo", hf_file="a.gguf")),
        ("x -m a -mm p -md d", Served(model="a", projector="p", draft="d")),
        ("x -m a --spec-draft-model d", Served(model="a", draft="d")),
        (
            "x -m a --mmproj p --hf-repo-draft o/r",
            Served(model="a", projector="p", draft_repo="o/r"),
        ),
        ("x -m a -a one,two --tags t", Served(model="a", alias="one,two", tags="t")),
        ("x -m a --embeddings", Served(model="a", embedding=True)),
        ("x -m a --reranking -ngl 99", Served(model="a", reranking=True)),
        ("x -m a -c 0", Served(model="a")),
        ("x -m a -c lots", Served(model="a")),
        ("x -m a -c 99999999999999999999", Served(model="a")),
        ("x -m", Served()),
        ("", Served()),
        ("x -dr ai/gemma3", Served(docker_repo="ai/gemma3")),
        ("x -mu https://me:pw@h/a.gguf", Served(model_url="https://h/a.gguf")),
        ("vllm serve org/repo --port 1", Served(model="org/repo")),
        ("python3 -m vllm.server --model org/repo", Served(model="org/repo")),
        ("python -m http.server", Served()),
        (r"C:\x\llama-server.exe -m 'C:\m o\a.gguf'", Served(model=r"C:\m o\a.gguf")),
        (
            "docker run -m 8g --rm -v /mnt/m:/models:ro image --model /models/a.gguf",
            Served(model="/mnt/m/a.gguf"),
        ),
        ("podman run -v named:/models image -m /models/a.gguf", Served(model="/models/a.gguf")),
    ],
)
def test_what_a_command_serves(command: str, served: Served) -> None:
    assert parse_command(command) == served


def test_secrets_of_a_command_are_not_kept() -> None:
    served = parse_command(
        "llama-server -m a.gguf --api-key s3cret -hft s3cret --hf-token s3cret "
        "--ssl-key-file s3cret -mu http://u:s3cret@h/a.gguf --api-key=s3cret"
    )
    assert "s3cret" not in repr(served)


@pytest.mark.parametrize("command", ["x -m 'open", "x" * (MAX_COMMAND + 1)])
def test_a_command_that_is_none_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match=r"split into words|longer"):
        parse_command(command)


@pytest.mark.parametrize("name", ["m", "model", "LLAMA_ARG_MODEL"])
def test_an_option_has_a_long_a_short_and_an_environment_name(name: str) -> None:
    assert from_options([(name, "/m/a.gguf")]) == Served(model="/m/a.gguf")


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("1", True), ("off", False)])
def test_flags_have_values_in_files(value: str, expected: bool) -> None:
    assert from_options([("embedding", value)]).embedding is expected


@given(st.lists(st.text() | st.sampled_from(["-m", "-hf", "-c", "-v", "docker", "serve"])))
def test_no_words_break_it(words: list[str]) -> None:
    served = parse_arguments(words)
    for value in astuple(served):
        assert value is None or isinstance(value, bool | str | int)


@given(
    st.dictionaries(st.sampled_from(["model", "hf-repo", "mmproj", "alias"]), st.text(min_size=1))
)
def test_a_quoted_command_gives_its_options_back(options: dict[str, str]) -> None:
    words = ["/usr/bin/llama-server"]
    for name, value in options.items():
        words += [f"--{name}", value]
    served = parse_arguments(shlex.split(shlex.join(words)))
    assert served == from_options(options.items())
    assert all(name in OPTIONS for name in options)
