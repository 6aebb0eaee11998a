"""The evidence against a fold, for a person: each reason, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.render.grid import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelstore.database.evidence import Reason
    from modelstore.render.report import Part


def evidence_parts(reasons: Iterable[Reason]) -> list[Part]:
    """Return two lines for each reason: the sentence, and the advice."""
    return [
        part
        for reason in reasons
        for part in (Cell(reason.text, "bad"), Cell(f"To do: {reason.hint}", "warn"))
    ]
