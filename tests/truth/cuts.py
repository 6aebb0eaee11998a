"""States of a database's files: what a crash, a power cut, a copy or damage leaves of a life."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.truth.life import Files, Moment

_BLOCK = 512  # bytes that a disk writes at once


@dataclass(frozen=True, slots=True)
class Cut:
    """A kind of state, and the seed of its details."""

    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class State:
    """The files of a state. `is_own` tells that SQLite itself may leave them: an alarm is false.

    `is_untouched` tells that no checkpoint wrote the main file since its log began. `whole_log` is
    the log before it was damaged.
    """

    kind: str
    files: Files
    is_own: bool
    is_untouched: bool = False
    whole_log: bytes = b""


def cut(rng: random.Random) -> Cut:
    """Return a random cut."""
    kinds, weights = zip(*((kind, weight) for kind, (weight, _) in _KINDS.items()), strict=True)
    return Cut(rng.choices(kinds, weights)[0], rng.randrange(1 << 30))


def compose(wanted: Cut, moments: Sequence[Moment]) -> State | None:
    """Compose the files of a state; None if the life has no moment for it."""
    rng = random.Random(wanted.seed)
    return _KINDS[wanted.kind][1](rng, moments)


def _pick(rng: random.Random, moments: Sequence[Moment]) -> int:
    """Return the index of a moment, the last ones more often; counted from the end, so that a
    shrunk history keeps it."""
    back = rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 6, 8))
    return max(0, len(moments) - 1 - back)


def _with_index(rng: random.Random, files: Files, moments: Sequence[Moment]) -> Files:
    """Return files with no ``-shm``, their own, or that of any other moment: nobody syncs it."""
    kept = {suffix: data for suffix, data in files.items() if suffix != "-shm"}
    choice = rng.choice(("none", "none", "own", "other"))
    found = files if choice == "own" else moments[_pick(rng, moments)].files
    if choice != "none" and "-shm" in found:
        kept["-shm"] = found["-shm"]
    return kept


def _crash(rng: random.Random, moments: Sequence[Moment]) -> State | None:
    at = _pick(rng, moments)
    files = moments[at].files
    first = at
    while first and _same_generation(moments[first - 1].files, files):
        first -= 1
    is_untouched = moments[first].files.get("") == files.get("")
    kept = _with_index(rng, files, moments)
    return State("crash", kept, is_own="" in files, is_untouched=is_untouched)


def _same_generation(before: Files, after: Files) -> bool:
    one, two = before.get("-wal", b""), after.get("-wal", b"")
    return len(one) >= 32 and one[:32] == two[:32]


def _checkpoint_cut(rng: random.Random, moments: Sequence[Moment]) -> State | None:
    """The power is cut while a checkpoint writes the main file: any of its pages are written."""
    found = [
        at
        for at in range(1, len(moments))
        if moments[at].step.verb == moments[at - 1].step.verb
        and _is_checkpointed(moments[at - 1].files, moments[at].files)
    ]
    if not found:
        return None
    at = found[max(0, len(found) - 1 - rng.choice((0, 0, 1, 2)))]
    before, after = moments[at - 1].files, moments[at].files
    log = before if "wal_checkpoint" in moments[at].step.text else after
    if "-wal" not in log:
        return None
    size = _page_size(after[""]) or 512
    main = _mixed(before[""], after[""], size, rng, rng.choice((0.1, 0.5, 0.9)))
    files = {"": main, "-wal": log["-wal"]}
    return State("checkpoint-cut", files | _index_of(rng, moments), is_own=True)


def _is_checkpointed(before: Files, after: Files) -> bool:
    same = "-wal" in before and "-journal" not in after and "-journal" not in before
    return same and bool(before.get("")) and bool(after.get("")) and before[""] != after[""]


def _mixed(old: bytes, new: bytes, unit: int, rng: random.Random, share: float) -> bytes:
    """Return `old` with a share of the units of `new`; it grows as far as it was written."""
    mixed = bytearray(old)
    for start in range(0, len(new), unit):
        if old[start : start + unit] == new[start : start + unit] or rng.random() >= share:
            continue
        if len(mixed) < start:
            mixed += bytes(start - len(mixed))
        mixed[start : start + unit] = new[start : start + unit]
    return bytes(mixed)


def _tail_cut(rng: random.Random, moments: Sequence[Moment]) -> State | None:
    """The power is cut before the log is synced: any blocks of its last writes are lost."""
    at = _pick(rng, moments)
    files = moments[at].files
    first = at
    while first and _only_log_grew(moments[first - 1].files, files):
        first -= 1
    if first == at:
        return None
    old = moments[rng.randint(first, at - 1)].files["-wal"]
    new = files["-wal"]
    log = _mixed(old, new, _BLOCK, rng, rng.choice((0.5, 0.9, 0.98)))
    if rng.random() < 0.4:  # a file that grew no further
        log = new[: max(len(old), rng.randint(0, len(new)))]
    kept = {suffix: data for suffix, data in files.items() if suffix in ("", "-journal")}
    return State("tail-cut", kept | {"-wal": log} | _index_of(rng, moments), is_own=True)


def _only_log_grew(before: Files, after: Files) -> bool:
    if "-wal" not in before or "-wal" not in after or before.get("") != after.get(""):
        return False
    one, two = before["-wal"], after["-wal"]
    return len(one) >= 32 and one[:32] == two[:32] and len(one) <= len(two)


def _index_of(rng: random.Random, moments: Sequence[Moment]) -> Files:
    found = _with_index(rng, {}, moments)
    return {suffix: data for suffix, data in found.items() if suffix == "-shm"}


def _copies(rng: random.Random, moments: Sequence[Moment]) -> State | None:
    """Files that were copied one after the other, in any order, while the database was in use."""
    files: Files = {}
    for suffix in ("", "-wal", "-shm"):
        found = moments[_pick(rng, moments)].files
        if suffix in found and (suffix != "-shm" or rng.random() < 0.4):
            files[suffix] = found[suffix]
    return State("copies", files, is_own=False) if "" in files else None


def _alone(rng: random.Random, moments: Sequence[Moment]) -> State | None:
    """The main file without its log."""
    files = moments[_pick(rng, moments)].files
    kept = {"": files[""]} if "" in files else {}
    return State("alone", kept | _index_of(rng, moments), is_own=False) if kept else None


def _damage(rng: random.Random, moments: Sequence[Moment]) -> State | None:
    """One file is flipped in a bit, cut short, zeroed in part, or absent."""
    files = _with_index(rng, moments[_pick(rng, moments)].files, moments)
    suffix = rng.choice(("", "-wal", "-wal"))
    data = bytearray(files.get(suffix, b""))
    if not data:
        return None
    at = rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 4200))))
    kind = rng.choice(("flip", "flip", "flip", "cut", "zeros", "empty", "absent"))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "zeros":
        length = rng.choice((1, 512, len(data)))
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == "empty":
        data.clear()
    whole_log = files.get("-wal", b"")
    files[suffix] = bytes(data)
    if kind == "absent":
        del files[suffix]
    if not files:
        return None
    return State(f"damage: {kind} {suffix}", files, is_own=False, whole_log=whole_log)


def _page_size(main: bytes) -> int:
    size = int.from_bytes(main[16:18], "big")
    return 65536 if size == 1 else size


_Composer = Callable[[random.Random, Sequence[Moment]], State | None]
_KINDS: dict[str, tuple[int, _Composer]] = {
    "crash": (50, _crash),
    "checkpoint-cut": (12, _checkpoint_cut),
    "tail-cut": (12, _tail_cut),
    "copies": (12, _copies),
    "alone": (3, _alone),
    "damage": (11, _damage),
}
