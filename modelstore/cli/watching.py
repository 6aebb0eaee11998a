"""A log on the screen until Ctrl-C: how it grows, what is folded, who stands in the way.

No SQLite connection is opened and nothing is written: the raw files are read at each look.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.cli.options import Format
from modelstore.errors import ExitCode, ModelstoreError, UsageError
from modelstore.text import human_bytes, human_seconds, plural

if TYPE_CHECKING:
    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.render.report import Part
    from modelstore.wal.inspection import Inspection

_LEAST = 0.1  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Look:
    """One look, and how the log moved since the one before (frames a second, None at first)."""

    at: float
    found: Inspection
    growth: float | None


def watch_log(
    out: Output, choice: DatabaseChoice, interval: float, form: Format | None
) -> ExitCode:
    """Show the log every `interval` seconds until Ctrl-C, which is no failure here."""
    if form not in (None, Format.TABLE, Format.JSON, Format.JSONL):
        raise UsageError("--watch shows a table or JSON lines", hint="use -f jsonl")
    interval = max(_LEAST, interval)
    try:
        if form in (Format.JSON, Format.JSONL):
            _watch_lines(out, choice, interval)
        elif out.stdout_is_terminal:
            _watch_screen(out, choice, interval)
        else:
            _watch_words(out, choice, interval)
    except KeyboardInterrupt:
        return ExitCode.OK
    return ExitCode.OK


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


def _watch_lines(out: Output, choice: DatabaseChoice, interval: float) -> None:
    from modelstore.render.inspection_json import inspection_payload
    from modelstore.render.rows import dump_json

    look = None
    while True:
        look = _look(choice, look)
        payload = {"time": time.time(), "frames_per_second": look.growth}
        out.stream(dump_json({**payload, **inspection_payload(look.found)}) + "\n")
        out.flush()
        time.sleep(interval)


def _watch_words(out: Output, choice: DatabaseChoice, interval: float) -> None:
    look = None
    while True:
        look = _look(choice, look)
        scan, found = look.found.scan, look.found
        blockers = ", ".join(f"pid {b.pid or 'unknown'}" for b in found.blockers) or "nobody"
        out.stream(
            f"{time.strftime('%H:%M:%S')} {human_bytes(scan.size)}, {scan.max_frame} committed, "
            f"{found.checkpointed} checkpointed, {found.pending} left; {_growth(look)}; "
            f"in the way: {blockers}\n"
        )
        out.flush()
        time.sleep(interval)


def _watch_screen(out: Output, choice: DatabaseChoice, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=not out.color, highlight=False)
    look = None
    with Live(console=console, auto_refresh=False) as live:
        while True:
            try:
                look = _look(choice, look)
                shown = _drawn(out, look, interval)
            except ModelstoreError as error:  # the files may come back
                look, shown = None, f"{error.message}\n"
            live.update(Text.from_ansi(shown), refresh=True)
            time.sleep(interval)


def _drawn(out: Output, look: Look, interval: float) -> str:
    from modelstore.cli.catalogue_session import screen_of
    from modelstore.render.grid import Cell
    from modelstore.render.inspection import frame_grid, lock_grid, state_lines
    from modelstore.render.log_picture import log_picture
    from modelstore.render.report import write_body

    found = look.found
    body: list[Part] = [Cell(line, tone) for line, tone in state_lines(found)]
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
