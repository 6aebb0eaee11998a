"""``inspect-wal --watch``: the log at an interval, until Ctrl-C.

Each look reads the raw files. SQLite opens nothing, and nothing is written. A look at a large log
takes long, and then the next one waits: looks take a fifth of the time at most. The files may
vanish and come back: the watch says so and goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.errors import ExitCode, ModelstoreError, UsageError
from modelstore.text import human_bytes, process_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.cli.output import Output
    from modelstore.cli.session import DatabaseChoice
    from modelstore.wal.inspection import Inspection

_SHORTEST = 0.1  # seconds between two looks
_LOCKS_ALONE = "a watch looks at locks alone: a process may use a deleted log"
_REST = 4  # times as long as a look took, before the next one


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the log, and its growth since the look before.

    `growth` is in frames a second, None if there is nothing to compare with.
    """

    at: float  # seconds of the monotonic clock
    found: Inspection
    growth: float | None


def watch_log(out: Output, choice: DatabaseChoice, interval: float, form: str | None) -> ExitCode:
    """Show the log every `interval` seconds until Ctrl-C, which counts as success.

    Raises what the first look raises; a later one that fails is shown, and the watch goes on.
    """
    if form not in (None, "table", "json", "jsonl"):
        raise UsageError("--watch shows a table or JSON lines", hint="use -f jsonl")
    interval = max(_SHORTEST, interval)
    try:
        if form in ("json", "jsonl"):
            _watch_lines(out, _looks(choice, interval))
        elif out.has_screen:
            from modelstore.cli.watch_screen import watch_screen

            watch_screen(out, choice, interval, _REST)
        else:
            _watch_words(out, _looks(choice, interval))
    except KeyboardInterrupt:
        return ExitCode.OK
    return ExitCode.OK


def _looks(choice: DatabaseChoice, interval: float) -> Iterator[Look | ModelstoreError]:
    """Yield a look at the files each `interval`, or the error that a later look ended with."""
    began = time.monotonic()
    seen: Look | ModelstoreError = _look(choice, None)
    while True:
        cost = time.monotonic() - began
        yield seen
        time.sleep(max(interval, _REST * cost))
        began = time.monotonic()
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
            found = replace(look.found, locks=look.found.locks.doubted(_LOCKS_ALONE))
            line |= {"frames_per_second": look.growth, **inspection_payload(found)}
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
    none = "none" if found.locks.complete else "none seen"
    return (
        f"{human_bytes(scan.size)}, {scan.max_frame} committed, "
        f"{found.checkpointed} checkpointed, {found.pending} left; {_growth(look)}; "
        f"blockers: {blockers or none}"
    )
