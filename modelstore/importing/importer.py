"""The import itself: sources are read into a private scratch database, then merged and folded.

Nothing is read from a source while the write lock is held. A data file is one transaction; the
scan of a directory or a store commits and folds batch by batch, so that an interrupt loses one
batch at most and the next import goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from modelstore.catalogue.merge import Merged, count_present, merge
from modelstore.catalogue.roots import finish_root, known_files, survey_root
from modelstore.database.proof import Proof, prove
from modelstore.errors import ModelstoreError, SourceError
from modelstore.sources.base import Found, KnownFile, Note, Rows, Skipped, Unchanged
from modelstore.sources.kinds import kind_info, load
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modelstore.catalogue.roots import Plan
    from modelstore.catalogue.staging import Staging
    from modelstore.cli.output import Output
    from modelstore.cli.progress import Progress
    from modelstore.database.connection import OpenDatabase
    from modelstore.importing.targets import Chosen
    from modelstore.sources.base import Context, Item

_BATCH_MODELS = 500
_BATCH_SECONDS = 2.0
_KEPT_SKIPS = 10_000  # kept for the summary; stderr names every one


@dataclass(slots=True)
class Tally:
    """What one source brought; its counts grow while it is read."""

    source: str  # as it was given: outside text
    kind: str
    optional: bool = False
    absent: str | None = None  # why there was nothing to read
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    missing: int = 0  # models whose files are gone, now marked
    pruned: int = 0
    skipped: int = 0
    skips: list[Skipped] = field(default_factory=list)
    offline: str | None = None  # why nothing of it is taken for gone
    error: ModelstoreError | None = None

    @property
    def found(self) -> int:
        """Models that it holds, each once however many of its places show it."""
        return self.added + self.updated + self.unchanged

    @property
    def is_empty(self) -> bool:
        """Whether it held no model at all."""
        return self.found == 0

    def count(self, merged: Merged) -> None:
        """Add what a merge did."""
        self.added += merged.added
        self.updated += merged.updated
        self.unchanged += merged.unchanged


def has_places(chosen: Chosen) -> bool:
    """Whether a source shows models in places, which a later import compares with."""
    return kind_info(chosen.kind).has_places and chosen.target.stream is None


class Importer:
    """Reads one source after the other into the catalogue that `opened` is."""

    def __init__(
        self,
        out: Output,
        opened: OpenDatabase,
        staging: Staging,
        context: Context,
        tags: tuple[str, ...],
        show: Progress,
    ) -> None:
        self._out = out
        self._opened = opened
        self._staging = staging
        self._context = context
        self._tags = tags
        self._show = show
        self._done = 0
        self.committed = 0  # models, added or updated
        self.lock_seconds = 0.0  # the longest that a transaction of ours held the write lock

    def read(self, chosen: Chosen) -> Tally:
        """Read one source and commit what it holds.

        A source that fails as a whole leaves its error in the tally; a batch of it that was
        committed before stays.
        """
        tally = Tally(chosen.target.text, chosen.kind, chosen.optional, chosen.absent)
        if chosen.absent is not None:
            return tally
        in_batches = kind_info(chosen.kind).staged == "batches"
        context = replace(
            self._context,
            known=self._known(chosen.root) if has_places(chosen) else {},
            progress=lambda what, _count: self._show(what, self._done),
        )
        try:
            items = load(chosen.kind).read(chosen.target, context)
            self._stage(items, tally, in_batches=in_batches)
        except SourceError as error:
            self._staging.clear()
            tally.error = error
            return tally
        self._commit(tally, fold=False)
        return tally

    def settle(
        self, chosen: Chosen, tally: Tally, *, prune: bool, ask: Callable[[Plan], bool]
    ) -> None:
        """Mark what is gone from a source that was read, or prune it; an offline one is left."""
        if not has_places(chosen):
            return
        plan = survey_root(
            self._opened.conn,
            self._staging,
            chosen.root,
            host=self._context.host,
            reached=tally.error is None and tally.absent is None,
        )
        tally.offline = plan.offline if plan.known else None
        if prune and plan.refusal is not None:
            self._out.warn(f"{visible(chosen.root, 300)} is not pruned: {plan.refusal}")
            prune = False
        finished = finish_root(
            self._opened,
            plan,
            source=chosen.kind,
            now=self._context.now,
            prune=prune and bool(plan.prunable) and ask(plan),
        )
        tally.missing, tally.pruned = finished.missing, finished.pruned

    def prove(self) -> Proof:
        """Count every row of this import in the main file alone, if that can be had now."""
        return prove(
            self._opened,
            lambda conn: count_present(conn, self._staging),
            self._staging.expected(),
            self._opened.timeout,
        )

    def _stage(self, items: Iterable[Item], tally: Tally, *, in_batches: bool) -> None:
        last = time.monotonic()
        for item in items:
            self._take(item, tally)
            if not in_batches:
                continue
            now = time.monotonic()
            if self._staging.pending >= _BATCH_MODELS or now - last > _BATCH_SECONDS:
                self._commit(tally, fold=True)
                last = time.monotonic()

    def _take(self, item: Item, tally: Tally) -> None:
        staging = self._staging
        count = 1
        if isinstance(item, Found):
            rejected = staging.add(item, told=kind_info(tally.kind).is_authoritative)
            if rejected is not None:
                self._skip(tally, Skipped(rejected.what, rejected.reason))
                return
        elif isinstance(item, Unchanged):
            staging.add_seen(item.locator, item.place)
        elif isinstance(item, Rows):
            refused = staging.add_rows(item.rows, fill=not kind_info(tally.kind).is_authoritative)
            for one in refused:
                self._skip(tally, Skipped(one.what, one.reason))
            count = len(item.rows) - len(refused)
        elif isinstance(item, Note):
            self._out.note(item.text)
            return
        else:
            self._skip(tally, item)
            return
        self._done += count
        self._show(tally.source, self._done)

    def _skip(self, tally: Tally, skipped: Skipped) -> None:
        tally.skipped += 1
        if len(tally.skips) < _KEPT_SKIPS:
            tally.skips.append(skipped)
        self._out.message(f"skipped: {visible(skipped.what, 300)}: {visible(skipped.reason, 300)}")

    def _commit(self, tally: Tally, *, fold: bool) -> None:
        if self._staging.pending:
            before = self._opened.commits
            try:
                merged = merge(self._opened, self._staging, now=self._context.now, tags=self._tags)
            except BaseException:
                if self._opened.commits > before:  # Ctrl-C came just after
                    self.committed += self._staging.pending
                raise
            self.lock_seconds = max(self.lock_seconds, merged.lock_seconds)
            self.committed += merged.added + merged.updated
            tally.count(merged)
            self._staging.clear()
            if fold:
                self._opened.fold_now()

    def _known(self, root: str) -> Mapping[str, KnownFile]:
        known = known_files(self._opened.conn, root, self._context.host)
        return {path: KnownFile(*row) for path, row in known.items()}
