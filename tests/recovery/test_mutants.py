"""Wrong inputs, a few of them; ``python -m tests.recovery --mutants N --commands N`` plays many."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore.recovery.trees import TreePage, TreeReader
from tests.forkserver import Ran
from tests.recovery import mutants, readers
from tests.recovery.readers import READERS
from tests.torture.attack import Plan
from tests.torture.targets import WrongAnswerError

_FEW = 300


def test_the_readers_mind_no_wrong_input() -> None:
    fed: Counter[str] = Counter()
    for number in range(_FEW):
        rng = random.Random(f"suite:{number}")
        (reader,) = rng.choices(READERS, [reader.share for reader in READERS])
        reader.feed(reader.make(rng))
        fed[reader.name] += 1
    assert fed.keys() == {reader.name for reader in READERS}


def test_a_changed_input_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writing(TreeReader):
        def pages(self, root: int, *, has_rowid: bool | None = None) -> Iterator[TreePage]:
            fd = self.view.state.main_fd
            assert fd is not None
            os.pwrite(fd, b"x", 0)
            yield from super().pages(root, has_rowid=has_rowid)

    monkeypatch.setattr(readers, "TreeReader", Writing)
    main, _ = readers.sound_pairs()[0]
    with pytest.raises(WrongAnswerError):
        readers.feed_database(main)


def test_the_command_minds_no_wrong_input() -> None:
    result = mutants.attack(Plan(7, 10, quick=True))
    assert result.skipped or result.cases == 10
    assert not result.failures, result.failures


@pytest.mark.parametrize(
    ("ran", "unchanged", "fault"),
    [
        (Ran(1, b"", b"this is a bug", 0.1, 1, timed_out=False), True, "exits 1"),
        (Ran(-9, b"", b"", 20.0, 1, timed_out=True), True, "hangs"),
        (Ran(0, b"{}", b"", 0.1, 1, timed_out=False), False, "changed its input"),
        (Ran(3, b"{}", b"", 0.1, 1, timed_out=False), True, "refuses, and answers"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, ran: Ran, unchanged: bool, fault: str) -> None:
    told = list(mutants.faults(ran, "recover", tmp_path / "new.db", is_unchanged=unchanged))
    assert [fault in one for one in told] == [True]
