"""The ledger against a model of the log that knows every frame that was ever folded."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.database.ledger import CheckpointRow, Ledger
from modelstore.wal.index import ReadMark, WalIndex


@dataclass
class Log:
    """A log as SQLite keeps it, with the true number of frames over all generations."""

    generation: int = 1
    frames: int = 0
    backfill: int = 0
    commits: int = 0
    total: int = 0

    def index(self) -> WalIndex:
        return WalIndex(
            version=3007000,
            change_counter=self.commits % 2**32,
            is_init=True,
            big_endian=False,
            page_size=4096,
            max_frame=self.frames,
            page_count=9,
            frame_checksum=(0, 0),
            salt=(self.generation, self.generation * 7),
            backfill=self.backfill,
            backfill_attempted=self.backfill,
            read_marks=tuple(ReadMark(slot, None) for slot in range(5)),
            is_settled=True,
        )

    def commit(self, frames: int) -> None:
        if self.frames and self.backfill == self.frames:
            self.restart()
        self.frames += frames
        self.total += frames
        self.commits += 1

    def restart(self) -> None:
        self.generation += 1
        self.frames = self.backfill = 0

    def passive(self, pinned: int) -> CheckpointRow:
        self.backfill = max(self.backfill, self.frames - min(pinned, self.frames))
        return CheckpointRow(0, self.frames, self.backfill)


steps = st.lists(
    st.tuples(
        st.sampled_from(["commit", "passive", "truncate", "busy"]),
        st.integers(1, 9),
        st.lists(st.integers(1, 5), max_size=2),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32 - 1))
def test_exact_numbers_are_the_frames_that_there_were(
    story: list[tuple[str, int, list[int]]], commits: int
) -> None:
    """Commits of strangers slip in anywhere: then the count may be short, and says so."""
    log, ledger = Log(commits=commits), Ledger()
    ledger.see(log.index())
    for kind, number, strangers in story:
        if kind == "commit":
            log.commit(number)
            ledger.see(log.index())
            continue
        before = log.index()
        for frames in strangers:
            log.commit(frames)
        if kind == "passive":
            ledger.backfilled(before, log.passive(number // 5), log.index())
        elif kind == "busy":
            ledger.backfilled(before, CheckpointRow(1, -1, -1), log.index())
        else:
            log.passive(0)
            log.restart()
            ledger.truncated(before, log.index())
        if ledger.exact:
            assert ledger.log == log.total
            assert ledger.log - ledger.checkpointed == log.frames - log.backfill
        assert ledger.checkpointed <= ledger.log <= log.total
        assert ledger.moved <= log.total


def test_the_count_is_exact_where_nobody_slips_in() -> None:
    log, ledger = Log(), Ledger()
    generator = random.Random(7)
    for _ in range(50):
        log.commit(generator.randrange(1, 9))
        before = log.index()
        row = log.passive(generator.randrange(3))
        ledger.backfilled(before, row, log.index())
        if generator.random() < 0.3 and log.backfill == log.frames:
            before = log.index()
            log.restart()
            ledger.truncated(before, log.index())
    assert ledger.exact
    assert ledger.log == log.total
    assert ledger.moved == ledger.checkpointed


def test_without_the_wal_index_the_rows_are_what_there_is() -> None:
    ledger = Ledger()
    ledger.backfilled(None, CheckpointRow(0, 7, 5), None)
    assert (ledger.log, ledger.checkpointed, ledger.moved, ledger.exact) == (7, 5, 5, False)
    ledger.truncated(None, None)
    assert (ledger.log, ledger.checkpointed, ledger.moved) == (7, 7, 7)
