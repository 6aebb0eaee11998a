from __future__ import annotations

import pytest

from modelstore.errors import ExitCode, ModelstoreError, UsageError, worst


def subclasses(kind: type[ModelstoreError]) -> list[type[ModelstoreError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


def test_every_code_is_documented_in_one_line() -> None:
    for code in ExitCode:
        assert code.text
        assert "\n" not in code.text


def test_only_the_root_stands_for_a_bug() -> None:
    for kind in subclasses(ModelstoreError)[1:]:
        assert kind.exit_code not in (ExitCode.OK, ExitCode.BUG)


@pytest.mark.parametrize(
    ("codes", "winner"),
    [
        ((), ExitCode.OK),
        ((ExitCode.SKIPPED, ExitCode.BUSY), ExitCode.BUSY),
        ((ExitCode.BUSY, ExitCode.FAILED), ExitCode.FAILED),
        ((ExitCode.FAILED, ExitCode.LOCKED), ExitCode.LOCKED),
        ((ExitCode.LOCKED, ExitCode.REFUSED), ExitCode.REFUSED),
        ((ExitCode.REFUSED, ExitCode.BUG), ExitCode.BUG),
        ((ExitCode.BUG, ExitCode.INTERRUPTED), ExitCode.INTERRUPTED),
    ],
)
def test_the_worst_code_wins(codes: tuple[ExitCode, ...], winner: ExitCode) -> None:
    assert worst(*codes) is winner
    assert worst(*reversed(codes)) is winner


def test_an_error_is_a_sentence_and_a_hint() -> None:
    error = UsageError("it is wrong", hint="do it right")
    assert (error.message, error.hint, str(error)) == ("it is wrong", "do it right", "it is wrong")
