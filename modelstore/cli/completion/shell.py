"""What the program answers a shell that asks how a line goes on.

The shell says in ``_MODELSTORE_COMPLETE`` which it is and in ``_MODELSTORE_LINE`` what was typed
up to the cursor (PowerShell: one word a line). The answer is one word a line; bash and zsh are
told first whether these are ``files``, which they have to quote, or plain ``words``. A failure is
no answer: nothing may be printed amid what is being typed.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from typer._click.shell_completion import ShellComplete, split_arg_string

from modelstore.cli.main import COMPLETION_VARIABLE

if TYPE_CHECKING:
    from typer._click.shell_completion import CompletionItem

HARMLESS = re.compile(r"[\w.:/@%+=,-]*")
"""What every shell takes as one plain word."""

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
        """Return what could come next."""
        return self.get_completions(*self._typed)


def answer(program: Any) -> str:  # noqa: ANN401  # Typer's command object has no public name
    """Return what the shell is told; "" where there is nothing to offer."""
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
    return "".join(_told(shell, offers)) if offers else ""


def _split(line: str) -> list[str]:
    """Return the words of a line without their quotes; the last one is "" after a blank."""
    words = split_arg_string(line)
    return words if words and split_arg_string(line + "x")[-1] != "x" else [*words, ""]


def _split_lines(line: str) -> list[str]:
    return [
        word[1:].removesuffix(word[0]).replace("''", "'") if word[:1] in {"'", '"'} else word
        for word in line.split("\n")
    ]


def _word_start(line: str, word: str, joined: str) -> int:
    """Return where in `word` the word begins for bash: behind the last of its break characters.

    Within quotes it breaks at none; before them, the ``=`` of an option is the one that matters.
    """
    breaks = set(os.environ.get(_BREAKS, "")) & set(":=@")
    before = line.removesuffix(word)
    if before != line and before[-1:].isspace():  # typed without quotes
        return max((word.rfind(char) for char in breaks), default=-1) + 1
    return len(joined) if "=" in breaks else 0


def _told(shell: str, offers: list[tuple[str, str]]) -> list[str]:
    """Return the lines of the answer."""
    values = [value for value, _ in offers]
    are_files = any(value.endswith(os.sep) or not HARMLESS.fullmatch(value) for value in values)
    kind = "files\n" if are_files else "words\n"
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
