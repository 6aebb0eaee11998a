"""Progress of long work: one protocol for whoever does the work and whoever shows it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Receives the work at hand, how much of it is done, and of how much if that is known."""

    def __call__(self, what: str, done: int, total: int | None = None, unit: str = "", /) -> None:
        """Show it. Cheap enough to be called for each item, from any thread.

        `unit` is ``bytes``, or a noun in the plural; without one it is the shower's own.
        """
        ...


def silent(what: str, done: int, total: int | None = None, unit: str = "") -> None:
    """Show nothing."""
    del what, done, total, unit


def unwatched(unit: str) -> AbstractContextManager[Progress]:
    """Return a progress that nobody sees, whatever `unit` it counts."""
    del unit
    return nullcontext(silent)
