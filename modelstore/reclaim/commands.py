"""Commands for a person's shell: of the program that owns the files, and none is run here."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from modelstore.text import is_safe

if TYPE_CHECKING:
    from collections.abc import Iterable


def joined(*words: str) -> str:
    """Return the words as one command line, each quoted where the shell needs that."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    r"""Return a word for a POSIX shell, or for PowerShell on Windows.

    Characters that a terminal acts on, and bytes that are no text, are spelled ``$'\x1b'``, which
    bash, zsh and ksh read back.
    """
    if os.name == "nt":
        plain = word.replace("_", "").replace("-", "").replace("\\", "").replace(":", "")
        is_plain = plain.replace(".", "").replace("/", "").isalnum()
        return word if is_plain else "'" + word.replace("'", "''") + "'"
    if is_safe(word):
        return shlex.quote(word)
    return "$'" + "".join(map(_spelled, os.fsencode(word))) + "'"


def _spelled(byte: int) -> str:
    char = chr(byte)
    if char in "'\\":
        return "\\" + char
    return char if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def remove(paths: Iterable[str]) -> str:
    """Return the command that removes files which no program manages."""
    if os.name == "nt":
        return "Remove-Item -LiteralPath " + ",".join(map(quoted, paths))
    return joined("rm", "--", *paths)


def ollama_remove(names: Iterable[str]) -> str:
    """Return the command that removes models from Ollama.

    https://docs.ollama.com/cli
    """
    return joined("ollama", "rm", *names)


def docker_remove(names: Iterable[str]) -> str:
    """Return the command that removes models from Docker Model Runner.

    https://docs.docker.com/reference/cli/docker/model/rm
    """
    return joined("docker", "model", "rm", *names)


def hub_remove(targets: Iterable[str], hub: str) -> str:
    """Return the command that removes revisions, or files in all revisions, from a hub's cache.

    https://huggingface.co/docs/huggingface_hub/guides/cli#hf-cache-rm
    """
    return joined("hf", "cache", "rm", *targets, "--cache-dir", hub)
