"""The drill as a story: its steps as they happen, and how it says that one went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIXES = {"did": "", "good": "ok: ", "bad": "FAILED: "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One sentence of the story, without a full stop; it may hold outside text, raw.

    `act` counts the questions from 1, and is 0 for what is said before and after them.
    """

    act: int
    kind: Literal["question", "did", "good", "bad"]
    text: str

    def __str__(self) -> str:
        """Return it as a line: a question, and what belongs to it indented below."""
        if self.kind == "question":
            return f"{self.act}. {self.text}"
        return ("   " if self.act else "") + _PREFIXES[self.kind] + self.text


class DrillFailure(Exception):  # noqa: N818  # a result of the drill, not an error of ours
    """What went otherwise than it must, and what that means for whoever keeps a database here."""

    def __init__(self, text: str, meaning: str) -> None:
        super().__init__(text)
        self.text = text
        self.meaning = meaning


class Story:
    """Tells each step as it happens, and keeps them all."""

    def __init__(self, tell: Callable[[Step], None]) -> None:
        self.steps: list[Step] = []
        self._tell = tell
        self._act = 0

    def ask(self, act: int, question: str) -> None:
        """Begin an act."""
        self._act = act
        self._add("question", question)

    def end(self) -> None:
        """Leave the last act."""
        self._act = 0

    def did(self, text: str) -> None:
        """Tell what was done or measured."""
        self._add("did", text)

    def good(self, text: str) -> None:
        """Tell what is as it must be."""
        self._add("good", text)

    def bad(self, text: str) -> None:
        """Tell what is not as it must be."""
        self._add("bad", text)

    def _add(self, kind: Literal["question", "did", "good", "bad"], text: str) -> None:
        step = Step(act=self._act, kind=kind, text=text)
        self.steps.append(step)
        self._tell(step)
