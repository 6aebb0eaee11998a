"""The only writer to stdout and stderr.

stdout carries the answer, stderr everything else. A reader of stdout that goes away never stops
the work: `answer` falls silent, `stream` raises `StdoutClosedError` so that a long listing ends.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.errors import ModelstoreError

_LINE_LIMIT = 2000  # characters of one message: enough for a path of the greatest length


class StdoutClosedError(Exception):
    """Nobody reads stdout any more."""


class StdoutFailedError(Exception):
    """Stdout could not be written: a full disk, an I/O error."""


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether `stream` is a terminal; a closed one is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


class Output:
    """Both streams of one run of the program."""

    def __init__(self) -> None:
        self.stdout_is_terminal = is_terminal(sys.stdout)
        self.stderr_is_terminal = is_terminal(sys.stderr)
        self.stdout_closed = sys.stdout is None
        self._above: Callable[[str], None] | None = None
        self.under_github_actions = (
            os.environ.get("GITHUB_ACTIONS") == "true"
        )  # what looks like a command is
        self._begins_line = True  # whatever is written to stdout next

    @property
    def width(self) -> int:
        """Columns of the terminal; 80 where it does not say."""
        return max(20, shutil.get_terminal_size((80, 24)).columns)

    @property
    def color(self) -> bool:
        """Whether styles may be used on stdout: a terminal, not dumb, and no NO_COLOR."""
        return (
            self.stdout_is_terminal
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM", "") not in ("dumb", "unknown")
        )

    def answer(self, text: str) -> None:
        """Write `text` to stdout as it is; a reader that went away is no error."""
        try:
            self.stream(text)
        except StdoutClosedError:
            return

    def stream(self, text: str) -> None:
        """Write `text` to stdout as it is. Raises `StdoutClosedError` where nobody reads it.

        GitHub's runner finds no command in it.
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
        """Hand everything to the system. Raises as `stream` does, but for a closed reader."""
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
        """Hand the lines of stderr to `writer` while a live display holds the terminal's foot."""
        self._above = writer

    def message(self, text: str, *, is_command: bool = False) -> None:
        """Write one line to stderr, made safe; a closed stderr is no error.

        `is_command`: it is meant for GitHub's runner to obey.
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
        """Say something useful that is neither the answer nor a fault."""
        self.message(f"note: {text}")

    def warn(self, text: str) -> None:
        """Say that something may go wrong."""
        self.message(f"warning: {text}")

    def error(self, error: ModelstoreError) -> None:
        """Say what failed in one sentence, and what to do in one hint."""
        self.message(f"error: {error.message}")
        if error.hint:
            self.message(f"hint: {error.hint}")


def _without_commands(text: str, *, begins_line: bool) -> str:
    from modelstore.render.github import without_commands

    return without_commands(text, begins_line=begins_line)


def _encoded(text: str) -> bytes:
    """Return UTF-8; a file name's bytes that are no text stay exactly what they are."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _encoding(stream: TextIO) -> str:
    return stream.encoding or "utf-8"


def _abandon_stdout() -> None:
    """Point descriptor 1 at the null device, so that Python's own flush at exit is silent."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        return


_current: Output | None = None


def current() -> Output:
    """Return the output of this run; made at first use."""
    global _current  # noqa: PLW0603  # one process has one stdout
    if _current is None:
        _current = Output()
    return _current
