"""What the checks of a database found, and what that says to the shell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from modelstore.errors import ExitCode
from modelstore.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.database.checkpoint import Checkpoint

Severity = Literal["pass", "note", "warn", "fail"]
"""pass: measured, and as it should be; note: good to know, or why something was not checked;
warn: a risk, or what this run repaired; fail: damage, loss, or an expectation not met."""

Check = Literal[
    "file",
    "log",
    "integrity",
    "checkpoint",
    "persistence",
    "environment",
    "models",
    "drill",
    "expectations",
]

CHECKS: tuple[Check, ...] = (
    *("file", "log", "integrity", "checkpoint", "persistence"),
    *("environment", "models", "drill", "expectations"),
)
"""All checks, in the order in which they are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found.

    `code` is stable, for programs: the check's name, a dot, and a word. `measured` and `advice`
    are one sentence each, without a full stop; `where` is a path, a table, a process or "".
    All three, and `data`, may hold outside text, raw: whoever shows them makes them safe.
    `data` are the figures for programs: JSON's own types alone, sizes in bytes, text raw.
    """

    code: str
    check: Check
    severity: Severity
    measured: str
    where: str = ""
    advice: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)


class Maker(Protocol):
    """Makes the findings of one check."""

    def __call__(
        self,
        word: str,
        severity: Severity,
        measured: str,
        where: str = "",
        advice: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> Finding:
        """Return a finding; `word` is the second part of its code."""
        ...


def findings_of(check: Check) -> Maker:
    """Return what makes the findings of a check."""

    def make(
        word: str,
        severity: Severity,
        measured: str,
        where: str = "",
        advice: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> Finding:
        return Finding(
            code=f"{check}.{word}",
            check=check,
            severity=severity,
            measured=measured,
            where=where,
            advice=advice,
            data=data or {},
        )

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of one run: its findings, in the order of `CHECKS`.

    `database` is the path as it was given (the directory, in a drill without a database), `origin`
    where that choice came from. `started` is ISO-8601 UTC; `seconds` and `timings` (one for each
    check that ran) are durations. `checkpoint` is what was folded, None where nothing was tried.
    """

    database: str
    origin: str
    findings: tuple[Finding, ...]
    started: str
    seconds: float
    timings: Mapping[str, float] = field(default_factory=dict)
    strict: bool = False
    checkpoint: Checkpoint | None = None

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def failed(self) -> bool:
        """Whether a check failed; with `strict`, a warning is a failure too."""
        return bool(self.count("fail") or (self.strict and self.count("warn")))

    @property
    def exit_code(self) -> ExitCode:
        """What the run says to the shell."""
        return ExitCode.FAILED if self.failed else ExitCode.OK

    @property
    def verdict(self) -> str:
        """The last line of every report, such as ``PASS, 1 warning (--strict fails)``."""
        failures, warnings = self.count("fail"), self.count("warn")
        parts = ["FAIL" if self.failed else "PASS"]
        if failures:
            parts.append(plural(failures, "failure"))
        if warnings:
            tail = "" if failures else " (--strict)" if self.strict else " (--strict fails)"
            parts.append(plural(warnings, "warning") + tail)
        return ", ".join(parts)
