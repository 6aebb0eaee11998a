"""The only writer to stdout and stderr.

stdout carries the answer, stderr everything else. A reader of stdout that goes away never stops
the work: `answer` falls silent. `stream` raises `StdoutClosedError`, which ends a long listing.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

from modelstore.errors import UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.errors import ModelstoreError

_LINE_LIMIT = 2000  # characters of one message: enough for a path of the greatest length


class StdoutClosedError(Exception):
    """The reader of stdout is gone."""


class StdoutFailedError(Exception):
    """Writing to stdout failed: a full disk, an I/O error."""


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether `stream` is a terminal. A closed stream is not."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


class Output:
    """stdout and stderr of one run of the program."""

    def __init__(self) -> None:
        self.stdout_is_terminal = is_terminal(sys.stdout)
        self.stderr_is_terminal = is_terminal(sys.stderr)
        self.stdout_closed = sys.stdout is None
        self._above: Callable[[str], None] | None = None
        # GitHub's runner obeys lines that look like its commands: those of others are defused.
        self.under_github_actions = os.environ.get("GITHUB_ACTIONS") == "true"
        self._begins_line = True  # the next text on stdout begins a line

    @property
    def width(self) -> int:
        """Columns of the terminal, 80 if unknown."""
        return max(20, shutil.get_terminal_size((80, 24)).columns)

    @property
    def color(self) -> bool:
        """True if stdout takes styles: a terminal, not dumb, without NO_COLOR."""
        return (
            self.stdout_is_terminal
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM", "") not in ("dumb", "unknown")
        )

    def answer(self, text: str) -> None:
        """Write `text` to stdout unchanged; ignore a closed reader."""
        try:
            self.stream(text)
        except StdoutClosedError:
            return

    def stream(self, text: str) -> None:
        """Write `text` to stdout unchanged, but defuse commands to GitHub's runner.

        Raises `StdoutClosedError` if the reader is gone, `StdoutFailedError` for other errors.
        """
        if self.stdout_closed:
            raise StdoutClosedError
        if self.under_github_actions and text:
            text, before = _without_commands(text, begins_line=self._begins_line), text
            self._begins_line = before.endswith(("\n", "\r"))
        try:
            if self.stdout_is_terminal:
                sys.stdout.write(
                    text.encode(_encoding(sys.stdout), "backslashreplace").decode(
                        _encoding(sys.stdout)
                    )
                )
            else:
                sys.stdout.buffer.write(_encoded(text))
        except (OSError, ValueError) as error:
            self._stdout_failed(error)

    def flush(self) -> None:
        """Flush stdout. Raises `StdoutFailedError`; ignores a closed reader."""
        if self.stdout_closed:
            return
        try:
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            try:
                self._stdout_failed(error)
            except StdoutClosedError:
                return

    def _stdout_failed(self, error: OSError | ValueError) -> None:
        self.stdout_closed = True
        _abandon_stdout()
        if isinstance(error, ValueError) or error.errno in (errno.EPIPE, errno.EINVAL):
            raise StdoutClosedError from error
        raise StdoutFailedError(os.strerror(error.errno or 0)) from error

    def write_above(self, writer: Callable[[str], None] | None) -> None:
        """Send the lines of stderr to `writer` while a live display uses the last lines."""
        self._above = writer

    def message(self, text: str, *, is_command: bool = False) -> None:
        """Write one line to stderr, escaped; ignore a closed stderr.

        `is_command` marks a command to GitHub's runner.
        """
        if sys.stderr is None:
            return
        try:
            encoding = _encoding(sys.stderr)
            line = visible(text, _LINE_LIMIT)
            if self.under_github_actions and not is_command:
                line = _without_commands(line, begins_line=True)
            line = line.encode(encoding, "backslashreplace").decode(encoding)
            if self._above is not None:
                self._above(line)
                return
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return

    def note(self, text: str) -> None:
        """Write a remark that is neither the answer nor a fault."""
        self.message(f"note: {text}")

    def warn(self, text: str) -> None:
        """Write a warning."""
        self.message(f"warning: {text}")

    def error(self, error: ModelstoreError) -> None:
        """Write an error in one sentence, and its hint."""
        self.message(f"error: {error.message}")
        if error.hint:
            self.message(f"hint: {error.hint}")

    @property
    def can_ask(self) -> bool:
        """True if a person can read a question on stderr and answer it on stdin."""
        return self.stderr_is_terminal and is_terminal(sys.stdin)

    def ask(self, question: str) -> bool:
        """Ask on the terminal; return True for yes."""
        sys.stderr.write(visible(question, _LINE_LIMIT) + " [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def confirm(self, question: str, *, yes: bool, refusal: str) -> bool:
        """Return True with `yes`, else ask the person.

        Raises `UsageError` with the words of `refusal` if nobody can answer.
        """
        if yes:
            return True
        if not self.can_ask:
            raise UsageError(refusal, hint="add --yes to do it without a question")
        return self.ask(question)


def _without_commands(text: str, *, begins_line: bool) -> str:
    from modelstore.render.github import without_commands

    return without_commands(text, begins_line=begins_line)


def _encoded(text: str) -> bytes:
    """Return UTF-8 in which the bytes of undecodable file names are kept."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _encoding(stream: TextIO) -> str:
    return stream.encoding or "utf-8"


def _abandon_stdout() -> None:
    """Point descriptor 1 at the null device, so that Python's flush at exit is silent."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        return


_current: Output | None = None


def current() -> Output:
    """Return the output of this run; create it at first use."""
    global _current  # noqa: PLW0603  # one process has one stdout
    if _current is None:
        _current = Output()
    return _current
