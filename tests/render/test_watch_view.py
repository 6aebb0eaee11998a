"""The screen of a watch fits every terminal, and shows no text of others raw."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.render.watch_view import Look, Sample, WatchState, spark, watch_lines
from modelstore.wal.inspection import Inspection
from modelstore.wal.locks import Blocker
from tests.render.logs import inspected
from tests.render.samples import HOSTILE, TEXTS, unsafe_characters

SAMPLES = [Sample(4120 * n, None if n == 0 else n / 3, n % 17) for n in range(300)]
BLOCKER = Blocker(4121, "python app.py", "READ1", 1, 12, ("backfill", "reset", "truncate"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    return inspected(tmp_path_factory.mktemp("view"), flip=60)


def state_of(
    found: Inspection | None,
    *blockers: Blocker,
    database: str = "/srv/app.db",
    problem: str | None = None,
    samples: Sequence[Sample] = SAMPLES,
) -> WatchState:
    paused = problem is not None
    return WatchState(database, "14:03:27", 1.0, paused, samples, found, 0.1, blockers, problem)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 220),
    height=st.integers(1, 70),
    color=st.booleans(),
    unicode=st.booleans(),
    text=TEXTS | st.sampled_from(list(HOSTILE.values())),
    many=st.integers(0, 5),
)
def test_it_fits_and_no_text_of_others_is_raw(
    found: Inspection, width: int, height: int, color: bool, unicode: bool, text: str, many: int
) -> None:
    blockers = [Blocker(n + 1, text, "WRITE", None, None, ("writers",)) for n in range(many)]
    for state in (
        state_of(found, *blockers, database=text),
        state_of(None, problem=text, samples=()),
    ):
        lines = watch_lines(state, Look(width, height, color=color, unicode=unicode))
        assert len(lines) <= height
        assert max(line.cell_len for line in lines) <= width
        assert unsafe_characters("".join(line.plain for line in lines)) == []


@pytest.mark.parametrize(("width", "height"), [(40, 24), (80, 24), (120, 40), (200, 50)])
def test_the_most_important_is_there_at_every_size(
    found: Inspection, width: int, height: int
) -> None:
    look = Look(width, height, color=True, unicode=True)
    text = "\n".join(line.plain for line in watch_lines(state_of(found, BLOCKER), look))
    for word in ("/srv/app.db", "14:03:27", "pid 4121", "size", "frames/s", "left", "frames 1 to"):
        assert word in text
    assert "▼" in text
    assert "X" in text  # the damage


def test_without_colour_a_table_is_a_letter(found: Inspection) -> None:
    look = Look(80, 40, color=False, unicode=True)
    lines = [line.plain for line in watch_lines(state_of(found), look)]
    assert any(line.startswith("A ") for line in lines)
    assert not any("█" in line for line in lines if line.startswith(("A", "B")))


def test_bars_rise_with_their_values() -> None:
    look = Look(80, 24, color=True, unicode=True)
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 8, look) == "▁▂▃▄▅▆▇█"
    assert spark([5, 0, 0], 2, look) == "▁▁"
    assert spark([], 10, look) == ""
    assert spark([1, 2], 0, look) == ""
