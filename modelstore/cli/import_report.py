"""What an import did, as one report."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from modelstore.importing.result import COUNTS
from modelstore.render.fold import fold_parts
from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import Report
from modelstore.text import plural

if TYPE_CHECKING:
    from modelstore.importing.result import ImportResult

_ALWAYS = ("found", "added", "updated", "unchanged", "skipped")
_ABSENT = (
    Heading("NOTHING AT", shrink="middle"),
    Heading("KIND"),
    Heading("WHY", shrink="wrap"),
)


def import_report(result: ImportResult) -> Report:
    """Return the report of an import."""
    return Report(
        body=tuple(_body(result)),
        payload=_payload(result),
        columns=("source", "kind", *COUNTS, "error"),
        rows=[
            (t.source, t.kind, *(getattr(t, n) for n in COUNTS), t.error and t.error.message)
            for t in result.tallies
        ],
    )


def _body(result: ImportResult) -> list[str | Cell | Grid]:
    shown = [name for name in COUNTS if name in _ALWAYS or result.total(name)]
    there = [tally for tally in result.tallies if tally.absent is None]
    kinds = [tally.kind for tally in there] if any(t.optional for t in there) else []
    headings = (
        Heading("SOURCE", shrink="middle"),
        *((Heading("KIND"),) if kinds else ()),
        *(Heading(name.upper(), right=True) for name in shown),
    )
    rows = [
        (t.source, *((t.kind,) if kinds else ()), *(f"{getattr(t, name):,}" for name in shown))
        for t in there
    ]
    parts: list[str | Cell | Grid] = [Grid(headings, rows)] if rows else []
    absent = [(t.source, t.kind, t.absent) for t in result.tallies if t.absent is not None]
    if absent:
        parts.append(Grid(_ABSENT, absent))
    parts += [
        Cell(f"{tally.source} is offline: {tally.offline}", "warn")
        for tally in result.tallies
        if tally.offline
    ]
    if result.dry_run:
        parts.append(Cell("dry run: nothing was written", "strong"))
        return parts
    parts += fold_parts(result.checkpoint)
    parts.append(_proof_line(result))
    if result.is_pending:
        command = f"modelstore checkpoint {shlex.quote(result.database)}"
        parts.append(f"fold the rest when nobody is in the way: {command}")
    return parts


def _proof_line(result: ImportResult) -> Cell:
    proof = result.proof
    if result.is_pending:
        return Cell("not all rows are in the main file: they are in database + WAL", "warn")
    if proof is None or not result.checkpoint.in_main_file:
        return Cell("not all rows are in the main file, and they may be lost", "bad")
    if not proof.holds:
        return Cell(
            f"only {plural(proof.counted or 0, 'row')} of {proof.expected:,} are in the main file",
            "bad",
        )
    if proof.counted is None:
        return Cell(
            "every frame of this import was checkpointed and synced; "
            "the main file was too busy to count its rows alone",
            "good",
        )
    return Cell(f"{plural(proof.counted, 'row')} counted in the main file alone", "good")


def _payload(result: ImportResult) -> dict[str, object]:
    proof = result.proof
    return {
        "database": result.database,
        "database_from": result.origin,
        "dry_run": result.dry_run,
        "exit_codes": [int(code) for code in result.codes],
        **{name: result.total(name) for name in COUNTS},
        "in_main_file": result.in_main_file,
        "proof": None
        if proof is None
        else {"kind": proof.kind, "expected": proof.expected, "counted": proof.counted},
        "write_lock_seconds": round(result.lock_seconds, 6),
        "sources": [
            {
                "source": tally.source,
                "kind": tally.kind,
                **{name: getattr(tally, name) for name in COUNTS},
                "absent": tally.absent,
                "offline": tally.offline,
                "error": tally.error.message if tally.error else None,
                "skips": [{"what": s.what, "reason": s.reason} for s in tally.skips],
            }
            for tally in result.tallies
        ],
        "checkpoint": None if result.dry_run else result.checkpoint.as_json(),
    }
