"""Kinds of damage, each done to the files of a `Victim`; the ground truth stays with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.recovery.histories import Author, Victim

Arguments = list[str]
Damage = Callable[[Victim], Arguments | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of damage. `place` is that of the rows before it, `after` ends the history.

    `wanted` says which rows must come back as far as their bytes exist: the ``live`` ones, or
    ``all`` that were ever committed. `arguments` are given to the command too.
    """

    name: str
    place: str
    damage: Damage
    wanted: str = "live"
    arguments: tuple[str, ...] = ()
    after: Callable[[Author], None] | None = None


def _patch(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def _flip(path: Path, at: int, bits: int = 1) -> None:
    content = path.read_bytes()[at : at + 1]
    _patch(path, at, bytes([content[0] ^ bits]))


def page_size(victim: Victim) -> int:
    """Return the page size, from the log's header or from the database's."""
    if victim.log.exists() and victim.log.stat().st_size:
        return int.from_bytes(victim.log.read_bytes()[8:12], "big")
    return int.from_bytes(victim.path.read_bytes()[16:18], "big")


def _frames(victim: Victim) -> int:
    return (victim.log.stat().st_size - 32) // (24 + page_size(victim))


def _frame(victim: Victim, frame: int) -> int:
    """Return the offset of a frame, counted from 1."""
    return 32 + (frame - 1) * (24 + page_size(victim))


def _middle(victim: Victim) -> int:
    """Return the offset of a frame in the middle of the log."""
    count = _frames(victim)
    return _frame(victim, victim.maker.randrange(count // 4, 3 * count // 4) + 1)


# -- the log ---------------------------------------------------------------------------------------


def _nothing(victim: Victim) -> None:
    """Leave the files as a crash left them."""


def _flip_bit(victim: Victim) -> None:
    _flip(victim.log, _middle(victim) + 24 + victim.maker.randrange(page_size(victim)))


def _flip_scattered(victim: Victim) -> None:
    at = _middle(victim) + 24
    for _ in range(6):
        _flip(victim.log, at + victim.maker.randrange(page_size(victim)), 0x11)


def _flip_in_two_frames(victim: Victim) -> None:
    for _ in range(2):
        _flip_scattered(victim)


def _flip_last_frame(victim: Victim) -> None:
    _flip(victim.log, _frame(victim, _frames(victim)) + 24 + 300)


def _flip_first_frame(victim: Victim) -> None:
    for at in range(300, 309, 2):
        _flip(victim.log, _frame(victim, 1) + 24 + at, 0x33)


def _zero_frame(victim: Victim) -> None:
    _patch(victim.log, _middle(victim), bytes(24 + page_size(victim)))


def _zero_page_of_frame(victim: Victim) -> None:
    _patch(victim.log, _middle(victim) + 24, bytes(page_size(victim)))


def _zero_sector(victim: Victim) -> None:
    _patch(victim.log, (_middle(victim) + 512) // 512 * 512, bytes(512))


def _wrong_page_number(victim: Victim) -> None:
    _flip(victim.log, _middle(victim) + 2, 0x40)


def _wrong_commit_size(victim: Victim) -> None:
    _flip(victim.log, _middle(victim) + 5, 0x40)


def _wrong_salt(victim: Victim) -> None:
    _flip(victim.log, _middle(victim) + 9)


def _wrong_checksum(victim: Victim) -> None:
    _flip(victim.log, _middle(victim) + 17)


def _torn_log(victim: Victim) -> None:
    os.truncate(victim.log, victim.log.stat().st_size - page_size(victim) // 2)


def _half_log(victim: Victim) -> None:
    os.truncate(victim.log, victim.log.stat().st_size // 2)


def _garbage_behind_log(victim: Victim) -> None:
    with victim.log.open("ab") as file:
        file.write(victim.maker.randbytes(3 * page_size(victim)))


def _zero_log_header(victim: Victim) -> None:
    _patch(victim.log, 0, bytes(32))


def _wrong_log_magic(victim: Victim) -> None:
    _flip(victim.log, 1, 0x20)


def _wrong_log_salt(victim: Victim) -> None:
    _flip(victim.log, 17, 0x20)


def _wrong_log_checksum(victim: Victim) -> None:
    _flip(victim.log, 26, 0x20)


def _garbage_index(victim: Victim) -> None:
    Path(f"{victim.path}-shm").write_bytes(victim.maker.randbytes(32768))


def _log_elsewhere(victim: Victim) -> Arguments:
    found = victim.directory / "found.bin"
    victim.log.rename(found)
    return ["--wal", str(found)]


# -- the database ----------------------------------------------------------------------------------


def _zero_page_one(victim: Victim) -> None:
    _patch(victim.path, 0, bytes(page_size(victim)))


def _empty(victim: Victim) -> None:
    os.truncate(victim.path, 0)


def _remove(victim: Victim) -> None:
    victim.path.unlink()


def _wrong_magic(victim: Victim) -> None:
    _patch(victim.path, 0, b"SQL1te")


def _wrong_page_size(victim: Victim) -> None:
    _patch(victim.path, 16, b"\x03\x33")


def _wrong_page_count(victim: Victim) -> None:
    _patch(victim.path, 28, (3).to_bytes(4, "big"))


def _half(victim: Victim) -> None:
    size = page_size(victim)
    os.truncate(victim.path, max(2, victim.path.stat().st_size // 2 // size) * size)


def _torn(victim: Victim) -> None:
    os.truncate(victim.path, victim.path.stat().st_size - page_size(victim) // 2)


def _some_page(victim: Victim) -> int:
    """Return the offset of a page behind the first two, or of the last."""
    size = page_size(victim)
    count = victim.path.stat().st_size // size
    return victim.maker.randrange(min(2, count - 1), count) * size


def _tree_page(victim: Victim) -> int:
    """Return the offset of a b-tree page behind the first two, or of any behind the first."""
    size = page_size(victim)
    content = victim.path.read_bytes()
    pages = [at for at in range(size, len(content), size) if content[at] in (2, 5, 10, 13)]
    return victim.maker.choice([at for at in pages if at > size] or pages)


def _zero_leaf(victim: Victim) -> None:
    _patch(victim.path, _some_page(victim), bytes(page_size(victim)))


def _garbage_leaf(victim: Victim) -> None:
    _patch(victim.path, _some_page(victim), victim.maker.randbytes(page_size(victim)))


def _zero_three_leaves(victim: Victim) -> None:
    for _ in range(3):
        _zero_leaf(victim)


def _zero_root(victim: Victim) -> None:
    _patch(victim.path, page_size(victim) * _root(victim), bytes(page_size(victim)))


def _root(victim: Victim) -> int:
    """Return the index of the table's root page: page 2, or 3 behind a pointer map."""
    return 2 if "auto_vacuum = FULL" in victim.schema.pragmas else 1


def _wrong_cell_pointer(victim: Victim) -> None:
    _patch(victim.path, _tree_page(victim) + 8, b"\xff\xff")


def _wrong_cell_count(victim: Victim) -> None:
    _patch(victim.path, _tree_page(victim) + 3, b"\xff\xff")


def _wrong_page_type(victim: Victim) -> None:
    _patch(victim.path, _some_page(victim), b"\x07")


def _zero_sectors(victim: Victim) -> None:
    for _ in range(3):
        at = _some_page(victim) + victim.maker.randrange(page_size(victim) // 512) * 512
        _patch(victim.path, at, bytes(512))


def _wrong_freelist(victim: Victim) -> None:
    _patch(victim.path, 32, (2).to_bytes(4, "big") + (9).to_bytes(4, "big"))


def _garbage_schema(victim: Victim) -> None:
    at = 108
    _patch(victim.path, at, victim.maker.randbytes(min(1024, page_size(victim)) - at))


def _copy_elsewhere(victim: Victim) -> Arguments:
    copy = victim.directory / "copy.db"
    shutil.copy(victim.path, copy)
    _zero_three_leaves(victim)
    return ["--also", str(copy)]


# -- histories -------------------------------------------------------------------------------------


def _update_all(author: Author) -> None:
    author.write(sorted(author.victim.live))


def _restart(author: Author) -> None:
    _update_all(author)
    author.fold("RESTART")
    author.write(range(90_001, 90_004))


def _delete_scattered(author: Author) -> None:
    known = sorted(author.victim.live)
    author.delete(author.victim.maker.sample(known, len(known) // 3))


def _delete_range(author: Author) -> None:
    known = sorted(author.victim.live)
    author.delete(known[len(known) // 4 : 3 * len(known) // 4])


def _delete_all(author: Author) -> None:
    author.delete(sorted(author.victim.live))


def _delete_and_refill(author: Author) -> None:
    _delete_range(author)
    author.write(range(70_001, 70_001 + len(author.victim.live) // 4))


def _drop(author: Author) -> None:
    author.victim.gone.update(author.victim.live.values())
    author.victim.live.clear()
    author.run("DROP TABLE t")


_DELETED = ("--deleted",)

KINDS = (
    Kind("nothing is damaged", "log", _nothing),
    Kind("half in the log", "both", _nothing),
    Kind("index is garbage", "log", _garbage_index),
    Kind("one bit in a frame", "log", _flip_bit),
    Kind("one bit in a frame, half in the log", "both", _flip_bit),
    Kind("scattered bits in a frame", "log", _flip_scattered),
    Kind("scattered bits in two frames", "log", _flip_in_two_frames),
    Kind("one bit in the last frame", "log", _flip_last_frame),
    Kind("scattered bits in the first frame", "log", _flip_first_frame),
    Kind("a zeroed frame", "log", _zero_frame),
    Kind("a zeroed page in a frame", "log", _zero_page_of_frame),
    Kind("a zeroed sector in the log", "log", _zero_sector),
    Kind("a frame of another page", "log", _wrong_page_number),
    Kind("a frame with another commit size", "log", _wrong_commit_size),
    Kind("a frame with another salt", "log", _wrong_salt),
    Kind("a frame with another checksum", "log", _wrong_checksum),
    Kind("a torn last frame", "log", _torn_log),
    Kind("half of the log", "log", _half_log),
    Kind("garbage behind the log", "log", _garbage_behind_log),
    Kind("no log header", "log", _zero_log_header),
    Kind("another magic in the log", "log", _wrong_log_magic),
    Kind("another salt in the log's header", "log", _wrong_log_salt),
    Kind("another checksum in the log's header", "log", _wrong_log_checksum),
    Kind("the log was moved", "log", _log_elsewhere),
    Kind("page 1 zeroed, a log", "log", _zero_page_one),
    Kind("an empty database, a log", "log", _empty),
    Kind("no database, a log", "log", _remove),
    Kind("page 1 zeroed, half in the log", "both", _zero_page_one),
    Kind("half of the database, half in the log", "both", _half),
    Kind("another page size, half in the log", "both", _wrong_page_size),
    Kind("page 1 zeroed", "main", _zero_page_one),
    Kind("another magic", "main", _wrong_magic),
    Kind("another page size", "main", _wrong_page_size),
    Kind("another page count", "main", _wrong_page_count),
    Kind("half of the database", "main", _half),
    Kind("a torn last page", "main", _torn),
    Kind("a zeroed page", "main", _zero_leaf),
    Kind("three zeroed pages", "main", _zero_three_leaves),
    Kind("a page of garbage", "main", _garbage_leaf),
    Kind("a zeroed root", "main", _zero_root),
    Kind("zeroed sectors", "main", _zero_sectors),
    Kind("a cell pointer outside of its page", "main", _wrong_cell_pointer),
    Kind("a cell count that is too high", "main", _wrong_cell_count),
    Kind("a page of no type", "main", _wrong_page_type),
    Kind("a freelist that leads into a table", "main", _wrong_freelist),
    Kind("a schema of garbage", "main", _garbage_schema),
    Kind("three zeroed pages, and a copy", "main", _copy_elsewhere),
    Kind("superseded frames", "log", _nothing, "all", after=_update_all),
    Kind("a stale generation", "log", _nothing, "all", after=_restart),
    Kind("scattered deletes", "main", _nothing, "all", _DELETED, _delete_scattered),
    Kind("a deleted range", "main", _nothing, "all", _DELETED, _delete_range),
    Kind("all rows deleted", "main", _nothing, "all", _DELETED, _delete_all),
    Kind("deleted and refilled", "main", _nothing, "all", _DELETED, _delete_and_refill),
    Kind("a dropped table", "main", _nothing, "all", _DELETED, _drop),
)
