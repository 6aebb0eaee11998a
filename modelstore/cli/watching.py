"""``inspect-wal --watch``: the log at an interval, until Ctrl-C.

Each look reads the raw files. SQLite opens nothing, and nothing is written. The files may vanish
and come back: the watch says so and goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import ExitCode, ModelstoreError, UsageError
from modelstore.text import human_bytes, human_seconds, plural, process_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.render.report import Part
    from modelstore.wal.inspection import Inspection

_SHORTEST = 0.1  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the log, and its growth since the look before.

    `growth` is in frames a second, None if there is nothing to compare with.
    """

    at: float  # seconds of the monotonic clock
    found: Inspection
    growth: float | None


def watch_log(out: Output, choice: DatabaseChoice, interval: float, form: str | None) -> ExitCode:
    """Show the log every `interval` seconds until Ctrl-C, which is no failure here.

    Raises what the first look raises; a later one that fails is shown, and the watch goes on.
    """
    if form not in (None, "table", "json", "jsonl"):
        raise UsageError("--watch shows a table or JSON lines", hint="use -f jsonl")
    interval = max(_SHORTEST, interval)
    looks = _looks(choice, interval)
    try:
        if form in ("json", "jsonl"):
            _watch_lines(out, looks)
        elif out.stdout_is_terminal:
            _watch_screen(out, looks, interval)
        else:
            _watch_words(out, looks)
    except KeyboardInterrupt:
        return ExitCode.OK
    return ExitCode.OK


def _looks(choice: DatabaseChoice, interval: float) -> Iterator[Look | ModelstoreError]:
    """Yield a look at the files each `interval`, or the error that a later look ended with."""
    seen: Look | ModelstoreError = _look(choice, None)
    while True:
        yield seen
        time.sleep(interval)
        try:
            seen = _look(choice, seen if isinstance(seen, Look) else None)
        except ModelstoreError as error:  # the files may come back
            seen = error


def _look(choice: DatabaseChoice, before: Look | None) -> Look:
    from modelstore.wal.inspection import inspect_log

    found = inspect_log(choice.path, names=("models", "name"))
    now = time.monotonic()
    growth = None
    if before is not None and found.scan.header is not None:
        restarted = (
            before.found.scan.header is None
            or before.found.scan.header.salt != found.scan.header.salt
        )
        base = 0 if restarted else before.found.scan.max_frame
        growth = (found.scan.max_frame - base) / max(now - before.at, 0.001)
    return Look(now, found, growth)


def _growth(look: Look) -> str:
    if look.growth is None:
        return "growth: not known yet"
    per_second = look.growth * (look.found.scan.page_size + 24)
    return f"growth: {look.growth:,.1f} frames/s, {human_bytes(int(per_second))}/s"


def _watch_lines(out: Output, looks: Iterator[Look | ModelstoreError]) -> None:
    """Write one JSON object a line; a look that failed has `time` and `error` alone."""
    from modelstore.render.inspection_json import inspection_payload
    from modelstore.render.rows import dump_json

    for look in looks:
        line: dict[str, object] = {"time": time.time()}
        if isinstance(look, ModelstoreError):
            line["error"] = look.message
        else:
            line |= {"frames_per_second": look.growth, **inspection_payload(look.found)}
        out.stream(dump_json(line) + "\n")
        out.flush()


def _watch_words(out: Output, looks: Iterator[Look | ModelstoreError]) -> None:
    from modelstore.text import visible

    for look in looks:
        words = (
            f"{visible(look.message, 500)}; waiting for it"
            if isinstance(look, ModelstoreError)
            else _words(look)
        )
        out.stream(f"{time.strftime('%H:%M:%S')} {words}\n")
        out.flush()


def _words(look: Look) -> str:
    from modelstore.text import visible

    scan, found = look.found.scan, look.found
    blockers = ", ".join(
        visible(process_name(blocker.pid, blocker.command, *blocker.facts), 100)
        for blocker in found.blockers
    )
    return (
        f"{human_bytes(scan.size)}, {scan.max_frame} committed, "
        f"{found.checkpointed} checkpointed, {found.pending} left; {_growth(look)}; "
        f"blockers: {blockers or 'none'}"
    )


def _watch_screen(out: Output, looks: Iterator[Look | ModelstoreError], interval: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from modelstore.text import visible

    console = Console(no_color=not out.color, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        for look in looks:
            shown = (
                f"{visible(look.message, 500)}; waiting for it\n"
                if isinstance(look, ModelstoreError)
                else _drawn(out, look, interval)
            )
            live.update(Text.from_ansi(shown), refresh=True)


def _drawn(out: Output, look: Look, interval: float) -> str:
    from modelstore.cli.reporting import screen_of
    from modelstore.render.grid import Cell
    from modelstore.render.inspection import frame_grid, lock_grid
    from modelstore.render.log_picture import log_picture
    from modelstore.render.report import write_body
    from modelstore.render.statements import statements

    found = look.found
    body: list[Part] = [Cell(said.text, said.tone) for said in statements(found)]
    if found.scan.header is not None:
        body.append(frame_grid(found))
        body.append(
            f"{human_bytes(found.scan.size)} on disk, "
            f"{plural(found.scan.commit_count, 'commit')}; {_growth(look)}"
        )
        body += log_picture(found, out.width)
    if found.locks.holders:
        body.append(lock_grid(found))
    body.append(Cell(f"every {human_seconds(interval)}; Ctrl-C ends it", "dim"))
    lines: list[str] = []
    write_body(lines.append, body, screen_of(out))
    return "".join(lines)
