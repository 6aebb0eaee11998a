"""The answer to a shell that asks how to complete a line.

The shell names itself in ``_MODELSTORE_COMPLETE`` and passes the line up to the cursor in
``_MODELSTORE_LINE`` (PowerShell: one word a line). The answer is one word a line. For bash and
zsh its first line is ``files``, which the shell must quote, or ``words``; for all shells it is
``none`` if nothing fits, no file either. A failure gives no answer, because output would land in
the line that is being typed.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from modelstore.cli.completion.scripts import COMPLETION_VARIABLE
from modelstore.cli.vendored_click import CompletionItem, ShellComplete, split_arg_string

HARMLESS = re.compile(r"[\w.:/@%+=,-]*")
"""Text that every shell takes as one plain word."""

_LINE = "_MODELSTORE_LINE"
_BREAKS = "_MODELSTORE_BREAKS"  # the characters at which bash begins a word


class _Question(ShellComplete):
    """The words typed, in Typer's terms."""

    def __init__(self, program: Any, words: list[str], incomplete: str) -> None:  # noqa: ANN401
        super().__init__(program, {}, "modelstore", COMPLETION_VARIABLE)
        self._typed = words, incomplete

    def source_vars(self) -> dict[str, Any]:
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        return self._typed

    def format_completion(self, item: CompletionItem) -> str:
        return str(item.value)

    def items(self) -> list[CompletionItem]:
        """Return the words that could come next. A sort key may begin with a minus."""
        words, incomplete = self._typed
        if words[-1:] in (["-s"], ["--sort"]) and incomplete.startswith("-"):
            return [
                CompletionItem("-" + str(item.value), help=item.help)
                for item in self.get_completions(words, incomplete[1:])
            ]
        return self.get_completions(words, incomplete)


def answer(program: Any) -> str:  # noqa: ANN401  # Typer's command object has no public name
    """Return the answer to the shell."""
    sys.stderr = None  # a warning would land in the command line
    shell = os.environ[COMPLETION_VARIABLE]
    line = os.environ.get(_LINE, "")
    *words, incomplete = _split_lines(line) if shell == "powershell" else _split(line)
    words = [os.path.expanduser(os.path.expandvars(word)) for word in words[1:]]
    option, equals, _ = incomplete.partition("=")
    joined = option + equals if incomplete.startswith("-") and equals else ""
    offers = [
        (value if value.startswith(joined) else joined + value, item.help or "")
        for item in _Question(program, words, incomplete).items()
        if (value := str(item.value))
    ]
    if shell == "bash":
        start = _word_start(line, incomplete, joined)
        offers = [(value[start:], text) for value, text in offers]
    if not offers:  # a home directory or a variable is for the shell to expand
        return "" if incomplete.startswith("~") or "$" in incomplete else "none\n"
    return "".join(_lines(shell, offers))


def _split(line: str) -> list[str]:
    """Return the words of a line without quotes; the last is "" after a blank."""
    words = split_arg_string(line)
    return words if words and split_arg_string(line + "x")[-1] != "x" else [*words, ""]


def _split_lines(line: str) -> list[str]:
    return [
        word[1:].removesuffix(word[0]).replace("''", "'") if word[:1] in {"'", '"'} else word
        for word in line.split("\n")
    ]


def _word_start(line: str, word: str, joined: str) -> int:
    """Return the index in `word` at which bash begins its word: after its last break character.

    Within quotes bash does not break. Before them, only the ``=`` of an option counts.
    """
    breaks = set(os.environ.get(_BREAKS, "")) & set(":=@")
    before = line.removesuffix(word)
    if before != line and before[-1:].isspace():  # typed without quotes
        return max((word.rfind(char) for char in breaks), default=-1) + 1
    return len(joined) if "=" in breaks else 0


def _lines(shell: str, offers: list[tuple[str, str]]) -> list[str]:
    """Return the lines of the answer."""
    values = [value for value, _ in offers]
    are_files = any(value.endswith(os.sep) or not HARMLESS.fullmatch(value) for value in values)
    kind = "files\n" if are_files else "words\n"
    if shell == "bash" and are_files:  # bash itself puts the slash behind a directory
        return [kind, *(f"{value.rstrip(os.sep) or os.sep}\n" for value in values)]
    if shell == "bash" or (shell == "zsh" and are_files):
        return [kind, *(f"{value}\n" for value in values)]
    if shell == "zsh":
        offers = [(value.replace(":", "\\:"), text) for value, text in offers]
        return [kind, *(f"{value}:{text}\n" if text else f"{value}\n" for value, text in offers)]
    if shell == "fish":
        return [f"{value}\t{text}\n" if text else f"{value}\n" for value, text in offers]
    if shell == "powershell":
        return [f"{_quoted(value)}\t{value}\t{text or value}\n" for value, text in offers]
    return []


def _quoted(value: str) -> str:
    """Return `value` as one word of PowerShell."""
    if HARMLESS.fullmatch(value) and not value.startswith("@"):
        return value
    return "'" + value.replace("'", "''") + "'"
