"""Each attack in its quick form, and the broken twins that prove it."""

from __future__ import annotations

import pytest

from tests.torture.attack import Attack, Plan, Twin, attacks

ATTACKS = attacks()
TWINS = [(attack, twin) for attack in ATTACKS for twin in attack.twins]
SEED = 1


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.name))
def test_attack_finds_nothing(attack: Attack) -> None:
    result = attack.run(Plan(seed=SEED, count=attack.quick, quick=True))
    if result.skipped is not None:
        pytest.skip(result.skipped)
    assert result.cases
    assert result.failures == ()


@pytest.mark.parametrize(
    ("attack", "twin"), TWINS, ids=[f"{attack.name}-{twin.name}" for attack, twin in TWINS]
)
def test_attack_catches_its_broken_twin(attack: Attack, twin: Twin) -> None:
    result = twin.run(SEED)
    if result.skipped is not None:
        pytest.skip(result.skipped)
    assert result.failures
