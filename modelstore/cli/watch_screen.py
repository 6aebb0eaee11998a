"""The full screen of ``inspect-wal --watch``: keys, resizing, and a terminal left as it was found.

A glance at each interval gives the figures of the history; it costs a millisecond. A look at the
whole log, for the map, runs in a thread when the files have changed, so that keys and clock never
wait for it, and it rests some times as long as it took.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from modelstore.errors import ModelstoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from rich.text import Text

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.progress import Progress
    from modelstore.render.log_map import LogMap
    from modelstore.render.watch_view import Look, Sample
    from modelstore.wal.glance import Glance
    from modelstore.wal.inspection import Inspection

try:
    import termios
    import tty
except ImportError:  # Windows: no keys, and Ctrl-C ends it
    termios = tty = None  # type: ignore[assignment]

_HISTORY = 400  # samples: more than the widest screen shows
_TICK = 1.0  # seconds between two drawings at most, so that the clock ticks
_POLL = 0.2  # seconds between two drawings where a wait cannot be cut short


def watch_screen(out: Output, choice: DatabaseChoice, interval: float, rest: int) -> None:
    """Show the log on the whole terminal until ``q`` or Ctrl-C.

    Glances come every `interval` seconds. A look rests `rest` times as long as it took. Raises
    what the first look raises, before the terminal changes.
    """
    from modelstore.cli.progress import progress

    with progress(out, "", "reading the log") as show:
        watch = _Watch(choice.path, interval, rest, show)
    with _Terminal(out) as terminal:
        watch.wake = terminal.wake
        is_paused = False
        while True:
            if not is_paused:
                watch.advance()
            terminal.draw(watch.lines(terminal, choice.path, is_paused=is_paused))
            key = terminal.wait(_TICK if is_paused else watch.until_next())
            if key in ("q", "Q"):
                return
            if key in ("p", "P", " "):
                is_paused = not is_paused


class _Watch:
    """The figures of a watched log: the history of glances, and the latest whole look."""

    def __init__(self, path: str, interval: float, rest: int, progress: Progress) -> None:
        self.wake: Callable[[], None] = lambda: None  # is called from the thread of a look
        self._path = path
        self._interval = interval
        self._rest = rest
        self._samples: deque[Sample] = deque(maxlen=_HISTORY)
        self._problem: str | None = None
        self._before: tuple[float, tuple[int, int] | None, int] | None = None
        self._due = 0.0  # when the next glance is due, by the monotonic clock
        self._looking: threading.Thread | None = None
        self._look_due = 0.0
        self._looked_at: tuple[object, ...] | None = None
        self.found: Inspection | None = None
        self.found_at = 0.0
        self._map: tuple[tuple[object, ...], LogMap | None] | None = None
        self._glance = _glance(path)
        self._look(self._glance, progress)

    def advance(self) -> None:
        """Take a glance if it is due, and begin a look at the log if it has changed."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._interval
        try:
            glance = _glance(self._path)
        except ModelstoreError as error:  # the files may come back
            self._problem, self._before = error.message, None
            return
        self._problem = None
        self._glance = glance
        self._sample(now, glance)
        is_idle = self._looking is None or not self._looking.is_alive()
        if is_idle and now >= self._look_due and glance.stamp != self._looked_at:
            self._looking = threading.Thread(target=self._look, args=(glance,), daemon=True)
            self._looking.start()

    def until_next(self) -> float:
        """Return the seconds until the screen changes by itself."""
        return max(0.0, min(_TICK, self._due - time.monotonic()))

    def _look(self, glance: Glance, progress: Progress | None = None) -> None:
        """Read the whole log. In a thread a failure is left to the next glance, which names it."""
        from modelstore.wal.inspection import inspect_log

        began = time.monotonic()
        is_first = self.found is None
        try:
            names = ("models", "name")
            self.found = inspect_log(self._path, names=names, progress=progress)
        except ModelstoreError:
            if is_first:
                raise
        self.found_at = time.monotonic()
        self._looked_at = glance.stamp
        self._look_due = self.found_at + self._rest * (self.found_at - began)
        self.wake()

    def _sample(self, now: float, glance: Glance) -> None:
        from modelstore.render.watch_view import Sample

        index, found = glance.index, self.found
        if index is not None:
            salt, frames, left = index.salt, index.max_frame, index.pending
        elif found is not None and found.scan.header is not None:
            salt, frames, left = found.scan.header.salt, found.scan.max_frame, found.pending
        else:
            salt, frames, left = (0, 0), 0, 0
        rate = None
        if self._before is not None:
            then, before_salt, before = self._before
            base = before if salt == before_salt else 0
            rate = max(0, frames - base) / max(now - then, 0.001)
        self._before = now, salt, frames
        self._samples.append(Sample(glance.size, rate, left))

    def lines(self, terminal: _Terminal, database: str, *, is_paused: bool) -> list[Text]:
        """Return the lines of the screen as it is now."""
        from modelstore.render.watch_view import WatchState, watch_lines

        state = WatchState(
            database,
            time.strftime("%H:%M:%S"),
            self._interval,
            is_paused,
            tuple(self._samples),
            self.found,
            0.0 if self._glance.stamp == self._looked_at else time.monotonic() - self.found_at,
            self._glance.blockers,
            self._problem,
            self._to_map,
        )
        return watch_lines(state, terminal.look())

    def _to_map(self, found: Inspection, bins: int, lanes: int) -> LogMap | None:
        """Return the map of `found`, made anew only for another look or another size."""
        from modelstore.render.log_map import map_log

        key = (id(found), self.found_at, bins, lanes)
        if self._map is None or self._map[0] != key:
            self._map = (key, map_log(found, bins, lanes))
        return self._map[1]


def _glance(path: str) -> Glance:
    from modelstore.wal.glance import glance_at

    return glance_at(path)


class _Terminal:
    """The alternate screen of the terminal, its keys and its signals, until the block ends.

    Leaving restores the terminal whatever ended the block; Ctrl-Z restores it while the process is
    stopped. Only SIGKILL and SIGSTOP cannot be answered.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._keys: int | None = None  # the descriptor of stdin, if it is a terminal
        self._saved: list[Any] = []  # the settings of the terminal before
        self._handlers: dict[int, object] = {}
        self._pipe: tuple[int, int] | None = None
        self._is_stopping = False

    def __enter__(self) -> Self:
        """Take the terminal."""
        from rich.console import Console
        from rich.live import Live

        self._console = Console(no_color=not self._out.color, highlight=False, force_terminal=True)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,  # its stand-in for stdout knows neither size nor encoding
            redirect_stderr=False,
        )
        if termios is not None:
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
            if sys.stdin is not None and sys.stdin.isatty():
                self._keys = sys.stdin.fileno()
            for name, handler in (("SIGWINCH", self._resized), ("SIGTSTP", self._stop)):
                number = getattr(signal, name)
                self._handlers[number] = signal.signal(number, handler)
        try:
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back as it was; a second Ctrl-C cannot cut that short."""
        again = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._give_back()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            pipe, self._pipe = self._pipe, None
            for end in pipe or ():
                os.close(end)
        finally:
            signal.signal(signal.SIGINT, again)

    def _take(self) -> None:
        if self._keys is not None:
            self._saved = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)  # keys without Enter; Ctrl-C and Ctrl-Z stay signals
        self._live.start()

    def _give_back(self) -> None:
        with suppress(OSError):  # the terminal is gone
            self._live.stop()
        if self._keys is not None and self._saved:
            with suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)

    def look(self) -> Look:
        """Return the size of the terminal now, and what it shows."""
        from modelstore.render.watch_view import Look

        width, height = _size(self._out)
        self._console.size = (width, height)
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        return Look(width, height, self._out.color, encoding.startswith("utf"))

    def draw(self, lines: list[Text]) -> None:
        """Show `lines` from the first row on."""
        from rich.text import Text

        text = Text("\n", no_wrap=True, overflow="crop").join(lines)
        self._live.update(text, refresh=True)

    def wait(self, seconds: float) -> str:
        """Return the next key, or nothing once `seconds` are over or something has happened."""
        if self._is_stopping:
            self._suspend()
            return ""
        if self._pipe is None:
            time.sleep(min(seconds, _POLL))
            return ""
        sources = [self._pipe[0], *([self._keys] if self._keys is not None else [])]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._pipe[0] in ready:
            with suppress(BlockingIOError):
                os.read(self._pipe[0], 4096)
        if self._keys is None or self._keys not in ready:
            return ""
        try:
            key = os.read(self._keys, 1)
        except OSError:
            key = b""
        if not key:  # no key can come any more
            self._keys = None
        return key.decode("ascii", "replace")

    # -- signals and the thread of a look: each only ends the wait ------------------------

    def wake(self) -> None:
        """End the wait: there is something to show."""
        pipe = self._pipe
        if pipe is not None:
            with suppress(OSError):  # full, or closed at this moment
                os.write(pipe[1], b"\0")

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        self.wake()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        self.wake()

    def _suspend(self) -> None:
        """Give the terminal back, stop as Ctrl-Z asks, and take it again when the shell says so."""
        self._is_stopping = False
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # the process stands here until SIGCONT
        signal.signal(signal.SIGTSTP, self._stop)
        self._take()


def _size(out: Output) -> tuple[int, int]:
    """Return the columns and rows of the terminal that stdout is, at this moment."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return out.width, 24
    return max(1, size.columns), max(1, size.lines)
