"""The map of a log counts every frame once, in any number of bins and lanes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.render.log_map import map_log
from modelstore.wal.frames import FrameState
from modelstore.wal.inspection import Inspection, inspect_log
from tests.render.logs import inspected

DAMAGED_FRAME = 30


@pytest.fixture(scope="module", params=["sound", "damaged"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    directory = tmp_path_factory.mktemp("map")
    if request.param == "sound":
        return inspected(directory)
    return inspected(directory, flip=DAMAGED_FRAME)


@given(bins=st.integers(1, 300), lanes=st.integers(1, 30))
def test_every_frame_is_in_one_bin_of_one_lane(found: Inspection, bins: int, lanes: int) -> None:
    log = map_log(found, bins, lanes)
    assert log is not None
    assert log.frames == len(found.scan.marks)
    assert log.bins == min(bins, log.frames)
    sizes = [after - before for before, after in zip(log.edges, log.edges[1:], strict=False)]
    counted = [sum(lane.counts[place] for lane in log.lanes) for place in range(log.bins)]
    assert counted == sizes
    owned = [lane for lane in log.lanes if lane.state is FrameState.COMMITTED]
    assert len(owned) <= lanes
    assert sum(lane.frames for lane in owned) == found.scan.max_frame
    assert sum(log.commits) == found.scan.commit_count + found.scan.later_commits


def test_a_bin_of_one_frame_shows_the_frames_own_owner(found: Inspection) -> None:
    log = map_log(found, 10**6, 100)
    assert log is not None
    for frame in found.scan.frames():
        place = log.leading_lane(frame.number - 1)
        assert place is not None
        lane = log.lanes[place]
        assert lane.state is frame.state
        owner = found.loss.owner(frame.page_number)
        if frame.state is FrameState.COMMITTED and owner is not None and owner.object is not None:
            assert lane.name == owner.object.name


def test_the_lanes_that_stay_are_those_with_most_frames(found: Inspection) -> None:
    every, few = map_log(found, 50, 100), map_log(found, 50, 4)
    assert every is not None
    assert few is not None
    owned = [lane for lane in every.lanes if lane.state is FrameState.COMMITTED]
    shown = [lane for lane in few.lanes if lane.state is FrameState.COMMITTED]
    assert [lane.name for lane in shown[:3]] == [lane.name for lane in owned[:3]]
    assert shown[3].name == f"{len(owned) - 3} others"
    assert shown[3].frames == sum(lane.frames for lane in owned[3:])
    assert Counter(shown[3].counts) != Counter()


def test_damage_is_never_outnumbered(tmp_path: Path) -> None:
    found = inspected(tmp_path, flip=DAMAGED_FRAME)
    log = map_log(found, 3, 4)
    assert log is not None
    shown = [log.lanes[log.leading_lane(place) or 0].state for place in range(log.bins)]
    assert FrameState.DAMAGED in shown or FrameState.IGNORED in shown


def test_no_log_has_no_map(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.write_bytes(b"")
    assert map_log(inspect_log(str(path)), 10, 10) is None
