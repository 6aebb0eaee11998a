"""Run histories: ``python -m tests.truth [--quick] [--count N] [--seed S] [--jobs J]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.truth.life import scratch
from tests.truth.shrink import shrink
from tests.truth.trial import Bench, Failure, Outcome

_QUICK, _FULL = 30, 20_000
_BATCH = 100  # histories that one job makes before it reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if the program claimed something that is not so."""
    options = _parser().parse_args(arguments)
    if options.races:
        from tests.truth.races import main as races

        return races(options.races, options.jobs)
    began = time.monotonic()
    count = options.count or (_QUICK if options.quick else _FULL)
    numbers = range(options.first, options.first + count)
    seconds = float("inf") if options.minutes is None else options.minutes * 60
    outcome = run_histories(numbers, options.seed, options.jobs, options.twin, seconds)
    _tell(outcome, time.monotonic() - began, options)
    return int(bool(outcome.failures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} histories")
    parser.add_argument("--count", type=int, help="histories")
    parser.add_argument("--first", type=int, default=0, help="the first one, to go on with a run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--twin", help="run a broken twin of the program instead")
    parser.add_argument("--minutes", type=float, help="begin no history after that")
    parser.add_argument("--shown", type=int, default=12, help="kinds of failures to spell out")
    parser.add_argument("--races", type=int, metavar="LOOKS", help="look beside two writers")
    return parser


def run_histories(
    numbers: range,
    seed: int,
    jobs: int = 1,
    twin: str | None = None,
    seconds: float = float("inf"),
) -> Outcome:
    """Run the histories of these numbers in `jobs` processes; begin none after so many seconds."""
    end = time.monotonic() + seconds
    batches = [numbers[at : at + _BATCH] for at in range(0, len(numbers), _BATCH)]
    total = Outcome()
    if jobs == 1:
        for batch in batches:
            _add(total, run_batch(batch, seed, twin, end))
        return total
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(run_batch, b, seed, twin, end) for b in batches]):
            _add(total, done.result())
    return total


def run_batch(numbers: range, seed: int, twin: str | None, end: float) -> Outcome:
    """Run some histories, one after the other, up to a time of the monotonic clock."""
    total = Outcome()
    if time.monotonic() > end:
        return total
    with scratch() as place, Bench(place, twin) as bench:
        for number in numbers:
            if time.monotonic() < end:
                _add(total, bench.trial(f"{seed}:{number}"))
    return total


def _add(total: Outcome, more: Outcome) -> None:
    total.failures += more.failures
    total.counts += more.counts
    if sys.stderr.isatty():
        told = f"{total.counts['histories']:,} histories, {len(total.failures)} failures"
        print(f"\r{told}", end="", file=sys.stderr, flush=True)


def _tell(outcome: Outcome, seconds: float, options: argparse.Namespace) -> None:
    counts = outcome.counts
    print(
        f"{counts['histories']:,} histories, {counts['states']:,} states, seed {options.seed}: "
        f"{len(outcome.failures)} false claims; unknown in {counts['unknown']:,} of "
        f"{counts['looks']:,} looks; {counts['histories'] / seconds:.1f} histories/s"
    )
    print("  " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    kinds = Counter(failure.kind for failure in outcome.failures)
    shown: dict[str, Failure] = {}
    for failure in outcome.failures:
        shown.setdefault(failure.kind, failure)
    with scratch() as place, Bench(place, options.twin) as bench:
        for kind, count in kinds.most_common(options.shown):
            _spell_out(shrink(bench, shown[kind]), count)
    for kind, count in kinds.most_common()[options.shown :]:
        print(f"{count} x {shown[kind].complaint}\n  seed {shown[kind].seed}")


def _spell_out(failure: Failure, count: int) -> None:
    print(f"\n{count} x {failure.complaint}")
    print(
        f"  seed {failure.seed}, {failure.cut}, {failure.history.player}"
        f" {failure.history.parameters}"
    )
    for step in failure.history.steps:
        print(f"  {step.verb.value} {step.on}: {json.dumps(step.text, ensure_ascii=False)}")


if __name__ == "__main__":
    sys.exit(main())
