"""A loss report as one phrase for people, and as figures for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.text import plural
from modelstore.verify.check import NAMED
from modelstore.wal.loss_report import Fate
from modelstore.wal.main_file import MainState

if TYPE_CHECKING:
    from modelstore.wal.inspection import Inspection
    from modelstore.wal.loss_report import LossReport, RowSet

TORN = (MainState.MIXED, MainState.TORN)
"""The main file alone is whole only together with its log."""


def at_risk(found: Inspection) -> str | None:
    """Return the content that only the log has, such as ``18 rows``; None if it has nothing."""
    loss = found.loss
    if not found.scan.max_frame or loss.is_same:
        return None
    if not loss.is_known:
        return plural(found.pending or found.scan.max_frame, "frame")
    rows = loss.lost + loss.reverted
    at_least = "" if found.is_exact else "at least "
    parts = [f"{at_least}{plural(rows, 'row')}"] if rows else []
    if loss.returning:
        parts.append(plural(loss.returning, "deletion"))
    changed = [change for change in loss.schema_changes if change.fate is not Fate.STAYS]
    if changed:
        parts.append(plural(len(changed), "change") + " of the schema")
    if not parts and found.is_exact:
        return plural(loss.differing, "changed page")
    return " and ".join(parts) or plural(found.pending or found.scan.max_frame, "frame")


def is_many(found: Inspection) -> bool:
    """Tell if the phrase of `at_risk` takes a plural verb."""
    phrase = at_risk(found) or ""
    return not phrase.startswith("1 ") or " and " in phrase


def where_lost(found: Inspection) -> str:
    """Return the tables and names behind `at_risk`, such as ``models: a, b``; "" if unknown."""
    parts = []
    for table in found.loss.tables:
        total = table.lost.count + table.reverted.count + table.returning.count
        names = [
            name
            for rows in (table.lost, table.reverted, table.returning)
            for name in rows.texts
            if name
        ]
        if names:
            more = total - len(names[:NAMED])
            tail = f" and {more:,} more" if more > 0 else ""
            parts.append(f"{table.name}: {', '.join(names[:NAMED])}{tail}")
        elif table.fate is Fate.VANISHES:
            parts.append(f"table {table.name} with {plural(table.lost.count, 'row')}")
        elif total:
            parts.append(f"{table.name}: {plural(total, 'row')}")
    parts += [
        difference.words
        for difference in found.loss.file_differences
        if difference.kind.is_setting
        or not (found.loss.has_row_changes or found.loss.has_schema_changes)
    ]
    return "; ".join(parts[:NAMED])


def loss_data(loss: LossReport) -> dict[str, object]:
    """Return the figures of a loss as JSON values."""
    return {
        "lost": loss.lost if loss.is_known else None,
        "reverted": loss.reverted if loss.is_known else None,
        "returning": loss.returning if loss.is_known else None,
        "exact": loss.is_exact,
        "main_file": loss.main.state.value,
        "tables": [
            {
                "name": table.name,
                "fate": table.fate.value,
                "lost": _rows(table.lost),
                "reverted": _rows(table.reverted),
                "returning": _rows(table.returning),
            }
            for table in loss.tables
        ],
        "differences": [
            {"kind": difference.kind.value, "name": difference.name}
            for difference in loss.file_differences
        ],
        "schema_changes": [
            {"type": change.type, "name": change.name, "fate": change.fate.value}
            for change in loss.schema_changes
        ],
    }


def _rows(rows: RowSet) -> dict[str, object]:
    names = [text for text in rows.texts if text is not None]
    return {"count": rows.count, "names": names}
