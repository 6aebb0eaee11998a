"""The shortest history that still shows a failure."""

from __future__ import annotations

from dataclasses import replace

from tests.truth.trial import Bench, Failure

_TRIES = 150


def shrink(bench: Bench, failure: Failure) -> Failure:
    """Leave out steps, many at once and then one by one, while the same complaint is made."""
    best, tries = failure, 0
    size = max(1, len(best.history.steps) // 2)
    while size and tries < _TRIES:
        at, shrunk = 0, False
        while at < len(best.history.steps) and tries < _TRIES:
            tries += 1
            smaller = _still_fails(bench, best, at, size)
            if smaller is None:
                at += size
            else:
                best, shrunk = smaller, True
        size = size if shrunk and size == 1 else size // 2
    return best


def _still_fails(bench: Bench, failure: Failure, at: int, size: int) -> Failure | None:
    tried = failure.history.without(at, size)
    for complaint in bench.repeat(tried, failure.cut):
        smaller = replace(failure, history=tried, complaint=complaint)
        if smaller.kind == failure.kind:
            return smaller
    return None
