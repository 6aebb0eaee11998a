"""The tests that never ran: each run notes its skips in a file, and a list says which may be.

A run of pytest notes its skips where MODELSTORE_TEST_SKIPS names a file. A test that one run skips
may have run in another, as another user: `python -m tests.skips FILE...` tells of those that were
skipped in every run, and exits 1 where tests/allowed_skips.txt does not allow one of them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("allowed_skips.txt")


@dataclass(frozen=True, slots=True)
class Allowed:
    """A skip that no package cures: the patterns of its test and of its reason, and the cause."""

    test: str
    reason: str
    cause: str

    def covers(self, test: str, reason: str) -> bool:
        """Return whether this allows a test to be skipped for a reason."""
        return _matches(test, self.test) and _matches(reason, self.reason)


class Recorder:
    """Note each skip of a run in a file, one JSON array of test and reason a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("", "utf-8")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped; one that is expected to fail is none."""
        if not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that was skipped whole."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped:
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps([report.nodeid, reason.removeprefix("Skipped: ")]), file=file)


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def allowed(text: str) -> list[Allowed]:
    """Return the entries of a list: test | reason | cause, one a line."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [Allowed(*(part.strip() for part in line.split("|", maxsplit=2))) for line in lines]


def never_run(runs: list[Path]) -> dict[str, str]:
    """Return the tests that were skipped in every run, each with its reason in the last."""
    noted = [dict(json.loads(line) for line in run.read_text("utf-8").splitlines()) for run in runs]
    return {test: reason for test, reason in noted[-1].items() if all(test in run for run in noted)}


def main() -> int:
    """Tell of the tests that never ran; return 1 where one is not allowed to be skipped."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE")
    skips = never_run(parser.parse_args().runs)
    entries = allowed(LIST.read_text("utf-8"))
    forbidden = 0
    for test, reason in skips.items():
        entry = next((entry for entry in entries if entry.covers(test, reason)), None)
        print(f"{test}: {reason}: " + ("NOT ALLOWED" if entry is None else entry.cause))
        forbidden += entry is None
    print(f"never run: {len(skips)}; not allowed by tests/{LIST.name}: {forbidden}")
    return int(forbidden > 0)


if __name__ == "__main__":
    raise SystemExit(main())
