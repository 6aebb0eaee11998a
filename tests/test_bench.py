"""The plumbing of the benchmarks; what they measure is no matter of a test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES
from tests.bench.equality import json_rows, same_rows
from tests.bench.growth import exponent
from tests.bench.measure import FailedError, Pairs, Sample, alternate, in_turn, run
from tests.bench.row import Row, compared, missing, table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks use posix_spawn")


def sample(wall: float) -> Sample:
    return Sample(wall, wall / 2, 1000)


def test_the_noise_of_one_pair_does_not_count() -> None:
    pairs = Pairs(tuple(map(sample, (1, 2, 90))), tuple(map(sample, (2, 4, 4))))
    assert (pairs.ratio, pairs.cpu_ratio) == (0.5, 0.5)
    row = compared("b", "what", "peer", pairs, limit=1.9, faster=True)
    assert (row.measured, row.met) == (2.0, True)
    assert compared("b", "what", "peer", pairs, limit=0.4).met is False


def test_runs_alternate_and_the_first_pair_only_warms() -> None:
    order: list[str] = []
    walls = iter(range(1, 9))

    def noted(name: str) -> Sample:
        order.append(name)
        return sample(next(walls))

    pairs = alternate(lambda: noted("a"), lambda: noted("b"), 2)
    assert "".join(order) == "ababab"
    assert [one.wall for one in pairs.ours] == [3, 5]


def test_programs_are_timed_and_their_failure_is_none() -> None:
    python = sys.executable
    pairs = in_turn([python, "-c", "x = b'x' * 60_000_000"], [python, "-c", "0"], 1)
    assert pairs.ours[0].memory - pairs.peer[0].memory > 40_000_000
    with pytest.raises(FailedError, match="exited 3: because"):
        run([python, "-c", "import sys; print('because', file=sys.stderr); sys.exit(3)"])


def test_a_missing_peer_is_never_beaten() -> None:
    row = missing("scan", "a scan", "showwal")
    assert row.met is None
    assert "showwal is missing" in table([row])


def test_a_budget_that_is_not_met_stands_out() -> None:
    over = Row(bench="b", what="w", measured=2.0, limit=1.0)
    assert "| 2 × | ≤ 1 × | **no** |" in table([over])


@pytest.mark.parametrize("wrong", [[{"a": 1}], [{"a": 1}, {"a": 3, "tags": "[]"}]])
def test_different_content_is_found(wrong: list[dict[str, object]], tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('[{"a":1},\n{"a":2,"tags":"[\\"x\\"]"}]\n')
    right: list[dict[str, object]] = [{"a": 1}, {"a": 2, "tags": ["x"]}]
    assert same_rows(json_rows(path), right) == 2
    path.write_text('{"a":1}\n{"a":2,"tags":["x"]}\n')
    assert same_rows(json_rows(path), right) == 2
    with pytest.raises(FailedError):
        same_rows(json_rows(path), wrong)


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_an_exponent_is_fitted_whatever_the_start_costs(power: float) -> None:
    times = [0.3 + 0.01 * size**power for size in (1, 10, 100)]
    assert exponent(*times) == pytest.approx(power)


def test_every_benchmark_can_be_chosen() -> None:
    directory = Path(__file__).parent / "bench"
    assert all((directory / f"{name}.py").exists() for name in BENCHES)
