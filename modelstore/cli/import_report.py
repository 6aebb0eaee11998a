"""What an import did, as one report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.errors import ExitCode, worst
from modelstore.render.fold import fold_parts
from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import Report
from modelstore.text import plural

if TYPE_CHECKING:
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.proof import Proof
    from modelstore.importing.importer import Tally

_SUMMED = ("found", "added", "updated", "unchanged", "missing", "pruned", "skipped")
_ALWAYS = ("found", "added", "updated", "unchanged", "skipped")
_ABSENT = (
    Heading("NOTHING AT", shrink="middle"),
    Heading("KIND"),
    Heading("WHY", shrink="wrap"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """Everything that the summary tells."""

    database: str
    origin: str
    tallies: tuple[Tally, ...]
    checkpoint: Checkpoint
    proof: Proof | None  # None where nothing was to be proved: a dry run
    dry_run: bool
    allow_empty: bool
    allow_pending: bool
    lock_seconds: float

    def total(self, name: str) -> int:
        """Return the sum of one count over all sources."""
        return sum(int(getattr(tally, name)) for tally in self.tallies)

    def is_fault(self, tally: Tally) -> bool:
        """Whether it is a fault that a source held no model: one that was named, or all."""
        if self.allow_empty or not tally.is_empty or tally.error:
            return False
        return not tally.optional or not self.total("found")

    @property
    def codes(self) -> tuple[ExitCode, ...]:
        """Every exit code that applies, the one that wins first."""
        found = {
            ExitCode.SKIPPED if tally.optional else tally.error.exit_code
            for tally in self.tallies
            if tally.error
        }
        if self.total("skipped") or any(self.is_fault(tally) for tally in self.tallies):
            found.add(ExitCode.SKIPPED)
        if not self.dry_run:
            found.add(self.checkpoint.exit_code(wrote=True, allow_pending=self.allow_pending))
            if self.proof is not None and not self.proof.holds:
                found.add(ExitCode.FAILED)
        ordered = []
        while found:
            ordered.append(worst(*found))
            found.discard(ordered[-1])
        return tuple(code for code in ordered if code) or (ExitCode.OK,)


def import_report(result: ImportResult) -> Report:
    """Return the report of an import."""
    return Report(
        body=tuple(_body(result)),
        payload=_payload(result),
        columns=("source", "kind", *_SUMMED, "error"),
        rows=[
            (t.source, t.kind, *(getattr(t, n) for n in _SUMMED), t.error and t.error.message)
            for t in result.tallies
        ],
    )


def _body(result: ImportResult) -> list[str | Cell | Grid]:
    shown = [name for name in _SUMMED if name in _ALWAYS or result.total(name)]
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
    if _is_pending(result.checkpoint):
        command = f"modelstore checkpoint {shlex.quote(result.database)}"
        parts.append(f"fold the rest when nobody is in the way: {command}")
    return parts


def _is_pending(checkpoint: Checkpoint) -> bool:
    """Whether what is not in the main file is safe in its log, and can be folded later."""
    return checkpoint.exit_code(wrote=True) is ExitCode.BUSY


def _proof_line(result: ImportResult) -> Cell:
    proof = result.proof
    if _is_pending(result.checkpoint):
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
        **{name: result.total(name) for name in _SUMMED},
        "in_main_file": bool(result.checkpoint.in_main_file and proof is not None and proof.holds),
        "proof": None
        if proof is None
        else {"kind": proof.kind, "expected": proof.expected, "counted": proof.counted},
        "write_lock_seconds": round(result.lock_seconds, 6),
        "sources": [
            {
                "source": tally.source,
                "kind": tally.kind,
                **{name: getattr(tally, name) for name in _SUMMED},
                "absent": tally.absent,
                "offline": tally.offline,
                "error": tally.error.message if tally.error else None,
                "skips": [{"what": s.what, "reason": s.reason} for s in tally.skips],
            }
            for tally in result.tallies
        ],
        "checkpoint": None if result.dry_run else result.checkpoint.as_json(),
    }
