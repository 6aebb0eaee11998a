"""Scores: how many of the rows that must come back do, and how many of those shown are true."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.recovery.histories import SCHEMAS, STORIES, Row, Schema, Victim, build
from tests.recovery.kinds import Kind
from tests.recovery.tools import Found, Tool


@dataclass(slots=True)
class Score:
    """Counts of one tool: `wanted` rows exist and must come back, `shown` rows came back.

    `returned` are deleted or changed rows in the table itself, as if they had not been. `keyless`
    rows came back without their rowid, because a freeblock's header overwrote it. `partial` rows
    are marked, because bytes of them are lost; what they have must be true.
    """

    wanted: int = 0
    back: int = 0
    shown: int = 0
    true: int = 0
    returned: int = 0
    keyless: int = 0
    partial: int = 0

    @property
    def recall(self) -> float:
        """Share of the wanted rows that came back."""
        return self.back / self.wanted if self.wanted else 1.0

    @property
    def precision(self) -> float:
        """Share of the rows shown that are true."""
        return self.true / self.shown if self.shown else 1.0

    def add(self, other: Score) -> None:
        """Add the counts of another score."""
        self.wanted += other.wanted
        self.back += other.back
        self.shown += other.shown
        self.true += other.true
        self.returned += other.returned
        self.keyless += other.keyless
        self.partial += other.partial


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged database, and what each tool made of it."""

    kind: str
    schema: str
    story: str
    scores: Mapping[str, Score]
    failures: Mapping[str, str]
    missing: Sequence[Row]
    false: Sequence[Row]


def score(found: Found, victim: Victim, wanted: set[Row]) -> Score:
    """Compare what a tool found with what was ever committed."""
    ever = victim.versions.keys()
    back = found.all & wanted
    keyless = {_without_key(row, victim) for row in found.all if row[victim.schema.key] is None}
    return Score(
        len(wanted),
        len(back) + sum(_without_key(row, victim) in keyless for row in wanted - back),
        len(found.all),
        len(found.all) - len(false_rows(found, victim)),
        len((found.table & ever) - set(victim.live.values())),
        len(keyless),
        len(found.partial),
    )


def _without_key(row: Row, victim: Victim) -> Row:
    return row[: victim.schema.key] + row[victim.schema.key + 1 :]


def false_rows(found: Found, victim: Victim) -> set[Row]:
    """Return the rows that were never committed; a row may come without its key."""
    key = victim.schema.key
    keyless = {_without_key(row, victim) for row in victim.versions}
    return {
        row
        for row in found.all - victim.versions.keys()
        if (row[key] is not None or _without_key(row, victim) not in keyless)
        and not any(
            _is_part(row, found.partial.get(row, range(len(row))), of) for of in victim.versions
        )
    }


def _is_part(partial: Row, lost: Collection[int], row: Row) -> bool:
    """Return True if a row that lost values agrees with `row` in all others."""
    kept = [place for place in range(len(row)) if place not in lost]
    return bool(kept) and all(partial[place] == row[place] for place in kept)


def run_case(
    kind: Kind, schema: Schema, story: str, seed: int, total: int, tools: Mapping[str, Tool]
) -> Case:
    """Make a victim, damage it, and let each tool work on its files. The first tool is ours."""
    directory = Path(tempfile.mkdtemp(prefix="recovery-"))
    try:
        maker = random.Random(f"{kind.name} {schema.name} {story} {seed}")
        victim = build(schema, story, kind.place, directory / "files", maker, total, kind.after)
        victim.remember()
        arguments = [*kind.arguments, *(kind.damage(victim) or [])]
        existing = victim.existing(deleted="--deleted" in arguments)
        wanted = existing if kind.wanted == "all" else existing & set(victim.live.values())
        scores, failures = {}, {}
        missing: list[Row] = []
        false: list[Row] = []
        for number, (name, tool) in enumerate(tools.items()):
            work = directory / f"work-{number}"
            work.mkdir()
            found = tool(victim.directory, schema, arguments, work)
            scores[name] = score(found, victim, wanted)
            if found.failure:
                failures[name] = found.failure
            if not number:
                missing = sorted(wanted - found.all, key=repr)
                false = sorted(false_rows(found, victim), key=repr)
        return Case(kind.name, schema.name, story, scores, failures, missing, false)
    finally:
        shutil.rmtree(directory)


def cases(
    kinds: Sequence[Kind], tools: Mapping[str, Tool], seed: int, total: int, *, quick: bool
) -> Iterator[Case]:
    """Yield a case for each kind, schema and history; `quick` takes one of each kind.

    The seed chooses its schema, so that five seeds play all of them.
    """
    for number, kind in enumerate(kinds):
        for place, schema in enumerate(SCHEMAS):
            for story in STORIES:
                is_chosen = place == (number + seed) % len(SCHEMAS) and story == "churned"
                if is_chosen or not quick:
                    yield run_case(kind, schema, story, seed, total, tools)
