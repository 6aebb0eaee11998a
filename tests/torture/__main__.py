"""Run the attacks: ``python -m tests.torture [--quick] [--only NAME] [--seed N] [--json]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from tests.torture.attack import Attack, Plan, Result, attacks

_SHOWN = 20  # failures that are spelled out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 where a promise was broken or a twin was not caught."""
    known = attacks()
    options = _options([attack.name for attack in known]).parse_args(arguments)
    outcomes = []
    for attack in known:
        if options.only and attack.name not in options.only:
            continue
        outcome = _run(attack, options)
        outcomes.append(outcome)
        if not options.json:
            _tell(outcome, options.seed)
    if options.json:
        print(json.dumps({"format_version": 1, "seed": options.seed, "attacks": outcomes}))
    return int(any(outcome["failures"] or outcome["twins_missed"] for outcome in outcomes))


def _options(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds for each attack")
    parser.add_argument("--only", action="append", choices=names, metavar="ATTACK")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="cases, instead of the attack's own number")
    parser.add_argument("--first", type=int, default=0, help="the first case, to go on with a run")
    parser.add_argument("--case", type=int, help="one case alone: how a failure is repeated")
    parser.add_argument("--no-twins", action="store_true", help="leave out the broken twins")
    parser.add_argument("--json", action="store_true")
    return parser


def _run(attack: Attack, options: argparse.Namespace) -> dict[str, object]:
    began = time.monotonic()

    def report(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{attack.name}: {text}\x1b[K", end="", file=sys.stderr, flush=True)

    plan = Plan(
        seed=options.seed,
        count=options.count or (attack.quick if options.quick else attack.full),
        quick=options.quick,
        first=options.first,
        case=options.case,
        report=report,
    )
    result = attack.run(plan)
    twins: dict[str, Result] = {}
    if not options.no_twins and options.case is None and result.skipped is None:
        for twin in attack.twins:
            report(f"broken twin: {twin.name}")
            twins[twin.name] = twin.run(options.seed)
    return {
        "attack": attack.name,
        "summary": attack.summary,
        "cases": result.cases,
        "figures": dict(result.figures),
        "skipped": result.skipped,
        "failures": [asdict(failure) for failure in result.failures],
        "twins": {name: len(caught.failures) for name, caught in twins.items()},
        "twins_missed": [name for name, caught in twins.items() if not caught.failures],
        "seconds": round(time.monotonic() - began, 1),
    }


def _tell(outcome: dict[str, object], seed: int) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    name, failures, twins = outcome["attack"], outcome["failures"], outcome["twins"]
    missed, figures = outcome["twins_missed"], outcome["figures"]
    assert isinstance(failures, list)
    assert isinstance(twins, dict)
    assert isinstance(missed, list)
    assert isinstance(figures, dict)
    if outcome["skipped"]:
        print(f"{name}: skipped: {outcome['skipped']}")
        return
    further = "".join(f", {count:,} {what}" for what, count in figures.items())
    print(
        f"{name}: {outcome['cases']:,} cases{further}: {len(failures)} failures; "
        f"{len(twins) - len(missed)} of {len(twins)} broken twins caught; {outcome['seconds']} s"
    )
    for failure in failures[:_SHOWN]:
        print(f"  case {failure['case']}: {failure['what']}")
        print(f"    python -m tests.torture --only {name} --seed {seed} --case {failure['case']}")
    for twin in missed:
        print(f"  NOT CAUGHT: {twin}")


if __name__ == "__main__":
    sys.exit(main())
