"""What a verification found: the table for a person, the object for a program.

The shapes below are what `modelstore.finding` has; rendering knows no checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelstore.render.grid import Tone
    from modelstore.render.report import Part


class CheckpointShape(Protocol):
    """What was folded."""

    def as_json(self) -> dict[str, object]:
        """Return its numbers."""
        ...

    def wal_line(self) -> str:
        """Return them as a line."""
        ...


class FindingShape(Protocol):
    """One thing that a check found; its texts are outside text until they are made safe."""

    @property
    def code(self) -> str:
        """A stable name, such as ``log.pending``."""
        ...

    @property
    def check(self) -> str:
        """The check's name."""
        ...

    @property
    def severity(self) -> str:
        """pass, note, warn or fail."""
        ...

    @property
    def measured(self) -> str:
        """What was measured, in one sentence."""
        ...

    @property
    def where(self) -> str:
        """A path, a table, a process, or ""."""
        ...

    @property
    def advice(self) -> str | None:
        """What to do, in one sentence."""
        ...

    @property
    def data(self) -> Mapping[str, object]:
        """The figures."""
        ...


class VerificationShape(Protocol):
    """A whole run."""

    @property
    def database(self) -> str:
        """The path as it was given."""
        ...

    @property
    def origin(self) -> str:
        """Where the choice of it came from."""
        ...

    @property
    def findings(self) -> Sequence[FindingShape]:
        """All findings, in the order of the checks."""
        ...

    @property
    def started(self) -> str:
        """When it began, ISO-8601 UTC."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took."""
        ...

    @property
    def timings(self) -> Mapping[str, float]:
        """How long each check took, in seconds."""
        ...

    @property
    def strict(self) -> bool:
        """Whether warnings fail."""
        ...

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        ...

    @property
    def exit_code(self) -> int:
        """What it says to the shell."""
        ...

    @property
    def verdict(self) -> str:
        """The last line of every report."""
        ...

    @property
    def checkpoint(self) -> CheckpointShape | None:
        """What was folded."""
        ...


_FINDINGS = (
    Heading("CHECK"),
    Heading("RESULT"),
    Heading("MEASURED", shrink="wrap", least=20),
)
_TONES: dict[str, Tone] = {"pass": "good", "note": "dim", "warn": "warn", "fail": "bad"}
_COLUMNS = ("check", "code", "result", "measured", "where", "advice")


def findings_report(verification: VerificationShape) -> Report:
    """Return the report of a verification."""
    return Report(
        tuple(findings_body(verification)),
        findings_payload(verification),
        _COLUMNS,
        [
            (f.check, f.code, f.severity, f.measured, f.where or None, f.advice)
            for f in verification.findings
        ],
    )


def findings_body(verification: VerificationShape) -> list[Part]:
    """Return the table, what to do about each warning and failure, and the verdict."""
    rows = [
        (finding.check, Cell(finding.severity, _TONES[finding.severity]), finding.measured)
        for finding in verification.findings
    ]
    body: list[Part] = [Grid(_FINDINGS, rows)]
    told = set()
    for finding in verification.findings:
        line = f"{finding.check}: {finding.advice}"
        if finding.advice and finding.severity in ("warn", "fail") and line not in told:
            told.add(line)
            body.append(line)
    folded = verification.checkpoint
    if folded is not None and not any(f.check == "checkpoint" for f in verification.findings):
        body.append(folded.wal_line())
    body.append(f"{verification.database} ({verification.origin})")
    body.append(Cell(verification.verdict, "bad" if verification.failed else "good"))
    return body


def findings_payload(verification: VerificationShape) -> dict[str, object]:
    """Return everything as one JSON object; text from outside is raw."""
    findings = verification.findings
    checkpoint = verification.checkpoint
    folded = checkpoint.as_json() if checkpoint is not None else {}
    return {
        "database": verification.database,
        "database_from": verification.origin,
        "result": "fail" if verification.failed else "pass",
        "verdict": verification.verdict,
        "strict": verification.strict,
        "exit_code": int(verification.exit_code),
        "counts": {
            severity: sum(finding.severity == severity for finding in findings)
            for severity in _TONES
        },
        "findings": [
            {
                "check": finding.check,
                "code": finding.code,
                "result": finding.severity,
                "measured": finding.measured,
                "where": finding.where or None,
                "advice": finding.advice,
                "data": dict(finding.data),
            }
            for finding in findings
        ],
        "started": verification.started,
        "seconds": round(verification.seconds, 3),
        "timings": {name: round(spent, 3) for name, spent in verification.timings.items()},
        **{name: folded.get(name) for name in ("busy", "log", "checkpointed", "left")},
        "checkpoint": folded or None,
    }
