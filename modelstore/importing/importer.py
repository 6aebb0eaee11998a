"""The import itself: sources are read into a private scratch database, then merged and folded.

Nothing is read from a source while the write lock is held. A file is one transaction, the record
of its root included. The scan of a directory or a store commits and folds batch by batch, so that
an interrupt loses one batch at most and the next import continues from there; the record of the
root is part of the last batch.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from modelstore.catalogue.identity import join_models
from modelstore.catalogue.machines import (
    known_hosts,
    known_positions,
    news_of_machines,
    record_machines,
)
from modelstore.catalogue.merge import attached_staging, count_present, merge
from modelstore.catalogue.roots import (
    Prune,
    Settled,
    count_known,
    known_files,
    prune_models,
    settle_root,
    survey_root,
)
from modelstore.database.proof import Proof, prove
from modelstore.errors import LockedError, PartlyWrittenError, SourceError
from modelstore.found import Found, Machine
from modelstore.importing.changes import changes_since, last_row, named_models
from modelstore.importing.result import Tally
from modelstore.sources.base import Note, Rows, Unchanged
from modelstore.sources.kinds import kind_info, load
from modelstore.text import plural, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from modelstore.catalogue.roots import Survey
    from modelstore.catalogue.staging import Staging
    from modelstore.database.connection import OpenDatabase
    from modelstore.database.handle import Database
    from modelstore.found import KnownFile, Skipped
    from modelstore.importing.changes import ModelChange
    from modelstore.importing.targets import Chosen
    from modelstore.sources.base import Context, Item

_BATCH_MODELS = 500
_BATCH_SECONDS = 2.0
_KEPT_SKIPS = 10_000  # kept for the summary; stderr names every one


class Listener(Protocol):
    """Receives the events of an import while it runs. All text comes from outside, unescaped."""

    def note(self, text: str) -> None:
        """Receive a remark about nothing wrong."""
        ...

    def warn(self, text: str) -> None:
        """Receive a warning."""
        ...

    def skip(self, skipped: Skipped) -> None:
        """Receive a thing that was skipped, with its reason."""
        ...

    def progress(self, what: str, done: int, total: int | None = None, unit: str = "") -> None:
        """Receive the work at hand, as `modelstore.progress.Progress` does; for each item.

        Without a `unit`, `done` counts the models so far.
        """
        ...

    def may_prune(self, prune: Prune, named: Sequence[ModelChange]) -> bool:
        """Decide whether the models of `prune` are deleted; `named` has their names."""
        ...


def has_places(chosen: Chosen) -> bool:
    """Tell whether the catalogue keeps the places of the models of this source."""
    return kind_info(chosen.kind).has_places and chosen.target.stream is None


def _items(chosen: Chosen, context: Context) -> Iterator[Item]:
    """Yield the items of a source; for a detected store, then what lies beside it."""
    yield from load(chosen.kind).read(chosen.target, context)
    if chosen.detected and kind_info(chosen.kind).is_store:
        from modelstore.sources.files.directory import read_tree

        yield from read_tree(chosen.target.text, context, beside=chosen.kind)


class Importer:
    """Reads sources, one after the other, into an open catalogue.

    `tags` are added to each model. With `prune`, models whose files are gone are deleted.
    """

    def __init__(
        self,
        opened: OpenDatabase,
        staging: Staging,
        context: Context,
        listener: Listener,
        *,
        tags: tuple[str, ...] = (),
        prune: bool = False,
    ) -> None:
        self._opened = opened
        self._staging = staging
        self._context = context
        self._listener = listener
        self._tags = tags
        self._prune = prune
        self._done = 0
        self._tells_bytes = False  # the source tells how many of its bytes are read
        self._roots: dict[str, str] = {}  # of the places of the source that is read, with its kind
        self.committed = 0  # models, added or updated
        self.pruned: list[ModelChange] = []
        self._before = 0  # the last row of the catalogue at the beginning
        self.lock_seconds = 0.0  # the longest time that one of our transactions held the write lock

    def run(self, targets: Sequence[Chosen]) -> tuple[Tally, ...]:
        """Read every target into the catalogue; return the counts of each.

        Raises `LockedError` when the lock was not free in time and nothing was committed, and
        `PartlyWrittenError` when a part of the import was.
        """
        tallies: list[Tally] = []
        self._before = last_row(self._opened.db)
        try:
            tallies.extend(map(self.read, targets))
            if any(map(has_places, targets)):
                self._join(tallies)
        except LockedError as error:
            if not self.committed:
                raise
            raise PartlyWrittenError(
                f"{visible(self._opened.path, 200)} was locked by another process during this "
                f"import: {plural(self.committed, 'model')} were committed, the rest was not",
                hint="run the same command again to continue, or wait longer with --timeout",
            ) from error
        return tuple(tallies)

    def _join(self, tallies: Sequence[Tally]) -> None:
        """Join the rows that are one model; a row that was added and dropped is an update."""
        joined = join_models(self._opened, now=self._context.now)
        if not joined:
            return
        self._staging.joined(joined)
        models = self._opened.db.table("models")
        left = models.count_where("rowid > ?", [self._before])
        dropped = sum(tally.added for tally in tallies) - left
        where = "rowid <= ? AND updated_at = ?"
        updated = models.count_where(where, [self._before, self._context.now])
        updated -= sum(tally.updated + tally.missing for tally in tallies)
        for tally in reversed(tallies):
            count = min(max(dropped, 0), tally.added)
            updates = min(max(updated, 0), count)
            tally.added -= count
            tally.updated += updates
            tally.unchanged += count - updates
            dropped, updated = dropped - count, updated - updates

    def read(self, chosen: Chosen) -> Tally:
        """Read one source and commit what it holds.

        A source that fails as a whole leaves its error in the tally; a batch of it that was
        committed before stays.
        """
        tally = Tally(chosen.shown, chosen.kind, chosen.optional, chosen.absent)
        if chosen.absent is not None:
            self._finish(chosen, tally)
            return tally
        self._roots = {}
        self._tells_bytes = False
        in_batches = kind_info(chosen.kind).staged == "batches"
        context = replace(
            self._context,
            known=self._known(chosen.root) if has_places(chosen) else {},
            known_below=self._known,
            positions=lambda fleet: known_positions(self._opened.db, fleet),
            owners=lambda fleet: known_hosts(self._opened.db, fleet),
            progress=self._tell,
        )
        self._listener.progress(tally.source, self._done)
        try:
            self._stage(_items(chosen, context), tally, in_batches=in_batches)
        except SourceError as error:
            self._staging.clear()
            tally.machines.clear()
            tally.error = error
        self._finish(chosen, tally)
        return tally

    def _tell(self, what: str, done: int, total: int | None = None, unit: str = "") -> None:
        """Report how far a source is read: in bytes if it reports bytes, else in models."""
        self._tells_bytes = unit == "bytes" and total is not None
        if self._tells_bytes:
            self._listener.progress(f"{plural(self._done, 'model')} from {what}", done, total, unit)
        else:
            self._listener.progress(what, self._done)

    def _finish(self, chosen: Chosen, tally: Tally) -> None:
        """Commit the last batch of a source together with the record of its root."""
        if not has_places(chosen):
            machines, now = tally.machines, self._context.now
            self._merge(tally, then=lambda db: record_machines(db, machines, now))
            if news_of_machines(self._opened.db, machines):  # there was nothing to merge
                with self._opened.write() as db:
                    record_machines(db, machines, now)
            return
        reached = tally.error is None and tally.absent is None
        offline = self._settle(chosen.root, chosen.kind, tally, reached=reached)
        tally.offline = offline
        if kind_info(chosen.kind).staged == "batches":
            for root, kind in self._roots.items():  # of the stores in a tree
                if root != chosen.root:
                    self._settle(root, kind, tally, reached=True)

    def _settle(self, root: str, kind: str, tally: Tally, *, reached: bool) -> str | None:
        """Commit what is staged together with the record of a root.

        Return why the root counts as offline, or None.
        """
        survey = survey_root(
            self._opened.db, self._staging, root, host=self._context.host, reached=reached
        )
        settled = Settled()

        def settle(db: Database) -> None:
            nonlocal settled
            settled = settle_root(
                db,
                survey,
                source=kind,
                now=self._context.now,
                holds_models=bool(self._staging.pending or tally.found),
            )

        if self._staging.pending:
            self._merge(tally, then=settle)
        elif survey.is_known:
            with attached_staging(self._opened.db, self._staging), self._opened.write() as db:
                settle(db)
        tally.missing += len(settled.missing)
        if self._prune:
            self._prune_root(survey, settled, tally)
        return survey.offline if survey.offline and self._count_known(survey) else None

    def _prune_root(self, survey: Survey, settled: Settled, tally: Tally) -> None:
        if survey.refusal is not None:
            self._listener.warn(f"{survey.root} is not pruned: {survey.refusal}")
            return
        if not settled.prunable:
            return
        prune = Prune(survey.root, self._count_known(survey), settled.prunable)
        named = named_models(self._opened.db, prune.models)
        if self._listener.may_prune(prune, named):
            pruned = prune_models(self._opened, prune.models)
            self.pruned += [model for model in named if model.id in pruned]
            tally.pruned += len(pruned)
            tally.missing -= len(settled.missing.intersection(pruned))

    def _count_known(self, survey: Survey) -> int:
        return count_known(self._opened.db, survey.root, survey.host)

    def changes(
        self, tallies: Sequence[Tally], *, most: int | None
    ) -> tuple[ModelChange, ...] | None:
        """Return the models that this import changed; None for more than `most`.

        None, too, if another program wrote in the same second: then they cannot be told apart.
        """
        added = sum(tally.added for tally in tallies)
        updated = sum(tally.updated + tally.missing for tally in tallies)
        if most is not None and added + updated + len(self.pruned) > most:
            return None
        found = changes_since(
            self._opened.db, self._before, self._context.now, added=added, updated=updated
        )
        return None if found is None else (*found, *self.pruned)

    def prove(self) -> Proof:
        """Count every row of this import in the main file alone, if it can be kept still."""
        self._listener.progress("counting the rows in the main file alone", 0)
        return prove(
            self._opened,
            lambda db: count_present(db, self._staging),
            self._staging.expected(),
            self._opened.timeout,
        )

    def _stage(self, items: Iterable[Item], tally: Tally, *, in_batches: bool) -> None:
        """Stage every item; commit a full batch only when a model follows it, so never the last."""
        begun = time.monotonic()
        for item in items:
            if in_batches and isinstance(item, (Found, Unchanged, Rows)) and self._is_full(begun):
                self._merge(tally)
                self._opened.fold_now()
                begun = time.monotonic()
            self._take(item, tally)

    def _is_full(self, begun: float) -> bool:
        pending = self._staging.pending
        return pending >= _BATCH_MODELS or (
            pending > 0 and time.monotonic() - begun > _BATCH_SECONDS
        )

    def _take(self, item: Item, tally: Tally) -> None:
        staging = self._staging
        if isinstance(item, (Found, Unchanged)) and item.place is not None:
            self._roots[item.place.root] = item.place.source
        count = 1
        if isinstance(item, Found):
            rejected = staging.add(item, is_authoritative=kind_info(tally.kind).is_authoritative)
            if rejected is not None:
                self._skip(tally, rejected)
                return
        elif isinstance(item, Unchanged):
            staging.add_seen(item.locator, item.place, item.naming)
        elif isinstance(item, Rows):
            refused = staging.add_rows(
                item.rows, is_authoritative=kind_info(tally.kind).is_authoritative
            )
            for one in refused:
                self._skip(tally, one)
            count = len(item.rows) - len(refused)
        elif isinstance(item, Note):
            self._listener.note(item.text)
            return
        elif isinstance(item, Machine):
            tally.machines.append(item)
            return
        else:
            self._skip(tally, item)
            return
        self._done += count
        if not self._tells_bytes:
            self._listener.progress(tally.source, self._done)

    def _skip(self, tally: Tally, skipped: Skipped) -> None:
        tally.skipped += 1
        if len(tally.skips) < _KEPT_SKIPS:
            tally.skips.append(skipped)
        self._listener.skip(skipped)

    def _merge(self, tally: Tally, then: Callable[[Database], None] | None = None) -> None:
        """Merge what is staged, and call `then` in the same transaction."""
        if not self._staging.pending:
            return
        before = self._opened.commits
        self._listener.progress(f"merging {plural(self._staging.pending, 'model')}", 0)
        try:
            merged = merge(
                self._opened, self._staging, now=self._context.now, tags=self._tags, then=then
            )
        except BaseException:
            if self._opened.commits > before:  # Ctrl-C came just after
                self.committed += self._staging.pending
            raise
        self.lock_seconds = max(self.lock_seconds, merged.lock_seconds)
        self.committed += merged.added + merged.updated
        tally.count(merged)
        self._staging.clear()

    def _known(self, root: str) -> Mapping[str, KnownFile]:
        return known_files(self._opened.db, root, self._context.host)
