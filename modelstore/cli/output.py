"""The only writer to stdout and stderr.

stdout carries the answer, stderr everything else. A reader of stdout that goes away never stops
the work: `answer` falls silent. `stream` raises `StdoutClosedError`, which ends a long listing.

Colour follows ``--color``, then NO_COLOR, FORCE_COLOR, then the terminal. On a terminal an answer
for a person is held until the work is done, and shown in a pager if it is longer than the screen:
no database is open while somebody reads.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, TextIO

from modelstore.errors import UsageError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from modelstore.errors import ModelstoreError
    from modelstore.progress import Progress

_HELD = 4_000_000  # characters of an answer that waits for the pager; a longer one streams
_STYLES = {"good": "32", "warn": "33", "bad": "1;31", "dim": "2", "strong": "1", "name": "36"}
_PREFIXES = {
    "error:": "bad",
    "hint:": "name",
    "warning:": "warn",
    "skipped:": "warn",
    "note:": "dim",
}
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
        self.line: Progress | None = None  # the line of progress at the foot of the terminal
        self.hide_line: Callable[[], AbstractContextManager[None]] | None = None
        self.wants_progress = True  # False with -q
        # GitHub's runner obeys lines that look like its commands: outside text is defused.
        self.under_github_actions = os.environ.get("GITHUB_ACTIONS") == "true"
        self._begins_line = True  # the next text on stdout begins a line
        self.color_mode = "auto"  # or always, never
        self.may_page = True  # False with --no-pager
        self._held: list[str] | None = None  # an answer that waits for the pager
        self._held_size = 0  # characters

    @property
    def width(self) -> int:
        """Columns of the terminal, 80 if unknown."""
        from shutil import get_terminal_size

        return max(20, get_terminal_size((80, 24)).columns)

    @property
    def shows_progress(self) -> bool:
        """True if a line of progress may come and go on stderr."""
        return self.stderr_is_terminal and self.wants_progress and not _is_dumb()

    @property
    def has_screen(self) -> bool:
        """True if stdout is a terminal whose whole screen may be drawn on."""
        return self.stdout_is_terminal and not _is_dumb()

    @property
    def color(self) -> bool:
        """True if stdout takes styles."""
        return self._takes_styles(is_terminal=self.stdout_is_terminal)

    def _takes_styles(self, *, is_terminal: bool) -> bool:
        if self.color_mode != "auto":
            return self.color_mode == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return is_terminal and not _is_dumb()

    def style(self, text: str, tone: str) -> str:
        """Return `text` in the style of `tone`, if stdout takes styles."""
        return styled(text, tone) if self.color and tone else text

    def page(self) -> None:
        """Hold what is written to a terminal from now on, for the pager at the end."""
        if self.stdout_is_terminal and self.may_page and self._held is None:
            self._held = []

    def _release(self) -> None:
        """Write the held answer, through the pager if it is longer than the screen."""
        held, self._held = self._held, None
        text = "".join(held or ())
        if self._is_long(text):
            from modelstore.cli.pager import show_in_pager

            if show_in_pager(text):
                return
        self._write(text)

    def _is_long(self, text: str) -> bool:
        if _is_dumb():
            return False
        from shutil import get_terminal_size

        rows = get_terminal_size((80, 24)).lines
        return text.count("\n") >= rows

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
        if self._held is not None:
            self._held.append(text)
            self._held_size += len(text)
            if self._held_size > _HELD:
                held, self._held, self.may_page = self._held, None, False
                self._write("".join(held))
            return
        self._write(text)

    def _write(self, text: str) -> None:
        if self.hide_line is not None and self.stdout_is_terminal:
            with self.hide_line():
                self._write_now(text)
        else:
            self._write_now(text)

    def _write_now(self, text: str) -> None:
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
            if self._held is not None:
                self._release()
            sys.stdout.flush()
        except StdoutClosedError:
            return
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
            word, blank, rest = line.partition(" ")
            if word in _PREFIXES and self._takes_styles(is_terminal=self.stderr_is_terminal):
                line = styled(word, _PREFIXES[word]) + blank + rest
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
        if self.hide_line is None:
            return self._ask(question)
        with self.hide_line():
            return self._ask(question)

    def _ask(self, question: str) -> bool:
        self.flush()
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


def _is_dumb() -> bool:
    """Tell whether the terminal takes plain lines alone."""
    return os.environ.get("TERM", "") in ("dumb", "unknown")


def styled(text: str, tone: str) -> str:
    """Return `text` in the style of a tone, as escape sequences; it is safe already."""
    return f"\x1b[{_STYLES[tone]}m{text}\x1b[0m" if tone in _STYLES else text


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
