"""The result of an import: counts of each source, the fold, the proof, and the exit codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelstore.errors import ExitCode, ModelstoreError, worst

if TYPE_CHECKING:
    from modelstore.catalogue.merge import Merged
    from modelstore.database.checkpoint import Checkpoint
    from modelstore.database.proof import Proof
    from modelstore.found import Machine, Skipped
    from modelstore.importing.changes import ModelChange
    from modelstore.importing.replicated import Replicated

COUNTS = ("found", "added", "updated", "unchanged", "missing", "pruned", "skipped")
"""The counts of a `Tally`, in the order in which they are shown."""


@dataclass(slots=True)
class Tally:
    """The counts of one source; they grow while it is read."""

    source: str  # as it was given: outside text
    kind: str
    optional: bool = False  # discovered, not named
    absent: str | None = None  # why there was nothing to read
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    missing: int = 0  # models whose files are gone, now marked
    pruned: int = 0
    skipped: int = 0
    skips: list[Skipped] = field(default_factory=list)
    offline: str | None = None  # why no model of this source counts as gone
    error: ModelstoreError | None = None
    machines: list[Machine] = field(default_factory=list)  # of a fleet

    @property
    def found(self) -> int:
        """Models in this source, each counted once, however many of its places show it."""
        return self.added + self.updated + self.unchanged

    @property
    def is_empty(self) -> bool:
        """True for a source without a model; an unchanged fleet is not empty."""
        return self.found == 0 and not self.machines

    def count(self, merged: Merged) -> None:
        """Add the counts of one merge."""
        self.added += merged.added
        self.updated += merged.updated
        self.unchanged += merged.unchanged


class ImportResult(NamedTuple):
    """Everything that an import did."""

    database: str  # path, as given
    origin: str  # of that path: --db, MODELSTORE_DB, default
    tallies: tuple[Tally, ...]
    checkpoint: Checkpoint
    proof: Proof | None  # None for a dry run, which has nothing to prove
    dry_run: bool
    allow_empty: bool
    allow_pending: bool
    lock_seconds: float  # the longest that one transaction held the write lock
    changes: tuple[ModelChange, ...] | None = None  # None if they are many
    replica: Replicated | None = None  # None if no replica was named

    def total(self, name: str) -> int:
        """Return the sum of one of `COUNTS` over all sources."""
        return sum(int(getattr(tally, name)) for tally in self.tallies)

    def is_fault(self, tally: Tally) -> bool:
        """Tell whether it is a fault that this source holds no model.

        An empty source is a fault when it was named, or when no source at all holds a model.
        """
        if self.allow_empty or not tally.is_empty or tally.error:
            return False
        return not tally.optional or not self.total("found")

    @property
    def is_pending(self) -> bool:
        """True while rows are safe in database and log together, but not in the main file."""
        return self.checkpoint.exit_code("write") is ExitCode.BUSY

    @property
    def in_main_file(self) -> bool:
        """True when every row of this import is in the main file, and that was proved."""
        return self.checkpoint.in_main_file and self.proof is not None and self.proof.holds

    @property
    def codes(self) -> tuple[ExitCode, ...]:
        """Every exit code that applies; the process ends with the first."""
        found = {
            ExitCode.SKIPPED if tally.optional else tally.error.exit_code
            for tally in self.tallies
            if tally.error
        }
        if self.total("skipped") or any(self.is_fault(tally) for tally in self.tallies):
            found.add(ExitCode.SKIPPED)
        if not self.dry_run:
            found.add(self.checkpoint.exit_code("write", allow_pending=self.allow_pending))
            if self.proof is not None and not self.proof.holds:
                found.add(ExitCode.FAILED)
        if self.replica is not None:
            found.add(self.replica.exit_code)
        ordered = []
        while found:
            ordered.append(worst(*found))
            found.discard(ordered[-1])
        return tuple(code for code in ordered if code) or (ExitCode.OK,)
