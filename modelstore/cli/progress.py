"""A line of progress at the foot of a terminal, once there is something to wait for.

It names the phase, the share that is done and, if known, the time left. It
appears by itself during work that reports nothing, and disappears when the work ends.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from modelstore.progress import Progress, silent
from modelstore.text import human_bytes, human_seconds, process_name, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.live import Live
    from rich.text import Text

    from modelstore.cli.output import Output
    from modelstore.wal.locks import Blocker

_DELAY = 0.4  # seconds before the line appears: quick work needs none
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES = 8  # a second
_LEAST = 12  # columns of the phase
_FORETOLD = 50  # the time left is foretold once a fiftieth is done
_SPEED_AFTER = 0.5  # seconds before a speed says anything


@contextmanager
def progress(out: Output, unit: str, what: str = "") -> Iterator[Progress]:
    """Yield a progress line that counts `unit`s, and shows `what` until the first call.

    It is silent if stderr is no terminal, or progress is not wanted. Within the block of another
    line the work is shown on that one.
    """
    if not out.shows_progress:
        yield silent
        return
    if isinstance(out.line, _Line):
        with out.line.counting(unit, what):
            yield out.line
        return
    line = _Line(out, unit, what)
    out.line, out.hide_line = line, line.hidden
    try:
        yield line
    finally:
        out.line = out.hide_line = None
        line.end()


def relay(out: Output) -> Progress:
    """Return a progress that shows work on the line that is there at the time, if any."""

    def tell(what: str, done: int, total: int | None = None, unit: str = "") -> None:
        if out.line is not None:
            out.line(what, done, total, unit)

    return tell


def waiting_line(out: Output, patience: float) -> Callable[[tuple[Blocker, ...], float], None]:
    """Return a function that shows which processes a fold waits for, and how long already.

    `patience` is in seconds. It writes to the line that is there; without a terminal, the first
    call writes one note.
    """
    is_said = False

    def show(blockers: tuple[Blocker, ...], waited: float) -> None:
        nonlocal is_said
        names = ", ".join(
            process_name(blocker.pid, blocker.command, *blocker.facts) for blocker in blockers
        )
        words = (
            f"{human_seconds(waited)} of {human_seconds(patience)}: "
            f"waiting for {names or 'another checkpoint'}"
        )
        if out.shows_progress:
            relay(out)(words, 0)
        elif not is_said:
            is_said = True
            out.note(words)

    return show


class _Work(NamedTuple):
    """The work at hand; it is `since` this moment that `done` grows."""

    what: str
    done: int
    total: int | None
    unit: str
    since: float  # seconds of the monotonic clock


class _Line:
    """The progress line. A timer lets it appear, so that no work is silent for long."""

    def __init__(self, out: Output, unit: str, what: str) -> None:
        self._out = out
        self._unit = unit
        self._work = _Work(what, 0, None, unit, time.monotonic())
        self._guard = threading.RLock()
        self._live: Live | None = None
        self._has_ended = False
        self._timer = threading.Timer(_DELAY, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, what: str, done: int, total: int | None = None, unit: str = "") -> None:
        before = self._work
        unit = unit or self._unit
        goes_on = (before.unit, before.total) == (unit, total) and 0 < before.done <= done
        since = before.since if goes_on else time.monotonic()
        self._work = _Work(what, done, total, unit, since)

    @contextmanager
    def counting(self, unit: str, what: str) -> Iterator[None]:
        """Show the progress of a part, then that of the whole again."""
        before = self._work, self._unit
        self._unit = unit
        if what:
            self(what, 0)
        try:
            yield
        finally:
            self._work, self._unit = before

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the line away for a block that writes to the terminal."""
        with self._guard:
            live, self._live = self._live, None
            if live is not None:
                live.stop()
            try:
                yield
            finally:
                if live is not None:
                    self._appear()

    def end(self) -> None:
        """Take the line away for good."""
        self._timer.cancel()
        with self._guard:
            self._has_ended = True
            if self._live is not None:
                self._live.stop()
                self._live = None
            self._out.write_above(None)

    def _appear(self) -> None:
        """Start the live display; it redraws itself in a thread of its own."""
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with self._guard:
            if self._has_ended or self._live is not None:
                return
            console = Console(stderr=True)
            live = Live(
                get_renderable=self._drawn,
                console=console,
                transient=True,
                refresh_per_second=_FRAMES,
                redirect_stdout=False,
                redirect_stderr=False,
            )

            def above(line: str) -> None:
                console.print(Text.from_ansi(line), soft_wrap=True)

            live.start()
            self._live = live
            self._out.write_above(above)

    def _drawn(self) -> Text:
        from rich.text import Text

        work, now = self._work, time.monotonic()
        tail = _figures(work, now - work.since)
        width = self._out.width - 1  # a key that is typed meanwhile must not wrap the line
        while len(tail) > width - _LEAST and ", " in tail:
            tail = tail.rpartition(", ")[0]  # narrow: without the time left, then without the speed
        room = max(_LEAST, width - len(tail) - 3)
        spinner = _SPINNER[int(now * _FRAMES) % len(_SPINNER)]
        words = f"{visible(work.what or 'working', room)}{tail}"[: width - 2]
        return Text.assemble((spinner, "cyan"), f" {words}", no_wrap=True, overflow="crop")


def _figures(work: _Work, seconds: float) -> str:
    """Return the share that is done, the counts, the speed and the time left, as far as known."""
    amount = _amount_of(work.unit)
    if not work.done and not work.total:
        return f"  {_duration(seconds)}" if seconds >= 1 else ""
    speed = work.done / seconds if work.done and seconds >= _SPEED_AFTER else 0.0
    words = amount(work.done)
    if work.total:
        percent = min(100, 100 * work.done // work.total)
        words = f"{percent} %  {words} of {amount(work.total)}"
    if work.unit != "bytes" and work.unit:
        words += f" {work.unit}"
    if speed >= 1:
        words += f", {amount(int(speed))}/s"
        if work.total and work.total // _FORETOLD <= work.done < work.total:
            words += f", {_duration((work.total - work.done) / speed)} left"
    return f"  {words}"


def _duration(seconds: float) -> str:
    """Return whole seconds in words, one at least."""
    return f"{max(1, int(seconds))} s" if seconds < 60 else human_seconds(seconds)


def _amount_of(unit: str) -> Callable[[int], str]:
    return human_bytes if unit == "bytes" else "{:,}".format
