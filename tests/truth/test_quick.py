"""The harness in its quick form, and the broken twins that prove it."""

from __future__ import annotations

import pytest

from tests.truth.__main__ import run_histories
from tests.truth.life import scratch
from tests.truth.races import race
from tests.truth.trial import Bench
from tests.truth.twins import TWINS

SEED = 1
FIRST_CAUGHT = {"same-where-no-row-differs": 17, "sees-no-damage": 13, "is-afraid": 12}
"""The history that catches a twin, where it is not one of the first."""


def test_no_claim_is_false() -> None:
    outcome = run_histories(range(25), SEED)
    assert outcome.counts["main file differs"], "the histories show nothing"
    assert [failure.complaint for failure in outcome.failures] == []


@pytest.mark.parametrize("twin", TWINS)
def test_a_broken_twin_is_caught(twin: str) -> None:
    first = FIRST_CAUGHT.get(twin, 0)
    with scratch() as place, Bench(place, twin) as bench:
        assert any(bench.trial(f"{SEED}:{n}").failures for n in range(first, first + 3))


def test_a_race_is_no_damage() -> None:
    counts, wrong = race(3, 1, 4 << 20)
    assert wrong == []
    assert counts["programs run"]
