"""The scores of recovery count what they say, and a few kinds of damage are played for real."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.recovery.histories import SCHEMAS, STORIES, Schema, Victim, build
from tests.recovery.kinds import KINDS
from tests.recovery.scores import run_case, score
from tests.recovery.tools import Found, recover_here

BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture(params=SCHEMAS, ids=lambda schema: schema.name)
def schema(request: pytest.FixtureRequest) -> Schema:
    found: Schema = request.param
    return found


def test_there_are_forty_kinds_of_damage_and_each_has_its_own_name() -> None:
    assert len(BY_NAME) == len(KINDS) >= 40


@pytest.mark.parametrize("story", STORIES)
def test_the_history_is_the_truth(tmp_path: Path, schema: Schema, story: str) -> None:
    victim = build(schema, story, "log", tmp_path / "files", random.Random(1), 40)
    victim.remember()
    assert set(victim.live.values()) <= victim.existing(deleted=False) <= victim.versions.keys()
    assert bool(victim.gone) == (story == "churned")


def scored(tmp_path: Path, found: Found) -> tuple[float, float, int]:
    victim = Victim(SCHEMAS[0], tmp_path, random.Random(1))
    for n in (1, 2, 3):
        victim.versions[SCHEMAS[0].row(n, 1)] = SCHEMAS[0].marks(n, 1)
    victim.live = {n: SCHEMAS[0].row(n, 1) for n in (1, 2)}
    result = score(found, victim, set(victim.live.values()))
    return result.recall, result.precision, result.returned


def test_a_score_sees_rows_that_are_lost_made_up_or_brought_back(tmp_path: Path) -> None:
    one, two, gone = (SCHEMAS[0].row(n, 1) for n in (1, 2, 3))
    made_up = (1, "never", 2, "c", "/m")
    assert scored(tmp_path, Found({one, two})) == (1.0, 1.0, 0)
    assert scored(tmp_path, Found({one})) == (0.5, 1.0, 0)
    assert scored(tmp_path, Found({one, two}, {gone})) == (1.0, 1.0, 0)
    assert scored(tmp_path, Found({one, two, gone})) == (1.0, 1.0, 1)
    assert scored(tmp_path, Found({one, made_up})) == (0.5, 0.5, 0)
    assert scored(tmp_path, Found({one}, {(None, *two[1:])})) == (1.0, 1.0, 0)
    assert scored(tmp_path, Found({one}, {(9, *two[1:])})) == (0.5, 0.5, 0)


def test_a_row_that_lost_bytes_is_true_if_the_rest_of_it_is(tmp_path: Path) -> None:
    one, two, _ = (SCHEMAS[0].row(n, 1) for n in (1, 2, 3))
    part, lie = (*two[:4], None), (9, *two[1:4], None)
    lost = frozenset({4})
    assert scored(tmp_path, Found({one}, {part}, {part: lost})) == (0.5, 1.0, 0)
    assert scored(tmp_path, Found({one}, {lie}, {lie: lost})) == (0.5, 0.5, 0)
    assert scored(tmp_path, Found({one}, {part})) == (0.5, 0.5, 0)


PLAYED = (
    "half in the log", "scattered bits in a frame", "no database, a log", "page 1 zeroed",
    "superseded frames", "scattered deletes", "a deleted range", "a zeroed frame",
    "half of the database", "a torn last frame", "a torn last page", "a page of garbage",
    "a page of no type", "a cell pointer outside of its page", "a cell count that is too high",
    "a zeroed root", "three zeroed pages",
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(PLAYED)), ids=lambda number: PLAYED[number])
def test_every_row_whose_bytes_exist_comes_back(number: int) -> None:
    schema = SCHEMAS[number % len(SCHEMAS)]
    case = run_case(BY_NAME[PLAYED[number]], schema, "churned", 1, 120, {"recover": recover_here})
    ours = case.scores["recover"]
    assert not case.failures
    assert (ours.back, ours.true) == (ours.wanted, ours.shown), (case.missing, case.false)
    assert ours.wanted > 20
