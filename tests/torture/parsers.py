"""Parsers: a million mutants through each reader of outside bytes, in process and within bounds."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType

from tests.recovery.readers import READERS
from tests.torture.attack import Failure, Plan, Result, SimpleAttack, Twin
from tests.torture.targets import PARSERS, Parser, feed_wal

_PATIENCE = 2.0  # seconds of processor time for one input of a few kilobytes
_PATIENCE_WITH_TWINS = 0.5  # one that hangs does so for ever
_GROWTH = 256 << 20  # bytes of address space beyond what the process has at its start
_CHUNK = 2000


class HangError(Exception):
    """A parser took longer than any input of this size deserves."""


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise HangError("worked for longer than an input of this size deserves")


def _prepare() -> None:
    """Bound the memory of a worker and let an alarm end what hangs."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + _GROWTH
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, _give_up)


def _work(
    names: Sequence[str], seed: int, numbers: Sequence[int]
) -> tuple[list[tuple[int, str]], dict[str, int], float]:
    parsers = [_named(name) for name in names]
    shares = [parser.share for parser in parsers]
    patience = _PATIENCE if set(names) <= set(NAMES) else _PATIENCE_WITH_TWINS
    failures: list[tuple[int, str]] = []
    fed: Counter[str] = Counter()
    slowest = 0.0
    for number in numbers:
        rng = random.Random(f"{seed}:{number}")
        (parser,) = rng.choices(parsers, shares)
        data = parser.make(rng)
        fed[parser.name] += 1
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, patience)
        try:
            parser.feed(data)
        except Exception as error:  # noqa: BLE001  # any exception is what this looks for
            failures.append((number, f"{parser.name}: {type(error).__name__}: {str(error)[:300]}"))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - began)
    return failures, dict(fed), slowest


def _named(name: str) -> Parser:
    return next(parser for parser in (*PARSERS, *READERS, *BROKEN) if parser.name == name)


NAMES = tuple(parser.name for parser in (*PARSERS, *READERS))


def attack(plan: Plan, *, names: Sequence[str] = NAMES) -> Result:
    """Feed mutants to the parsers of these names, in as many processes as there are processors."""
    if not hasattr(os, "memfd_create"):
        return Result(0, skipped="needs Linux")
    end = plan.first + plan.count
    numbers = list(range(plan.first, end)) if plan.case is None else [plan.case]
    chunks = [numbers[at : at + _CHUNK] for at in range(0, len(numbers), _CHUNK)]
    failures: list[Failure] = []
    fed: Counter[str] = Counter()
    slowest = 0.0
    workers = 1 if plan.quick else os.cpu_count()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare) as pool:
        waiting = [pool.submit(_work, names, plan.seed, chunk) for chunk in chunks]
        for done, future in enumerate(waiting):
            try:
                found, counts, longest = future.result()
            except BrokenProcessPool:
                failures.append(Failure(chunks[done][0], "a worker died"))
                break
            failures += [Failure(number, what) for number, what in found]
            fed.update(counts)
            slowest = max(slowest, longest)
            plan.report(f"{sum(fed.values()):,} of {len(numbers):,}")
    figures = {**fed, "ms at most for one": round(slowest * 1000)}
    return Result(sum(fed.values()), tuple(failures), figures)


def _trusting_gguf(data: bytes) -> None:
    """Read strings as long as they say that they are, and as many."""
    version, _, count = struct.unpack_from("<IQQ", data.ljust(24, b"\0"), 4)
    at = 24
    for _ in range(count if version == 3 else 0):
        (length,) = struct.unpack_from("<Q", data, at)
        bytes(length)
        at += 8 + length + 12


def _hanging(data: bytes) -> None:
    """Go round as often as a count says."""
    for _ in range(int.from_bytes(data[16:24], "little")):
        pass


def _credulous_wal(data: bytes) -> None:
    """Take every frame of a log for good, then be held to the truth."""
    frames = (len(data) - 32) // 536
    valid = _recovered_frames(data)
    if valid >= 0 and frames != valid:
        raise AssertionError(f"{frames} frames are taken for good, {valid} are")


def _recovered_frames(data: bytes) -> int:
    from tests.torture.targets import _recovered

    feed_wal(data)
    return _recovered(data)[0]


def _broken() -> Iterator[Parser]:
    by_name = {parser.name: parser for parser in PARSERS}
    wrong: tuple[tuple[str, str, Callable[[bytes], None]], ...] = (
        ("trusts lengths", "gguf", _trusting_gguf),
        ("goes round as told", "gguf", _hanging),
        ("skips checksums", "wal", _credulous_wal),
    )
    for name, of, feed in wrong:
        yield Parser(name, 1, by_name[of].make, feed)


BROKEN = tuple(_broken())


def _twin(name: str) -> Twin:
    cases = 15 if "round" in name else 60  # each that hangs takes the whole patience
    return Twin(name, lambda seed: attack(Plan(seed, cases, quick=True), names=(name,)))


ATTACK = SimpleAttack(
    name="parsers",
    summary="mutants through the readers of GGUF, safetensors, logs, damaged databases and records",
    quick=2000,
    full=1_000_000,
    attack=attack,
    twins=tuple(_twin(parser.name) for parser in BROKEN),
)
