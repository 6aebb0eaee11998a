"""A line of progress on stderr, on a terminal only."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.cli.output import Output

_INTERVAL = 0.1  # seconds between two looks of the line


class Progress(Protocol):
    """Takes what is being done, how many are done, and of how many where that is known."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Show it; cheap enough to be called for each item."""
        ...


def _silent(what: str, done: int, total: int | None = None) -> None:
    del what, done, total


@contextmanager
def progress(out: Output, unit: str) -> Iterator[Progress]:
    """Yield a progress line that counts `unit`s; silent where stderr is no terminal."""
    if not out.stderr_is_terminal:
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.text import Text

    class _Line(TextColumn):
        def render(self, task: object) -> Text:  # outside text: never read as markup
            return Text(str(getattr(task, "description", "")))

    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(), _Line(""), BarColumn(bar_width=20), console=console, transient=True
    )
    started = last = time.monotonic()
    task = bar.add_task("", total=None)

    def update(what: str, done: int, total: int | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _INTERVAL:
            return
        last = now
        rate = done / (now - started)
        count = f"{done:,}" + (f" of {total:,}" if total else "")
        width = max(10, out.width - len(count) - 50)
        line = f"{visible(what, width)}  {count} {unit}, {rate:,.0f}/s"
        bar.update(task, description=line, completed=done, total=total)

    with bar:
        yield update
