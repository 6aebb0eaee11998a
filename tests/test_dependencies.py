"""The ranges of pyproject.toml, and the list of their lower ends that CI installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"^([\w-]+)==([\d.]+)$", re.MULTILINE)
RANGE = re.compile(r"^([\w-]+)(?:\[[\w,-]+\])?>=([\d.]+)(?:,<[\d.]+)?(?:;.*)?$")


def _release(version: str) -> list[int]:
    """Return a version's numbers without the zeros at its end, which mean nothing."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def test_every_dependency_has_a_lower_end_and_that_is_what_is_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    pinned = dict(PIN.findall((ROOT / "tests" / "lowest.txt").read_text("utf-8")))
    lowest = {}
    for line in declared:
        match = RANGE.match(line)
        assert match is not None, f"{line} has no lower end"
        lowest[match[1]] = match[2]
    assert {name: _release(version) for name, version in pinned.items()} == {
        name: _release(version) for name, version in lowest.items()
    }
