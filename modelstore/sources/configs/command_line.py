"""The model that a llama-server command line, or a list of its options, serves.

Only the options named here are kept; all others, such as tokens and keys, are dropped.
Option names: github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelstore.catalogue.redact import without_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_COMMAND = 65_536  # characters

# Every spelling of an option, without its dashes: long, short, environment variable.
OPTIONS: Mapping[str, str] = {
    spelling: field
    for field, spellings in {
        "model": "m model LLAMA_ARG_MODEL",
        "model_url": "mu model-url LLAMA_ARG_MODEL_URL",
        "hf_repo": "hf hfr hf-repo LLAMA_ARG_HF_REPO",
        "hf_file": "hff hf-file LLAMA_ARG_HF_FILE",
        "docker_repo": "dr docker-repo LLAMA_ARG_DOCKER_REPO",
        "context": "c ctx-size LLAMA_ARG_CTX_SIZE",
        "projector": "mm mmproj LLAMA_ARG_MMPROJ",
        "draft": "md model-draft spec-draft-model LLAMA_ARG_MODEL_DRAFT LLAMA_ARG_SPEC_DRAFT_MODEL",
        "draft_repo": "hfd hfrd hf-repo-draft spec-draft-hf LLAMA_ARG_HFD_REPO "
        "LLAMA_ARG_SPEC_DRAFT_HF_REPO",
        "alias": "a alias LLAMA_ARG_ALIAS",
        "tags": "tags LLAMA_ARG_TAGS",
        "embedding": "embedding embeddings LLAMA_ARG_EMBEDDINGS",
        "reranking": "rerank reranking LLAMA_ARG_RERANKING",
    }.items()
    for spelling in spellings.split()
}
_FLAGS = frozenset(("embedding", "reranking"))
_FALSE = frozenset(("off", "disabled", "false", "0", "no"))
_MEMORY_LIMIT = re.compile(r"\d+[bkmg]?", re.IGNORECASE)  # `docker run -m 8g`
_WINDOWS_PATH = re.compile(r"(?:^|[\s\"'])[A-Za-z]:\\")
_CONTAINER_TOOLS = frozenset(("docker", "podman", "nerdctl"))


@dataclass(frozen=True, slots=True)
class Served:
    """The model options of a command line; paths are as written there."""

    model: str | None = None
    model_url: str | None = None  # without credentials
    hf_repo: str | None = None  # org/repo, org/repo:QUANT
    hf_file: str | None = None
    docker_repo: str | None = None
    context: int | None = None  # tokens; None: the model's own
    projector: str | None = None
    draft: str | None = None
    draft_repo: str | None = None
    alias: str | None = None  # comma-separated
    tags: str | None = None  # comma-separated
    embedding: bool = False
    reranking: bool = False

    @property
    def names_model(self) -> bool:
        """True if it names a model."""
        return bool(self.model or self.hf_repo or self.model_url or self.docker_repo)

    @property
    def type(self) -> str | None:
        """The type that the command restricts the model to, in the catalogue's words."""
        return "embedding" if self.embedding else "reranker" if self.reranking else None


def from_options(options: Iterable[tuple[str, str]]) -> Served:
    """Return the model of options: pairs of a name in any spelling, without dashes, and a value.

    The last of several wins; unknown names are ignored.
    """
    found: dict[str, Any] = {}
    for name, value in options:
        field = OPTIONS.get(name)
        if field in _FLAGS:
            found[field] = value.strip().lower() not in _FALSE
        elif field == "context":
            number = value.strip()
            found[field] = int(number) if number.isdecimal() and len(number) <= 18 else 0
        elif field is not None:
            found[field] = without_user(value)
    return Served(**{field: value for field, value in found.items() if value})


def parse_arguments(arguments: Sequence[str]) -> Served:
    """Return the model of a command's words, such as a router's ``status.args``.

    A model path inside a container is translated by the volumes that the command mounts.
    """
    program = _program(arguments)
    container = program in _CONTAINER_TOOLS
    options: list[tuple[str, str]] = []
    volumes: list[tuple[str, str]] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-") or word in {"-", "--"}:
            continue
        name, equals, value = word.lstrip("-").partition("=")
        field = OPTIONS.get(name)
        is_volume = container and name in {"v", "volume"}
        if field in _FLAGS:
            options.append((name, value if equals else "true"))
        elif field is not None or is_volume:
            value = value if equals else next(words, "")
            if is_volume:
                volumes.append(_volume(value))
            elif not _is_another_m(name, value, program):
                options.append((name, value))
    options.extend(_vllm_model(arguments))
    return from_options((name, _outside(value, volumes)) for name, value in options)


def parse_command(command: str) -> Served:
    """Return the model of a shell command. Raises `ValueError` with the reason."""
    if len(command) > MAX_COMMAND:
        raise ValueError(f"its command is longer than {MAX_COMMAND} characters")
    is_windows = _WINDOWS_PATH.search(command) is not None  # there, a backslash does not escape
    try:
        words = shlex.split(command, posix=not is_windows)
    except ValueError as error:
        raise ValueError(f"its command cannot be split into words: {error}") from None
    return parse_arguments([word.strip("\"'") for word in words] if is_windows else words)


def _program(arguments: Sequence[str]) -> str:
    return re.split(r"[/\\]", arguments[0])[-1].removesuffix(".exe") if arguments else ""


def _is_another_m(name: str, value: str, program: str) -> bool:
    """Return True for another program's ``-m``: ``docker run -m 8g``, ``python -m vllm``."""
    limit = program in _CONTAINER_TOOLS and _MEMORY_LIMIT.fullmatch(value)
    return name == "m" and (bool(limit) or program.startswith("python"))


def _volume(text: str) -> tuple[str, str]:
    """Split ``/mnt/models:/models:ro`` into the path outside and the path inside."""
    outside, _, rest = text.partition(":")
    return outside, rest.partition(":")[0]


def _outside(path: str, volumes: Iterable[tuple[str, str]]) -> str:
    for outside, inside in volumes:
        if inside and outside.startswith(("/", "~")) and path.startswith(inside.rstrip("/") + "/"):
            return outside.rstrip("/") + path[len(inside.rstrip("/")) :]
    return path


def _vllm_model(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the model of ``vllm serve MODEL``, which is not an option."""
    for before, word, after in zip(arguments, arguments[1:], arguments[2:], strict=False):
        if word == "serve" and _program([before]) == "vllm" and not after.startswith("-"):
            return [("model", after)]
    return []
