"""A verification as a table for a person and as a JSON object for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.render.formats import envelope, named_database
from modelstore.render.grid import Cell, Grid, Heading
from modelstore.render.report import Report

if TYPE_CHECKING:
    from modelstore.finding import Severity, Verification
    from modelstore.render.grid import Tone
    from modelstore.render.report import Part

_FINDINGS = (
    Heading("CHECK"),
    Heading("RESULT"),
    Heading("MEASURED", shrink="wrap", least=20),
)
_TONES: dict[Severity, Tone] = {"pass": "good", "note": "dim", "warn": "warn", "fail": "bad"}
_COLUMNS = ("check", "code", "result", "measured", "where", "advice")


def findings_report(verification: Verification) -> Report:
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


def findings_body(verification: Verification) -> list[Part]:
    """Return the table, the advice for each warning and failure, and the verdict."""
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
    body.append(named_database(verification.database, verification.origin))
    body.append(Cell(verification.verdict, "bad" if verification.failed else "good"))
    return body


def findings_payload(verification: Verification) -> dict[str, object]:
    """Return everything as one JSON object; text from outside is raw."""
    checkpoint = verification.checkpoint
    folded = checkpoint.as_json() if checkpoint is not None else {}
    report = {
        "result": "fail" if verification.failed else "pass",
        "verdict": verification.verdict,
        "strict": verification.strict,
        "claims": [finding.code for finding in verification.findings],
        "counts": {severity: verification.count(severity) for severity in _TONES},
        "findings": [finding.as_json() for finding in verification.findings],
        "started": verification.started,
        "seconds": round(verification.seconds, 3),
        "timings": {name: round(spent, 3) for name, spent in verification.timings.items()},
        **{name: folded.get(name) for name in ("busy", "log", "checkpointed", "left")},
        "checkpoint": folded or None,
    }
    return envelope(
        "verify",
        report,
        database=verification.database,
        database_from=verification.origin,
        exit_codes=(verification.exit_code,),
    )
