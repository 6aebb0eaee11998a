"""What an attack is: cases drawn from a seed, failures that can be repeated, broken twins."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import tests.torture


def silent(_text: str) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How an attack is run.

    Case `i` draws everything from `Random(f"{seed}:{i}")`, and so can be repeated alone: `case`
    then is its number, and `count` is not looked at.
    """

    seed: int
    count: int
    quick: bool = False
    first: int = 0  # where a run that was interrupted goes on
    case: int | None = None
    report: Callable[[str], None] = silent  # one line of progress

    def cases(self) -> Iterator[tuple[int, random.Random]]:
        """Yield the number of each case and its source of randomness."""
        end = self.first + self.count
        numbers = range(self.first, end) if self.case is None else (self.case,)
        for number in numbers:
            if number and number % 100 == 0:
                self.report(f"{number:,} of {end:,}")
            yield number, random.Random(f"{self.seed}:{number}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A case in which the promise was broken."""

    case: int
    what: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an attack. `figures` are further counts worth a word: images, kills..."""

    cases: int
    failures: tuple[Failure, ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)
    skipped: str | None = None  # why nothing was tried here

    def of(self, *words: str) -> Result:
        """Return the same with those failures alone that say one of `words`.

        A broken twin must be caught for what is wrong with it, not for being so small.
        """
        said = (f for f in self.failures if any(word in f.what for word in words))
        return replace(self, failures=tuple(said))


@dataclass(frozen=True, slots=True)
class Twin:
    """A small program that is wrong on purpose; `run` attacks it with a seed and must fail."""

    name: str
    run: Callable[[int], Result]


class Attack(Protocol):
    """One way to break the promise."""

    @property
    def name(self) -> str:
        """One word, for ``--only``."""
        ...

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        ...

    @property
    def quick(self) -> int:
        """Cases of a quick run: a few seconds."""
        ...

    @property
    def full(self) -> int:
        """Cases of a full run."""
        ...

    @property
    def twins(self) -> tuple[Twin, ...]:
        """The broken programs that it must catch."""
        ...

    def run(self, plan: Plan) -> Result:
        """Attack the installed program."""
        ...


@dataclass(frozen=True, slots=True)
class SimpleAttack:
    """An attack made of functions. Modules say ``ATTACK = SimpleAttack(...)``."""

    name: str
    summary: str
    quick: int
    full: int
    attack: Callable[[Plan], Result]
    twins: tuple[Twin, ...]

    def run(self, plan: Plan) -> Result:
        """Attack the installed program."""
        return self.attack(plan)


def attacks() -> tuple[Attack, ...]:
    """Return the attacks of this package: the ``ATTACK`` of every module that has one, by name."""
    found = []
    for module in pkgutil.iter_modules(tests.torture.__path__):
        if module.name.startswith(("_", "test_")):
            continue
        attack = getattr(importlib.import_module(f"tests.torture.{module.name}"), "ATTACK", None)
        if attack is not None:
            found.append(attack)
    return tuple(sorted(found, key=lambda attack: str(attack.name)))
