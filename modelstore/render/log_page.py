"""A log as one HTML file to look at: its map by table and commit, readers' marks, what is lost.

The map is SVG without text, so that it stretches to any width; words and pins are HTML above it.
Its size follows from the bins, never from the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from modelstore.render.log_map import Mark, map_log
from modelstore.render.page import Page, add, add_facts, add_numbers, add_tiles, add_verdict
from modelstore.render.statements import FATES, statements
from modelstore.text import human_bytes, listed, plural, process_name, utc_text, visible
from modelstore.wal.frames import FrameState
from modelstore.wal.loss_report import Fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from modelstore.render.log_map import Lane, LogMap
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.loss_report import LossReport, TableLoss

_STYLE = """
:root {
  --c0: #2166ac; --c1: #1b7f5c; --c2: #b5651d; --c3: #8e44ad; --c4: #0e8a9b; --c5: #b0437f;
  --c6: #6b7a1e; --c7: #5d6d7e; --lost: #b3261e; --reverted: #c77700; --returning: #6a51a3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --c0: #6fb1f0; --c1: #4fc79a; --c2: #e39b5a; --c3: #c58be0; --c4: #4fc6d6; --c5: #ee86b7;
    --c6: #b9c95a; --c7: #9fb0c0; --lost: #ff8a80; --reverted: #f0b24a; --returning: #b39ddb;
  }
}
.says { padding: 1rem 1.25rem; margin-top: .75rem; }
.says p + p { margin-top: .375rem; color: var(--dim); }
.map { padding: 1rem 1.25rem 1.25rem; }
.row {
  display: grid; grid-template-columns: 12rem 1fr; gap: 0 1rem; align-items: center;
  padding: .25rem 0;
}
.row > div:first-child { min-width: 0; line-height: 1.25; }
.row b { display: block; font-family: var(--mono); font-size: .8125rem; font-weight: 600; }
.row small { color: var(--dim); font-size: .75rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 1.625rem; border-radius: .1875rem; overflow: hidden; }
svg.thin { height: .75rem; }
svg { background: var(--note-tint); }
.k0 { fill: var(--c0); } .k1 { fill: var(--c1); } .k2 { fill: var(--c2); } .k3 { fill: var(--c3); }
.k4 { fill: var(--c4); } .k5 { fill: var(--c5); } .k6 { fill: var(--c6); } .k7 { fill: var(--c7); }
.kd { fill: var(--bad); } .kn { fill: var(--note); } .kg { fill: var(--good); }
.kw { fill: var(--warn); }
.l1 { fill-opacity: .45; } .l2 { fill-opacity: .65; } .l3 { fill-opacity: .82; }
.copied { fill-opacity: .22; }
line { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 3 2; }
.ruler { position: relative; height: 1.25rem; color: var(--dim); font-size: .75rem; }
.ruler { font-variant-numeric: tabular-nums; }
.ruler span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.ruler span:first-child { transform: none; }
.ruler span:last-child { transform: translateX(-100%); }
.pins { position: relative; height: 1.375rem; }
.pin {
  display: inline-block; min-width: 1.25rem; height: 1.25rem; padding: 0 .25rem;
  border-radius: .625rem; background: var(--ink); color: var(--card);
  font-size: .75rem; font-weight: 600; line-height: 1.25rem; text-align: center;
}
.pins .pin { position: absolute; transform: translateX(-50%); }
.keys { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-top: .75rem; }
.keys span { color: var(--dim); font-size: .8125rem; }
.keys i {
  display: inline-block; width: .875rem; height: .875rem; border-radius: .1875rem;
  margin-right: .375rem; vertical-align: -.125rem; background: var(--c0);
}
.keys i.copied { opacity: .3; }
.readers { list-style: none; padding: .25rem 0; }
.readers li { display: grid; grid-template-columns: 2rem 1fr; gap: 0 .5rem; }
.readers li { padding: .5rem 1.25rem; }
.readers li + li { border-top: 1px solid var(--line); }
.readers p { font-family: var(--mono); font-size: .875rem; }
.readers small { color: var(--dim); font-size: .8125rem; }
.loss { padding: .75rem 1.25rem 1rem; }
.loss .row { align-items: start; padding: .375rem 0; }
.loss .row > div:first-child { line-height: 1; }
.bar { display: flex; height: .75rem; border-radius: .1875rem; overflow: hidden; }
.bar .lost { background: var(--lost); } .bar .reverted { background: var(--reverted); }
.bar .returning { background: var(--returning); }
.counts { font-size: .8125rem; color: var(--dim); }
.counts b { display: inline; font-family: inherit; }
b.lost { color: var(--lost); } b.reverted { color: var(--reverted); }
b.returning { color: var(--returning); }
.names { font-family: var(--mono); font-size: .75rem; color: var(--dim); }
.figures { padding: 1rem 1.25rem; }

@media (max-width: 34rem) {
  .says, .map, .loss, .figures { padding-left: .875rem; padding-right: .875rem; }
  .row { grid-template-columns: 1fr; gap: .25rem; padding: .375rem 0; }
  .row > div:first-child { display: flex; justify-content: space-between; gap: .5rem; }
  .readers li { padding: .5rem .875rem; }
}
"""

_BINS = 300  # of the map: a bin is 2 pixels wide or more
_FEW = 100  # frames that are drawn one by one
_LANES = 8  # tables with a row and a colour of their own
_PINS = 12
_TABLES = 40  # tables in the list of losses
_NAMES = 12  # of one table
_STATES = {
    FrameState.UNCOMMITTED: "kn",
    FrameState.TORN: "kw",
    FrameState.DAMAGED: "kd",
    FrameState.IGNORED: "kd",
    FrameState.STALE: "kn",
}


def log_page(found: Inspection, *, origin: str, seconds: float, on_exit: str) -> str:
    """Return the whole document; text from outside is escaped in it.

    `origin` says how the database was chosen, `seconds` since the epoch when it was looked at, and
    `on_exit` how the command left the log.
    """
    head, rest, tone = _verdict_words(found)
    page = Page(f"{head} {rest}: {found.database}"[:300], _STYLE)
    box = add_verdict(page.main, "inspect-wal", tone, (head, rest), found.database)
    when = utc_text(seconds).replace("T", " ").replace("Z", " UTC")
    add_facts(box, (f"chosen by {origin}", when, f"on exit: {on_exit}"))
    _tiles(page.main, found)
    says = add(page.main, "div", kind="card says")
    for statement in statements(found):
        add(says, "p", statement.text)
    log = map_log(found, _BINS, _LANES)
    if log is not None:
        pins = _pins(log)
        _map(page.main, log, pins)
        _readers(page.main, found, pins)
    _losses(page.main, found.loss)
    if found.scan.header is not None:
        _figures(page.main, found)
    return page.text


def _verdict_words(found: Inspection) -> tuple[str, str, str]:
    """Return the verdict in large words, the rest of it, and its tone."""
    loss = found.loss
    rows = loss.lost + loss.reverted + loss.returning
    if found.is_damaged or found.main_problem is not None:
        return "Damaged", "", "bad"
    if found.contradictions or found.has_hot_journal:
        return "Look closer", "the files say different things", "bad"
    if not found.scan.max_frame and found.nothing_lost:
        return "Empty", "the log holds nothing that counts", "good"
    if found.nothing_lost:
        return "Safe", "the main file alone is the same database", "good"
    if loss.is_known and rows:
        more = "" if loss.is_exact else "at least "
        return f"{more}{plural(rows, 'row')}".capitalize(), "depend on this log", "bad"
    if loss.is_known and loss.has_schema_changes:
        return "The schema", "depends on this log", "bad"
    return "Keep the log", f"{plural(found.pending, 'frame')} may be in it alone", "warn"


def _tiles(main: ET.Element, found: Inspection) -> None:
    loss = found.loss
    rows = loss.lost + loss.reverted + loss.returning if loss.is_known else None
    more = ", or more" if loss.is_known and not loss.is_exact else ""
    tiles = (
        (found.scan.written, "frames in the log", "note"),
        (found.scan.commit_count, "commits", "note"),
        (found.pending, "frames left to fold", "warn"),
        (rows, f"rows at risk{more}", "bad"),
    )
    add_tiles(main, tiles)


# -- the map -------------------------------------------------------------------------------------


def _map(main: ET.Element, log: LogMap, pins: Sequence[tuple[Mark, ...]]) -> None:
    """Append the map: a ruler of frames, and rows for copies, commits, and each table."""
    add(main, "h2", "The map of the log")
    box = add(main, "div", kind="card map")
    places = [group[0].bin + 1 for group in pins]
    if pins:
        _, column = _row(box, "", "", bare=True)
        line = add(column, "div", kind="pins")
        for number, place in enumerate(places, 1):
            pin = add(line, "span", str(number), "pin")
            pin.set("style", f"left: {place / log.bins:.2%}")
    copied = f"has {log.checkpointed:,} of {plural(log.frames, 'frame')}"
    _strip(_row(box, "main file", copied)[1], _copies(log), log, places, thin=True)
    _strip(_row(box, "commits", f"{sum(log.commits):,}")[1], _commits(log), log, places, thin=True)
    for index, lane in enumerate(log.lanes):
        pages = f", {plural(lane.pages, 'page')}" if lane.pages else ""
        column = _row(box, lane.name, f"{plural(lane.frames, 'frame')}{pages}")[1]
        _strip(column, _lane(log, lane, index), log, places)
    _, column = _row(box, "", "", bare=True)
    ruler = add(column, "div", kind="ruler")
    for share in (0, 0.25, 0.5, 0.75, 1) if log.frames >= 8 else (0, 1):
        number = max(1, round(log.frames * share))
        tick = add(ruler, "span", f"frame {number:,}" if share == 0 else f"{number:,}")
        tick.set("style", f"left: {share:.2%}")
    _keys(box, log, has_pins=bool(pins))


def _row(
    box: ET.Element, name: str, facts: str, *, bare: bool = False
) -> tuple[ET.Element, ET.Element]:
    """Append a row of the map: its words at the left, and an empty column for its drawing."""
    row = add(box, "div", kind="row")
    words = add(row, "div")
    if not bare:
        add(words, "b", visible(name, 60))
        add(words, "small", facts)
    return words, add(row, "div")


def _strip(
    column: ET.Element,
    runs: Iterable[tuple[int, int, str, str]],
    log: LogMap,
    marks: Iterable[int],
    *,
    thin: bool = False,
) -> None:
    """Append a drawing of runs of bins, each with a class and words, and of readers' marks."""
    svg = ET.SubElement(
        column,
        "svg",
        {
            "viewBox": f"0 0 {log.bins} 10",
            "preserveAspectRatio": "none",
            "class": "thin" if thin else "",
        },
    )
    for first, end, kind, words in runs:
        width = f"{end - first - (0.05 if log.bins <= _FEW else 0):g}"
        rect = ET.SubElement(
            svg, "rect", x=str(first), width=width, height="10", attrib={"class": kind}
        )
        add(rect, "title", words)
    for place in marks:
        at = str(place)
        attributes = {"x1": at, "x2": at, "y1": "0", "y2": "10"}
        ET.SubElement(svg, "line", attributes | {"vector-effect": "non-scaling-stroke"})


def _copies(log: LogMap) -> Iterator[tuple[int, int, str, str]]:
    """Yield the frames that are in the main file, and the committed ones that are not."""
    kinds = [
        "kg"
        if log.is_checkpointed(place)
        else "kw"
        if any(lane.counts[place] for lane in log.lanes if lane.state is FrameState.COMMITTED)
        else ""
        for place in range(log.bins)
    ]
    words = {"kg": "in the main file", "kw": "only in the log", "": "not committed"}
    for first, end in _runs(kinds):
        if kinds[first]:
            yield first, end, kinds[first], f"{_frames(log, first, end)}: {words[kinds[first]]}"


def _commits(log: LogMap) -> Iterator[tuple[int, int, str, str]]:
    """Yield the commits in two alternating shades; where they are too many, their density."""
    if log.bins < log.frames and sum(log.commits) > log.bins // 2:
        most = max(log.commits, default=0)
        levels = [_level(count, most) for count in log.commits]
        for first, end in _runs(levels):
            if levels[first]:
                total = plural(sum(log.commits[first:end]), "commit")
                yield first, end, f"kn {levels[first]}", f"{_frames(log, first, end)}: {total}"
        return
    first = 0
    number = 0
    for place, count in enumerate(log.commits):
        if count:
            number += count
            kind = "kn l1" if number % 2 else "kn l3"
            yield first, place + 1, kind, f"commit {number:,}: {_frames(log, first, place + 1)}"
            first = place + 1


def _lane(log: LogMap, lane: Lane, index: int) -> Iterator[tuple[int, int, str, str]]:
    """Yield the bins that hold frames of a lane, darker where there are more, pale once copied."""
    color = _STATES.get(lane.state, f"k{index % 8}")
    most = max(lane.counts)
    kinds = []
    for place, count in enumerate(lane.counts):
        level = _level(count, most)
        is_copied = lane.state is FrameState.COMMITTED and log.is_checkpointed(place)
        kinds.append("" if not level else f"{color} {'copied' if is_copied else level}")
    for first, end in _runs(kinds):
        if kinds[first]:
            total = plural(sum(lane.counts[first:end]), "frame")
            name = visible(lane.name, 60)
            yield first, end, kinds[first], f"{_frames(log, first, end)}: {total} of {name}"


def _level(count: int, most: int) -> str:
    """Return the class for a count: of four shades, the darkest for the greatest."""
    return "" if not count else f"l{-(-4 * count // most)}"


def _runs(kinds: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield first and end of each run of equal items; of few items each one alone."""
    first = 0
    for place in range(1, len(kinds) + 1):
        if place == len(kinds) or kinds[place] != kinds[first] or len(kinds) <= _FEW:
            yield first, place
            first = place


def _frames(log: LogMap, first: int, end: int) -> str:
    start, last = log.edges[first] + 1, log.edges[end]
    return f"frame {start:,}" if start == last else f"frames {start:,} to {last:,}"


def _keys(box: ET.Element, log: LogMap, *, has_pins: bool) -> None:
    keys = add(box, "p", kind="keys")
    for kind, words in (("", "only in the log"), ("copied", "in the main file already")):
        span = add(keys, "span")
        add(span, "i", kind=kind).tail = words
    if log.frames > log.bins:
        add(keys, "span", f"{log.frames_per_bin:,.1f} frames a step; darker is more")
    if has_pins:
        span = add(keys, "span")
        add(span, "b", "1", "pin").tail = " the last frame that a reader sees"


# -- readers, losses, figures --------------------------------------------------------------------


def _pins(log: LogMap) -> list[tuple[Mark, ...]]:
    """Return the marks, joined where they share a bin, so that each can be seen."""
    groups: dict[int, list[Mark]] = {}
    for mark in log.marks:
        groups.setdefault(mark.bin, []).append(mark)
    return [tuple(group) for group in groups.values()][:_PINS]


def _readers(main: ET.Element, found: Inspection, pins: Sequence[tuple[Mark, ...]]) -> None:
    """Append the processes in the way, readers with the number of their pin first."""
    if not found.blockers:
        return
    add(main, "h2", "Who is in the way")
    items = add(main, "ul", kind="card readers")
    number = {mark.blocker: n for n, group in enumerate(pins, 1) for mark in group}
    ranked = sorted(found.blockers, key=lambda blocker: number.get(blocker, len(number) + 1))
    for blocker in ranked[: 2 * _PINS]:
        item = add(items, "li")
        side = add(item, "div")
        if blocker in number:
            add(side, "span", str(number[blocker]), "pin")
        body = add(item, "div")
        add(body, "p", process_name(blocker.pid, blocker.command, *blocker.facts))
        frame = "" if blocker.frame is None else f", sees the log up to frame {blocker.frame:,}"
        add(body, "small", f"holds {blocker.lock}{frame}; blocks {', '.join(blocker.blocks)}")
    if len(ranked) > 2 * _PINS:
        more = add(items, "li")
        add(more, "div")
        add(more, "p", f"{len(ranked) - 2 * _PINS:,} more")


def _losses(main: ET.Element, loss: LossReport) -> None:
    """Append the rows of each table that depend on the log, the most first."""
    tables = [table for table in loss.tables if table.is_loss]
    if not loss.is_known or not (tables or loss.schema_changes):
        return
    add(main, "h2", "Without the log")
    box = add(main, "div", kind="card loss")
    tables.sort(key=lambda table: (-_rows(table), table.name))
    most = max(map(_rows, tables), default=0)
    for table in tables[:_TABLES]:
        _table(box, table, most)
    if len(tables) > _TABLES:
        add(box, "p", plural(len(tables) - _TABLES, "more table"), "counts")
    named = {table.name for table in tables[:_TABLES]}
    for change in [c for c in loss.schema_changes if c.name not in named][:_TABLES]:
        add(box, "p", f"{change.type} {change.name} {FATES[change.fate]}", "counts")


def _rows(table: TableLoss) -> int:
    return table.lost.count + table.reverted.count + table.returning.count


def _table(box: ET.Element, table: TableLoss, most: int) -> None:
    kinds = (
        ("lost", table.lost, "lost"),
        ("reverted", table.reverted, "revert to older content"),
        ("returning", table.returning, "come back although deleted"),
    )
    words, column = _row(box, table.name, "")
    if table.fate is not Fate.STAYS:
        words[-1].text = f"table {FATES[table.fate]}"
    bar = add(column, "div", kind="bar")
    counts = add(column, "p", kind="counts")
    for kind, rows, what in kinds:
        if not rows.count:
            continue
        ET.SubElement(bar, "i", {"class": kind, "style": f"width: {rows.count / most:.2%}"})
        more = "" if table.is_exact else "at least "
        add(counts, "b", f"{more}{rows.count:,} ", kind).tail = f"{what}   "
        names = [text for text in rows.texts if text]
        if names:
            shown = listed([visible(name, 60) for name in names[:_NAMES]], _NAMES)
            hidden = rows.count - min(len(names), _NAMES)
            add(column, "p", shown + (f" and {hidden:,} more" if hidden else ""), "names")
    if not _rows(table):
        counts.text = table.problem or "its rows could not be counted"


def _figures(main: ET.Element, found: Inspection) -> None:
    """Append the figures of the files."""
    scan, loss = found.scan, found.loss
    header = scan.header
    add(main, "h2", "Figures")
    box = add(main, "div", kind="card figures")
    numbers = [
        ("log", human_bytes(scan.size)),
        ("pages of", f"{scan.page_size:,} bytes"),
        ("main file", human_bytes(loss.main.size)),
        ("database with its log", plural(scan.page_count, "page")),
        ("stale frames", f"{scan.stale:,}"),
        ("main file alone", loss.main.state.value),
    ]
    if header is not None:
        numbers.append(("salts", f"{header.salt[0]:08x} {header.salt[1]:08x}"))
    if found.index is not None:
        backfill = f"{found.index.backfill:,} of {found.index.max_frame:,}"
        numbers.append(("wal-index: copied", backfill))
    add_numbers(box, numbers)
