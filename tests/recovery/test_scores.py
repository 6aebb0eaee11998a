"""The scores of recovery count what they say, and a few kinds of damage are played for real."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.recovery.histories import SCHEMAS, STORIES, Schema, Victim, build
from tests.recovery.kinds import KINDS
from tests.recovery.scores import run_case, score
from tests.recovery.tools import Found, recover

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
    assert set(victim.live.values()) <= victim.existing() <= victim.versions.keys()
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


@pytest.mark.parametrize(
    "kind",
    ["half in the log", "scattered bits in a frame", "no database, a log", "page 1 zeroed",
     "superseded frames", "scattered deletes", "a deleted range"],
)  # fmt: skip
def test_every_row_whose_bytes_exist_comes_back(kind: str) -> None:
    case = run_case(BY_NAME[kind], SCHEMAS[0], "churned", 1, 120, {"recover": recover})
    ours = case.scores["recover"]
    assert not case.failures
    assert (ours.back, ours.true) == (ours.wanted, ours.shown), (case.missing, case.false)
    assert ours.wanted > 20
