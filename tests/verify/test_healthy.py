"""No check fails on sound databases, whatever their shape, and none is changed without leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.examining import codes, contents, examine, healthy

SEEDS = 60


@pytest.mark.parametrize("first", range(0, SEEDS, 15))
def test_sound_databases_of_varied_shapes_pass(tmp_path: Path, first: int) -> None:
    pending = 0
    for seed in range(first, first + 15):
        path = tmp_path / f"{seed}.db"
        is_pending = healthy(path, seed)
        pending += is_pending
        before = contents(path)
        untouched = examine(path, fold=False)
        after = contents(path)
        if before[path.name + "-wal"] or not after[path.name + "-wal"]:
            assert after == before, seed
        bad = codes(untouched)
        assert bad <= {"log.pending", "persistence.pending"}, (seed, bad, untouched.findings)
        found = examine(path, deep=seed % 2 == 0, quick=seed % 5 == 0)
        assert codes(found) <= {"log.pending"}, (seed, found.findings)
        assert not found.failed
        again = examine(path)
        assert not codes(again), (seed, again.findings)
    assert pending, "no seed leaves frames in its log"
