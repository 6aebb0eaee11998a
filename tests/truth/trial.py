"""One trial: a history from its seed, some states of it, and all that the program says of them."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.truth import checks, looks
from tests.truth.cuts import Cut, State, compose, cut
from tests.truth.facts import Facts, Oracles
from tests.truth.histories import History, history
from tests.truth.life import Child, live, read_files, write_files
from tests.truth.program import Ran, run

_STATES = 1  # of each history: another history shows more than another state of the same one
_LONG_AGO = 1_600_000_000  # a time stamp of the files: nobody is writing them
_VERIFY = ("verify", "--skip", "environment", "--skip", "models")


@dataclass(frozen=True, slots=True)
class Failure:
    """A claim that is not so, and the history and state that show it."""

    seed: str
    history: History
    cut: Cut
    complaint: str

    @property
    def kind(self) -> str:
        """The complaint without figures and names, to tell one fault from another."""
        return _kind(self.complaint)


def _kind(complaint: str) -> str:
    words = re.sub(r"'[^']*'|\[.*|\d+", "", complaint)
    return ":".join(words.split(":")[:2])[:90]


@dataclass(slots=True)
class Outcome:
    """The failures of a trial, and what it counted."""

    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Bench:
    """The child processes of one job, and its directory."""

    def __init__(self, place: Path, twin: str | None = None) -> None:
        self._place = place
        self._seen: set[int] = set()
        self._stack = ExitStack()
        self.players = {name: Child("tests.truth.player", name) for name in ("stdlib", "apsw")}
        self._oracles = (
            Child("tests.truth.oracle", "stdlib"),
            Child("tests.truth.oracle", "apsw"),
        )
        self.oracles = Oracles(place / "oracle", self._oracles)
        self.program = Child("tests.truth.program", "--alone", *((twin,) if twin else ()))

    def __enter__(self) -> Self:
        self._place.mkdir(parents=True, exist_ok=True)
        for child in (*self.players.values(), *self._oracles, self.program):
            self._stack.enter_context(child)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # --------------------------------------------------------------------------------------------

    def trial(self, seed: str) -> Outcome:
        """Play the history of a seed, and hold the program to each of its states."""
        rng = random.Random(seed)
        lived = history(rng)
        outcome = Outcome()
        moments = live(lived, self.players[lived.player], self._place / "life")
        outcome.counts["histories"] += 1
        outcome.counts["steps"] += len(lived.steps)
        for _ in range(_STATES):
            wanted = cut(rng)
            state = compose(wanted, moments)
            if state is None:
                continue
            for complaint in self._judge(state, wanted.seed, outcome.counts):
                outcome.failures.append(Failure(seed, lived, wanted, complaint))
        return outcome

    def repeat(self, lived: History, wanted: Cut) -> list[str]:
        """Play a history again, and return the complaints about one state."""
        self._seen.clear()
        moments = live(lived, self.players[lived.player], self._place / "life")
        state = compose(wanted, moments)
        if state is None:
            return []
        return list(self._judge(state, wanted.seed, Counter()))

    def _judge(self, state: State, seed: int, counts: Counter[str]) -> Iterator[str]:
        content = hash(tuple(sorted(state.files.items())))
        if content in self._seen:
            counts["states seen before"] += 1
            return
        self._seen.add(content)
        facts = self.oracles.facts(state)
        counts["states"] += 1
        counts[f"state: {state.kind.partition(':')[0]}"] += 1
        counts["oracles disagree"] += not facts.is_agreed
        counts["main file differs"] += bool(facts.differing)
        rng = random.Random(seed)
        yield from self._looks(facts, rng, counts)
        yield from self._folds(facts, rng, counts)

    def _looks(self, facts: Facts, rng: random.Random, counts: Counter[str]) -> Iterator[str]:
        """Hold the commands that only look; each of them finds the same files."""
        deep = ("--deep",) if rng.random() < 0.3 else ()
        look = ("inspect-wal", "--no-checkpoint", *deep)
        check = (*_VERIFY, "--no-checkpoint", *deep)
        told = yield from self._look(facts, counts, *look, "--json")
        counts["looks"] += 1
        counts["unknown"] += facts.is_alarm_false and facts.can_figure and looks.is_unknown(told)
        counts["mixed, perhaps"] += facts.state.is_untouched and looks.is_mixed(told)
        yield from _named(told, looks.hold(told, facts, self.oracles))
        if rng.random() < 0.4:
            plain = yield from self._look(facts, counts, *look)
            yield from _named(plain, looks.hold_text(plain, told))
        listed = rng.choice((None, None, None, None, "--frames", "--transactions"))
        if listed is not None:
            ran = yield from self._look(facts, counts, *look, listed, "--json")
            hold = looks.hold_frames if listed == "--frames" else looks.hold_transactions
            yield from _named(ran, hold(ran, facts))
        checked = yield from self._look(facts, counts, *check, "--json")
        yield from _named(checked, checks.hold_verify(checked, facts, folds=False))
        yield from _named(checked, checks.hold_to_inspection(checked, told))
        if rng.random() < 0.25:
            plain = yield from self._look(facts, counts, *check)
            yield from _named(plain, checks.hold_text(plain, checked))

    def _look(
        self, facts: Facts, counts: Counter[str], *arguments: str
    ) -> Generator[str, None, Ran]:
        """Run a command that changes nothing, and complain if it does."""
        path = self._put(facts.state)
        ran = self._run(counts, *arguments, path)
        after, before = read_files(path), facts.state.files
        changed = sorted(
            suffix or "main"
            for suffix in {*after, *before}
            if after.get(suffix) != before.get(suffix)
        )
        if changed:
            yield f"{ran.name} changed {' '.join(changed)}"
        return ran

    def _folds(self, facts: Facts, rng: random.Random, counts: Counter[str]) -> Iterator[str]:
        command = rng.choice((("checkpoint",), _VERIFY, ("inspect-wal",)))
        path = self._put(facts.state)
        ran = self._run(counts, *command, "--json", "--timeout", "0", path)
        counts["folds"] += 1
        if command == _VERIFY:
            yield from _named(ran, checks.hold_verify(ran, facts, folds=True))
        after = read_files(path)
        yield from _named(ran, checks.hold_fold(ran, facts, after, self.oracles))

    def _put(self, state: State) -> str:
        place = self._place / "program"
        place.mkdir(exist_ok=True)
        for entry in place.iterdir():
            entry.unlink()
        path = str(place / "app.db")
        write_files(path, state.files)
        for entry in place.iterdir():
            os.utime(entry, (_LONG_AGO, _LONG_AGO))
        return path

    def _run(self, counts: Counter[str], *arguments: str) -> Ran:
        ran = run(self.program, *arguments)
        counts[f"exit {ran.code} of {arguments[0]}"] += 1
        return ran


def _named(ran: Ran, complaints: Iterator[str]) -> Iterator[str]:
    for complaint in complaints:
        yield f"{ran.name}: {complaint}"
