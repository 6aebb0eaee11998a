"""The findings of a verification, and their summary.

`verify` makes these values and `render` shows them; the two packages do not know each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from modelstore.errors import ExitCode
from modelstore.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelstore.database.checkpoint import Checkpoint

Severity = Literal["pass", "note", "warn", "fail"]
"""pass: measured, and sound. note: good to know, or the reason why a check was not made.
warn: a risk, or a fault that this run repaired. fail: damage, loss, or an expectation not met."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of one check.

    `code` is stable, for programs: the check's name, a dot and a word. `measured` and `advice` are
    one sentence each, without a full stop. `where` is a path, a table, a process or "". `data`
    holds figures as JSON values, sizes in bytes. All texts may hold outside text, raw: whoever
    shows them escapes them.
    """

    code: str
    severity: Severity
    measured: str
    where: str = ""
    advice: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)

    @property
    def check(self) -> str:
        """The name of the check."""
        return self.code.partition(".")[0]

    def as_json(self) -> dict[str, object]:
        """Return the fields as JSON values; the severity is called ``result`` there."""
        values = asdict(self)
        code, result = values.pop("code"), values.pop("severity")
        values["where"] = self.where or None
        return {"check": self.check, "code": code, "result": result, **values}


@dataclass(frozen=True, slots=True)
class LogFigures:
    """Figures of a log that a monitor follows; None for what cannot be known.

    `live_bytes` are those of the frames that count, when the run began; the file may be larger.
    `last_fold` is the last write to the main file, which in WAL mode a checkpoint alone makes.
    `oldest_reader` is the start of the oldest process that reads from the log: its transaction is
    no older. Times are in seconds since the epoch.
    """

    live_bytes: int | None = None
    last_fold: float | None = None
    oldest_reader: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of one run, its findings in the order of the checks.

    `database` is the path as it was given (the directory, for a drill without a database), and
    `origin` says who chose it. `started` is ISO-8601 UTC. `seconds` and `timings` (one for each
    check that ran) are durations. `checkpoint` is None where no fold was tried. `titles` has a
    title for people for each check that was chosen.
    """

    database: str
    origin: str
    findings: tuple[Finding, ...]
    started: str
    seconds: float
    timings: Mapping[str, float] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    checkpoint: Checkpoint | None = None
    log: LogFigures = LogFigures()

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def by_check(self) -> dict[str, list[Finding]]:
        """Return the findings of each check that has any."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.check, []).append(finding)
        return found

    @property
    def failed(self) -> bool:
        """True if a check failed; with `strict`, a warning is a failure too."""
        return bool(self.count("fail") or (self.strict and self.count("warn")))

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the run."""
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
