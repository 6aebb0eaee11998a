"""One run of a program, and two programs in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

Command = Sequence[str | Path]

_SPAWN = Path(__file__).resolve().parent / "children" / "spawn.py"


class FailedError(Exception):
    """A program ended otherwise than it should have."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run took: seconds of wall clock and of processor, bytes at most in memory."""

    wall: float
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """Runs of ours and of a peer in turn, A B A B: noise of the machine hits both alike."""

    ours: tuple[Sample, ...]
    peer: tuple[Sample, ...]

    @property
    def ratio(self) -> float:
        """The median of ours by the peer's, pair by pair."""
        return statistics.median(a.wall / b.wall for a, b in zip(self.ours, self.peer, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """The same of processor time."""
        return statistics.median(
            a.cpu / max(b.cpu, 1e-6) for a, b in zip(self.ours, self.peer, strict=True)
        )

    @property
    def steady_ratio(self) -> float:
        """The lower quartile of our processor time by the peer's, for short work that never waits.

        Others on the machine can only lengthen a run, by cold caches, so the lower quarter is
        nearest to the truth.
        """
        ours, peer = (
            statistics.quantiles([one.cpu for one in runs], n=4, method="inclusive")[0]
            for runs in (self.ours, self.peer)
        )
        return ours / peer


def middle(samples: Sequence[Sample]) -> Sample:
    """Return the medians."""
    return Sample(
        statistics.median(one.wall for one in samples),
        statistics.median(one.cpu for one in samples),
        int(statistics.median(one.memory for one in samples)),
    )


def alternate(ours: Callable[[], Sample], peer: Callable[[], Sample], rounds: int) -> Pairs:
    """Run both in turn; a first pair warms caches and does not count, but where it costs much."""
    first = (ours(), peer())
    counted = [first] if first[0].wall + first[1].wall > 20 else []
    while len(counted) < rounds:
        counted.append((ours(), peer()))
    return Pairs(tuple(a for a, _ in counted), tuple(b for _, b in counted))


def in_turn(ours: Command, peer: Command, rounds: int) -> Pairs:
    """Run two programs in turn."""
    return alternate(lambda: run(ours), lambda: run(peer), rounds)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the caller's environment without what would slow one of the programs down."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "FORCE_COLOR")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("MODELSTORE_", "HF_", "OLLAMA_"))
    }
    return {**kept, "PYTHONPYCACHEPREFIX": _BYTECODE, **(extra or {})}


_CACHE = platformdirs.user_cache_dir("modelstore-bench", appauthor=False)
_BYTECODE = os.path.join(_CACHE, "bytecode")  # nobody else's to write to


def run(
    command: Command,
    *,
    stdin: Path | None = None,
    stdout: Path | None = None,
    env: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> Sample:
    """Run a program to its end. Raises `FailedError` where its exit code is none of `codes`."""
    words = [str(word) for word in command]
    files = (str(stdin or os.devnull), str(stdout or os.devnull))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_SPAWN), *files, *words],
        capture_output=True,
        env=environment(env),
        check=False,
    )
    figures = done.stdout.split()
    code = int(figures[3]) if len(figures) == 4 else -1
    if code not in codes:
        said = done.stderr[-800:].decode(errors="replace")
        raise FailedError(f"{' '.join(words)[:300]} exited {code}: {said}")
    return Sample(float(figures[0]), float(figures[1]), int(figures[2]))


def output(command: Command, *, env: Mapping[str, str] | None = None) -> str:
    """Return what a program prints."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment(env), check=False, errors="replace"
    )
    if done.returncode:
        raise FailedError(f"{words} exited {done.returncode}: {done.stderr[-800:]}")
    return done.stdout
