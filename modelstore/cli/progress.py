"""A line of progress at the foot of a terminal, once there is something to wait for."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from modelstore.progress import Progress, silent
from modelstore.text import human_seconds, process_name, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelstore.cli.output import Output
    from modelstore.wal.locks import Blocker

_DELAY = 0.4  # seconds before the line appears: quick work needs none
_INTERVAL = 0.1  # seconds between two updates of the line


@contextmanager
def progress(out: Output, unit: str) -> Iterator[Progress]:
    """Yield a progress line that counts `unit`s; it stays silent if stderr is no terminal."""
    with ExitStack() as stack:
        line = _Line(out, unit, stack)
        yield line if out.stderr_is_terminal else silent


class _Line:
    """The progress line; it imports Rich when it first appears."""

    def __init__(self, out: Output, unit: str, stack: ExitStack) -> None:
        self._out = out
        self._unit = unit
        self._stack = stack
        self._started = time.monotonic()
        self._last = self._started + _DELAY - _INTERVAL
        self._show: Callable[[str], None] | None = None

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if now - self._last < _INTERVAL:
            return
        self._last = now
        if self._show is None:
            self._show = _appear(self._out, self._stack)
        count = f"{done:,}" + (f" of {total:,}" if total else "")
        rate = done / max(now - self._started, 0.001)
        tail = f"  {count} {self._unit}, {rate:,.0f}/s"
        self._show(visible(what, max(10, self._out.width - len(tail) - 4)) + tail)


@contextmanager
def waiting_line(
    out: Output, patience: float
) -> Iterator[Callable[[tuple[Blocker, ...], float], None]]:
    """Yield a function that shows which processes a fold waits for, and how long already.

    `patience` is in seconds. Without a terminal, the first call writes one note.
    """

    def show(blockers: tuple[Blocker, ...], waited: float) -> None:
        names = ", ".join(
            process_name(blocker.pid, blocker.command, *blocker.facts) for blocker in blockers
        )
        line = (
            f"{human_seconds(waited)} of {human_seconds(patience)}: "
            f"waiting for {names or 'another checkpoint'}"
        )
        if not shown:
            shown.append(_appear(out, stack) if out.stderr_is_terminal else _once(out))
        shown[0](visible(line, max(10, out.width - 4) if out.stderr_is_terminal else None))

    shown: list[Callable[[str], None]] = []
    with ExitStack() as stack:
        yield show


def _once(out: Output) -> Callable[[str], None]:
    said = False

    def say(line: str) -> None:
        nonlocal said
        if not said:
            out.note(line)
        said = True

    return say


def _appear(out: Output, stack: ExitStack) -> Callable[[str], None]:
    """Start the live display; return the function that changes its text."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    console = Console(stderr=True)
    spinner = Spinner("dots")
    live = stack.enter_context(Live(spinner, console=console, transient=True))

    def above(line: str) -> None:
        live.console.print(Text.from_ansi(line), soft_wrap=True)

    out.write_above(above)
    stack.callback(out.write_above, None)
    return lambda line: spinner.update(text=Text(line))
