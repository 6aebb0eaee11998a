"""A line of the results: what was measured, and whether it is within its budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tests.bench.measure import middle

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.measure import Pairs, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `limit` is the budget; None where there is none."""

    bench: str
    what: str
    peer: str = ""  # what it is compared with
    measured: float | None = None  # None: it could not be measured; `note` says why
    unit: str = "×"  # ×: ours by the peer's; faster: the peer's by ours
    limit: float | None = None
    at_least: bool = False
    ours: str = ""
    theirs: str = ""
    note: str = ""
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None without one, or without a figure."""
        if self.limit is None or self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def as_json(self) -> dict[str, object]:
        """Return the row for a machine."""
        return asdict(self) | {"met": self.met}


def compared(
    bench: str,
    what: str,
    peer: str,
    pairs: Pairs,
    *,
    limit: float | None = None,
    faster: bool = False,
    steady: bool = False,
    note: str = "",
) -> Row:
    """Make the row of a paired run; `faster` turns the ratio round, and its limit.

    `steady` compares processor time, for a start: it is the same on a busy machine.
    """
    ratio = pairs.steady_ratio if steady else pairs.ratio
    ratio = 1 / ratio if faster else ratio
    return Row(
        bench=bench,
        what=what,
        peer=peer,
        measured=ratio,
        unit="× faster" if faster else "×",
        limit=limit,
        at_least=faster,
        ours=shown(middle(pairs.ours)),
        theirs=shown(middle(pairs.peer)),
        note=note,
        facts={
            "cpu_ratio": 1 / pairs.cpu_ratio if faster else pairs.cpu_ratio,
            "ours": [asdict(sample) for sample in pairs.ours],
            "peer": [asdict(sample) for sample in pairs.peer],
        },
    )


def least(measure: Callable[[], Row], times: int = 4) -> Row:
    """Measure again while the budget is not met, and return the least row.

    For a wait: whatever we do to others comes every time, and what the machine does, does not.
    """
    row = measure()
    for _ in range(times - 1):
        if row.met is not False:
            break
        row = min(row, measure(), key=lambda one: one.measured or 0.0)
    return row


def missing(bench: str, what: str, peer: str, remedy: str = "") -> Row:
    """Make the row of a comparison with a peer that is not here; `remedy` says how to get it."""
    note = f"{peer} is missing: not compared" + (f" ({remedy})" if remedy else "")
    return Row(bench=bench, what=what, peer=peer, note=note)


def shown(sample: Sample) -> str:
    """Return time and memory for a person."""
    return f"{seconds(sample.wall)}, {sample.memory / 1e6:,.0f} MB"


def seconds(value: float) -> str:
    """Return a duration for a person."""
    if value < 1e-4:
        return f"{value * 1e6:,.1f} µs"
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1e3:,.1f} ms"


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| work | beside | measured | budget | met | ours | theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        measured = "-" if row.measured is None else _number(row.measured) + " " + row.unit
        budget = "" if row.limit is None else f"{sign} {_number(row.limit)} {row.unit}"
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        cells = (row.what, row.peer, measured, budget, met, row.ours, row.theirs or row.note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
