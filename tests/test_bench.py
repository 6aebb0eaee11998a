"""The plumbing of the benchmarks; what they measure is no matter of a test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench import against
from tests.bench.__main__ import BENCHES
from tests.bench.equality import json_rows, same_rows
from tests.bench.growth import exponent
from tests.bench.measure import FailedError, Pairs, Sample, alternate, in_turn, run
from tests.bench.place import Place
from tests.bench.row import Row, compared, least, missing, table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks use posix_spawn")


def sample(wall: float) -> Sample:
    return Sample(wall, wall / 2, 1000)


def test_the_noise_of_one_pair_does_not_count() -> None:
    pairs = Pairs(tuple(map(sample, (1, 2, 90))), tuple(map(sample, (2, 4, 4))))
    assert (pairs.ratio, pairs.cpu_ratio) == (0.5, 0.5)
    row = compared("b", "what", "peer", pairs, limit=1.9, faster=True)
    assert (row.measured, row.met) == (2.0, True)
    assert compared("b", "what", "peer", pairs, limit=0.4).met is False
    assert compared("b", "what", "peer", pairs, steady=True).measured == 0.5


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


def test_a_wait_that_comes_once_is_the_machines() -> None:
    for waits, made, limit in (
        ([9, 2, 7], 2, True),
        ([9, 5, 8, 6, 1], 4, False),
        ([3, 1], 1, True),
    ):
        left = [Row(bench="b", what="w", measured=float(wait), limit=4.0) for wait in waits]
        row = least(lambda left=left: left.pop(0))  # type: ignore[misc]
        assert (len(waits) - len(left), row.met) == (made, limit)


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


def test_another_commit_is_checked_out_and_put_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    monkeypatch.setattr(against, "ROOT", repository)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(repository)]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for text in ("before", "after"):
        (repository / "file").write_text(text)
        subprocess.run([*git, "add", "file"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", text], check=True)
    with against.tree_of("HEAD~1", tmp_path) as tree:
        assert (tree / "file").read_text() == "before"
    assert not tree.exists()
    with pytest.raises(FailedError), against.tree_of("nothing", tmp_path):
        pass


def test_a_slower_commit_is_measured_twice_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Path] = []

    def once(work: against.Work, tree: Path) -> Sample:
        runs.append(tree)
        return sample(3 if work.name == "slow" and tree == against.ROOT else 2)

    @contextmanager
    def no_tree(_commit: str, directory: Path) -> Iterator[Path]:
        yield directory

    monkeypatch.setattr(against, "_once", once)
    monkeypatch.setattr(against, "tree_of", no_tree)
    works = [against.Work("slow", ()), against.Work("same", ())]
    monkeypatch.setattr(against, "works", lambda _place: iter(works))
    slow, same = against.compare(Place(tmp_path, tmp_path, quick=True), "HEAD", 0.1)
    assert (slow.measured, slow.met, same.met) == (1.5, False, True)
    assert len(runs) == 2 * (6 + 10 + 6)  # each first pair only warms
