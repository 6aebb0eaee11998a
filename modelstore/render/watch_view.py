"""The screen of ``inspect-wal --watch``: history, blockers, and the map of the log, in any size.

Pure drawing: a state, a width and a height give lines. Colours are those of the terminal's own
palette, so that they read on a light background as on a dark one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from modelstore.render.grid import fit, text_width
from modelstore.render.log_map import LogMap, map_log
from modelstore.render.statements import statements
from modelstore.text import human_bytes, human_seconds, plural, process_name, visible
from modelstore.wal.frames import FrameState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from modelstore.render.log_map import Lane
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.locks import Blocker
    from modelstore.wal.loss_report import TableLoss

_TONES = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "strong": "bold"}
_PALETTE = ("cyan", "magenta", "green", "blue", "yellow", "bright_magenta", "bright_cyan")
_STATES = {
    FrameState.UNCOMMITTED: ("+", "dim"),
    FrameState.TORN: ("?", "yellow"),
    FrameState.DAMAGED: ("X", "bold red"),
    FrameState.IGNORED: ("i", "red"),
    FrameState.STALE: (".", "dim"),
}
_RAMPS = ("▁▂▃▄▅▆▇█", ".:-=+*%#")
_BLOCKERS = 3  # lines
_LANES = 6  # tables with a colour of their own
_ROOMY = 20  # lines of a screen that has room for blank ones
_LABEL = 10  # columns: "frames/s"
_VALUE = 10  # columns: "16.5 GiB"


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one moment: bytes of the log, frames a second, frames left to fold."""

    size: int
    rate: float | None  # None if there is nothing to compare with
    left: int


@dataclass(frozen=True, slots=True)
class WatchState:
    """All that the screen shows. `database` and `problem` are outside text.

    `found` is the latest look at the whole log, `age` seconds behind the files; `blockers` are
    newer. `to_map` is `map_log`, or remembers its last answer: that of a million frames takes a
    second.
    """

    database: str
    clock: str
    interval: float  # seconds
    is_paused: bool
    samples: Sequence[Sample]
    found: Inspection | None
    age: float
    blockers: tuple[Blocker, ...]
    problem: str | None = None
    to_map: Callable[[Inspection, int, int], LogMap | None] = map_log


@dataclass(frozen=True, slots=True)
class Look:
    """The terminal: its size, and what it can show."""

    width: int
    height: int
    color: bool
    unicode: bool


def watch_lines(state: WatchState, look: Look) -> list[Text]:
    """Return at most `look.height` lines of at most `look.width` columns."""
    gap = [Text()] if look.height >= _ROOMY else []
    head = [_title(state, look), *_sayings(state, look), *_blockers(state.blockers, look), *gap]
    gauges = [*_gauges(state.samples, look), *gap]
    keys = _keys(state, look)
    room = look.height - len(head) - len(gauges) - len(keys)
    body = _map_and_lanes(state, look, room)
    lines = [*head, *gauges, *body][: max(1, look.height - len(keys))]
    lines += [Text()] * (look.height - len(lines) - len(keys))
    shown = [*lines, *keys][: look.height]
    for line in shown:
        line.truncate(look.width)
    return shown


def _title(state: WatchState, look: Look) -> Text:
    right = " PAUSED " if state.is_paused else ""
    right += f" {state.clock}"
    if look.width >= 60:
        right = f" every {human_seconds(state.interval)}{right}"
    name = fit(visible(state.database, 4000), max(8, look.width - text_width(right)), "middle")
    gap = " " * max(0, look.width - text_width(name) - text_width(right))
    line = Text(f"{name}{gap}")
    line.stylize("bold", 0, len(name))
    line.append(right, "bold yellow" if state.is_paused else "dim")
    return line


def _sayings(state: WatchState, look: Look) -> Iterator[Text]:
    """Yield the state of the log in words, two lines at most."""
    if state.problem is not None:
        yield from _wrapped(f"{visible(state.problem, 500)}; waiting for it", "bold red", look, 2)
        return
    if state.found is None:
        yield Text("looking at the log", "dim")
        return
    said = list(statements(state.found))
    text = " ".join(visible(one.text, 500) for one in said)
    yield from _wrapped(text, _TONES.get(said[0].tone, "") if said else "", look, 2)


def _wrapped(text: str, style: str, look: Look, most: int) -> Iterator[Text]:
    """Yield `text` in at most `most` lines, broken between words."""
    line, count = "", 1
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if text_width(longer) <= look.width or count == most:
            line = longer
            continue
        yield Text(fit(line, look.width, "end"), style)
        line, count = word, count + 1
    yield Text(fit(line, look.width, "end"), style)


def _blockers(blockers: tuple[Blocker, ...], look: Look) -> Iterator[Text]:
    """Yield the blocking processes by name, those that stop the fold first."""
    sign = "▼" if look.unicode else "^"
    ranked = sorted(blockers, key=lambda b: not b.holds_up_folding)
    shown = ranked if len(ranked) <= _BLOCKERS else ranked[: _BLOCKERS - 1]
    for blocker in shown:
        frame = f" at frame {blocker.frame:,}" if blocker.frame is not None else ""
        tail = f"{frame} blocks {', '.join(blocker.blocks)}"
        who = visible(process_name(blocker.pid, blocker.command, *blocker.facts), 300)
        room = look.width - text_width(tail) - 2
        if room < 16:  # narrow: the name counts more than what it blocks
            room, tail = look.width - 2 - text_width(frame), frame
        line = Text()
        line.append(f"{sign if blocker.mark is not None else '!'} ", "bold red")
        style = "bold yellow" if blocker.holds_up_folding else ""
        line.append(fit(who, max(8, room), "middle"), style)
        line.append(fit(tail, max(1, look.width - line.cell_len), "end"), "dim")
        yield line
    if len(shown) < len(ranked):
        yield Text(f"! {len(ranked) - len(shown):,} more processes in the way", "bold yellow")
    if not ranked:
        yield Text("nobody is seen in the way of a checkpoint", "dim")


# -- history -------------------------------------------------------------------------------------


def _gauges(samples: Sequence[Sample], look: Look) -> Iterator[Text]:
    """Yield size, rate and frames left, each with its history; the newest is at the right."""
    rates = [sample.rate or 0.0 for sample in samples]
    sizes = [float(sample.size) for sample in samples]
    lefts = [float(sample.left) for sample in samples]
    last = samples[-1] if samples else None
    rate = "" if last is None or last.rate is None else f"{last.rate:,.1f}"
    for label, value, history, style in (
        ("size", "" if last is None else human_bytes(last.size), sizes, "cyan"),
        ("frames/s", rate, rates, "green"),
        ("left", "" if last is None else f"{last.left:,}", lefts, "yellow"),
    ):
        line = Text()  # a style of its own would colour all that follows
        line.append(f"{label:<{_LABEL}}", "dim")
        line.append(f"{fit(value, _VALUE - 2, 'end'):>{_VALUE - 2}}  ", "bold")
        line.append(spark(history, max(0, look.width - _LABEL - _VALUE), look), style)
        yield line


def spark(values: Sequence[float], width: int, look: Look) -> str:
    """Return the last `width` values as bars from 0 to the greatest of them."""
    ramp = _RAMPS[0] if look.unicode else _RAMPS[1]
    shown = values[-width:] if width else ()
    top = max(shown, default=0.0) or 1.0
    return "".join(ramp[min(len(ramp) - 1, int(value / top * len(ramp)))] for value in shown)


# -- the map -------------------------------------------------------------------------------------


def _map_and_lanes(state: WatchState, look: Look, room: int) -> list[Text]:
    """Return the map of the log and its legend, in at most `room` lines."""
    found = state.found
    if found is None or room < 3:
        return []
    rows = max(1, room // 2, room - _LANES - 4)
    log = state.to_map(found, rows * look.width, _LANES)
    if log is None:
        return []
    lines = [_map_heading(log, state, look), *_map_rows(log, look)]
    legend = _legend(log, found, look)
    space = room - len(lines)
    if len(legend) > space > 0:
        legend[space - 1 :] = [Text(f"{len(legend) - space + 1} more", "dim")]
    return lines + legend[: max(0, space)]


def _map_heading(log: LogMap, state: WatchState, look: Look) -> Text:
    scale = f", {log.frames_per_bin:,.1f} a cell" if log.frames > log.bins else ""
    old = f", as of {human_seconds(state.age)} ago" if state.age > 2 * state.interval + 1 else ""
    text = (
        f"frames 1 to {log.frames:,}{scale}, {plural(sum(log.commits), 'commit')}, "
        f"{log.checkpointed:,} checkpointed{old}"
    )
    return Text(fit(text, look.width, "end"), "dim")


def _map_rows(log: LogMap, look: Look) -> Iterator[Text]:
    marked = {mark.bin for mark in log.marks}
    for start in range(0, log.bins, look.width):
        line = Text()
        for place in range(start, min(start + look.width, log.bins)):
            if place in marked:
                line.append("▼" if look.unicode else "^", "bold reverse")
            else:
                line.append(*_cell(log, place, look))
        yield line


def _cell(log: LogMap, place: int, look: Look) -> tuple[str, str]:
    lane = log.leading_lane(place)
    if lane is None:
        return " ", ""
    return _sign(lane, log.lanes[lane], look, is_copied=log.is_checkpointed(place))


def _sign(place: int, lane: Lane, look: Look, *, is_copied: bool) -> tuple[str, str]:
    """Return the sign of a lane, and its style: a colour, or a letter where there is none."""
    if lane.state is not FrameState.COMMITTED:
        return _STATES.get(lane.state, (" ", ""))
    if not look.color:
        letter = "abcdefghijklmnopqrstuvwxyz"[place % 26]
        return (letter if is_copied else letter.upper()), ""
    block = ("▒" if is_copied else "█") if look.unicode else ("=" if is_copied else "#")
    return block, _PALETTE[place % len(_PALETTE)]


def _legend(log: LogMap, found: Inspection, look: Look) -> list[Text]:
    """Return one line for each lane: its sign, its frames, and the rows that hang on the log."""
    losses = {table.name: table for table in found.loss.tables}
    names = [visible(lane.name, 200) for lane in log.lanes]
    counts = [plural(lane.frames, "frame") for lane in log.lanes]
    count_width = max(map(text_width, counts), default=0)
    room = max(8, min(max(map(text_width, names), default=0), look.width - count_width - 24))
    lines = []
    for place, lane in enumerate(log.lanes):
        sign, style = _sign(place, lane, look, is_copied=False)
        name = fit(names[place], room, "middle")
        line = Text()
        line.append(f"{sign} ", style)
        line.append(name + " " * max(0, room - text_width(name)))
        line.append(f"  {counts[place]:>{count_width}}", "dim")
        line.append(_loss_words(losses.get(lane.name)), "bold red")
        line.truncate(look.width, overflow="ellipsis")
        lines.append(line)
    if log.checkpointed and look.color:
        copied = "▒" if look.unicode else "="
        lines.append(Text(f"{copied} in the main file already", "dim"))
    elif log.checkpointed:
        lines.append(Text("small letters: in the main file already", "dim"))
    return lines


def _loss_words(table: TableLoss | None) -> str:
    """Return the rows of a table that hang on the log, as words."""
    if table is None:
        return ""
    pairs = (
        (table.lost.count, "lost"),
        (table.reverted.count, "reverted"),
        (table.returning.count, "returning"),
    )
    more = "" if table.is_exact else "≥ "
    return "".join(f"  {more}{count:,} {word}" for count, word in pairs if count)


def _keys(state: WatchState, look: Look) -> list[Text]:
    if look.height < 6:
        return []
    line = Text()
    pairs = (("q", "quit"), ("p", "resume" if state.is_paused else "pause"))
    for key, word in pairs:
        line.append(f" {key} ", "reverse")
        line.append(f" {word}   ", "dim")
    if look.width >= 60:
        line.append("looks at the raw files; opens and changes nothing", "dim")
    line.truncate(look.width)
    return [line]
