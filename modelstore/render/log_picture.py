"""A picture of a log in a few lines: commits, folded frames, the marks of readers, damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.render.grid import Cell
from modelstore.wal.frames import FrameState

if TYPE_CHECKING:
    from modelstore.wal.inspection import Inspection

# A column of the picture may stand for many frames: the most important sign wins.
_SIGNS = {
    FrameState.DAMAGED: "X",
    FrameState.IGNORED: "i",
    FrameState.TORN: "?",
    FrameState.UNCOMMITTED: "+",
    FrameState.STALE: ".",
    FrameState.BLANK: " ",
}
_ORDER = "Xi?+|=#-. "
_LEGEND = {
    "=": "in the main file",
    "#": "only in the log",
    "|": "a commit ends",
    "+": "uncommitted",
    "?": "torn",
    "X": "damaged",
    "i": "intact, ignored",
    ".": "stale",
}
_PROBES = 64  # frames looked at for one column: enough to find what is not rare


def log_picture(found: Inspection, width: int) -> list[str | Cell]:
    """Return lines of at most `width` columns; none for an empty log."""
    scan = found.scan
    total = len(scan.marks)
    if not total or scan.header is None:
        return []
    room = max(10, width - 2)
    columns = min(total, room)
    edges = [total * column // columns for column in range(columns + 1)]
    signs = "".join(_sign(found, edges[at] + 1, edges[at + 1]) for at in range(columns))
    lines: list[str | Cell] = [
        Cell(f"frames 1 to {total:,}" + _scale(total, columns), "dim"),
        signs,
    ]
    marks = _marks(found, total, columns)
    if marks.strip():
        lines.append(marks)
    used = [f"{sign} {text}" for sign, text in _LEGEND.items() if sign in signs]
    if "^" in marks:
        used.append("^ a reader's mark")
    lines.append(Cell(", ".join(used), "dim"))
    return lines


def _scale(total: int, columns: int) -> str:
    return "" if total == columns else f", about {total / columns:,.1f} a column"


def _sign(found: Inspection, first: int, last: int) -> str:
    step = max(1, (last - first + 1) // _PROBES)
    signs = {_one(found, number) for number in range(first, last + 1, step)}
    signs.add(_one(found, last))
    if found.scan.valid + 1 in range(first, last + 1) and found.scan.is_damaged:
        signs.add("X")
    if last > first:
        signs.discard("|")  # many commits a column say nothing
    return min(signs, key=_ORDER.index) if signs else "#"


def _one(found: Inspection, number: int) -> str:
    state = found.scan.state(number)
    if state is not FrameState.COMMITTED:
        return _SIGNS[state]
    if number <= found.checkpointed:
        return "="
    return "|" if found.scan.commit_sizes[number - 1] else "#"


def _marks(found: Inspection, total: int, columns: int) -> str:
    line = [" "] * columns
    for blocker in found.blockers:
        if blocker.mark is not None and blocker.frame is not None:
            line[min(columns - 1, max(0, blocker.frame - 1) * columns // total)] = "^"
    return "".join(line).rstrip()
