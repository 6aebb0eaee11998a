"""Holders of the locks on a log, and the work of others that each holder blocks.

Linux has three sources, and none shows everything. ``/proc/locks`` lists the locks of all visible
processes. ``F_GETLK`` returns one conflicting lock, even of an invisible process.
``/proc/PID/fdinfo`` names the owners of locks that belong to an open file description. Other
systems tell nothing, and the report says so.

https://man7.org/linux/man-pages/man5/proc_locks.5.html,
https://www.sqlite.org/walformat.html#wal_locks
"""

from __future__ import annotations

import os
import re
import struct
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from modelstore.wal.format import LOCK_NAMES, LOCK_OFFSET
from modelstore.wal.processes import (
    Process,
    describe_process,
    descriptor_infos,
    sees_all_processes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelstore.wal.index import WalIndex

Blocks = Literal["backfill", "truncate", "reset", "writers", "checkpoint"]
"""The work of others that a lock blocks."""

_EOF = sys.maxsize
_LINE = re.compile(
    rb"\d+:\s+(?P<waiting>->\s+)?(?P<kind>POSIX|OFDLCK)\s+\S+\s+(?P<mode>READ|WRITE)\s+(?P<pid>-?\d+)"
    rb"\s+(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+)\s+(?P<start>\d+)\s+(?P<end>\d+|EOF)"
)
_DESCRIPTION = "OFDLCK"  # the kind of a lock that an open file description holds, not a process
_F_OFD_GETLK = 36
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock on Linux: type, whence, start, length, pid


_NOT_LINUX = "this system does not tell which process holds a lock"
_NO_TABLE = "/proc/locks cannot be read, so only one holder of each lock is shown"
_STRANGER = "the kernel hides one holder or more: a process of another container, user or host"
_CONTAINED = "processes outside this container may hold locks that are not shown"
_UNKNOWN = "unknown process (another container, user or host)"


# -- the locks on a file -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelLock:
    """One lock on bytes `start` to `end`; `pid` is None if the kernel hides it.

    `on_device` is True if its device is the file's. An overlay file system shows another device
    than the file below it has, and then an equal inode number proves nothing.
    """

    kind: str
    exclusive: bool
    waiting: bool
    pid: int | None
    start: int
    end: int
    on_device: bool


def read_lock_table(fd: int, path: str = "/proc/locks") -> list[KernelLock] | None:
    """Return the locks on the file open at `fd`; None if the table cannot be read.

    Drops locks on the same inode number of other devices if any lock is on the file's own device.
    """
    try:
        with open(path, "rb") as table:
            found = parse_locks(table, os.fstat(fd))
    except OSError:
        return None
    certain = [lock for lock in found if lock.on_device]
    return certain or found


def read_description_locks(fd: int) -> list[KernelLock]:
    """Return the locks of open file descriptions on the file at `fd`, once for each process.

    Several processes may share a description. Locks of other users' processes are missing unless
    this process is privileged.
    """
    status = os.fstat(fd)
    found: list[KernelLock] = []
    for pid, lines in descriptor_infos(status):
        locks = parse_locks([line for line in lines if line.startswith(b"lock:")], status)
        found += [replace(lock, pid=pid) for lock in locks if lock.kind == _DESCRIPTION]
    return found


def conflicting_lock(fd: int, byte: int) -> KernelLock | None:
    """Return a lock that keeps others from writing `byte` of the file at `fd`; None if none does.

    Finds locks of this process too. Works on Linux alone: struct flock differs elsewhere.
    """
    import fcntl

    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    for command in (getattr(fcntl, "F_OFD_GETLK", _F_OFD_GETLK), fcntl.F_GETLK):
        try:
            answer = fcntl.fcntl(fd, command, question)
        except OSError:  # an old or foreign kernel, or a file system without locks
            continue
        kind, _, start, length, pid = _FLOCK.unpack(answer)
        if kind == fcntl.F_UNLCK:
            return None
        return KernelLock(
            kind=_DESCRIPTION if pid == -1 else "POSIX",
            exclusive=kind == fcntl.F_WRLCK,
            waiting=False,
            pid=pid if pid > 0 else None,
            start=start,
            end=start + length - 1 if length else _EOF,
            on_device=True,
        )
    return None


def parse_locks(lines: Iterable[bytes], status: os.stat_result) -> list[KernelLock]:
    """Return the locks on the file with this ``stat``; lines of /proc/locks or of an fdinfo."""
    needle = b":%d " % status.st_ino
    found: list[KernelLock] = []
    for line in lines:
        match = _LINE.search(line) if needle in line else None
        if match is None or int(match["inode"]) != status.st_ino:
            continue
        pid = int(match["pid"])
        device = os.makedev(int(match["major"], 16), int(match["minor"], 16))
        found.append(
            KernelLock(
                kind=match["kind"].decode(),
                exclusive=match["mode"] == b"WRITE",
                waiting=match["waiting"] is not None,
                pid=pid if pid > 0 else None,
                start=int(match["start"]),
                end=_EOF if match["end"] == b"EOF" else int(match["end"]),
                on_device=device == status.st_dev,
            )
        )
    return found


# -- the locks of a log --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LockHolder:
    """One process that holds one lock of the log, or is `waiting` for it.

    `pid` is None if the kernel hides it. `command` is outside text. `since` is the start of the
    process in seconds since the epoch, not of the lock; `user` the numeric id of its owner.
    """

    lock: str
    pid: int | None
    command: str
    exclusive: bool
    waiting: bool = False
    since: float | None = None
    user: int | None = None
    kind: str = "POSIX"
    is_stopped: bool = False

    @property
    def is_own(self) -> bool:
        """True for this very process."""
        return self.pid == os.getpid()


@dataclass(frozen=True, slots=True)
class LockReport:
    """The holders found; `note` gives the reason, in words, if they may not be `complete`."""

    holders: tuple[LockHolder, ...]
    complete: bool
    note: str | None = None

    def of(self, *locks: str) -> tuple[LockHolder, ...]:
        """Return the holders of any of `locks`, without the waiting ones."""
        return tuple(held for held in self.holders if held.lock in locks and not held.waiting)

    @property
    def attached(self) -> tuple[LockHolder, ...]:
        """The processes that have the log open: each holds the dead man's switch, shared."""
        return self.of("DMS")

    def doubted(self, why: str) -> LockReport:
        """Return the same report for a log that may have holders elsewhere; `why` says so."""
        note = f"{self.note}; {why}" if self.note else why
        return replace(self, complete=False, note=note)


def read_locks(shm_fd: int) -> LockReport:
    """Return the holders of each lock of the log whose ``-shm`` is open at `shm_fd`."""
    if not sys.platform.startswith("linux"):
        return LockReport((), complete=False, note=_NOT_LINUX)
    table = read_lock_table(shm_fd)
    notes = [_NO_TABLE] if table is None else []
    if not sees_all_processes():
        notes.append(_CONTAINED)
    found: list[LockHolder] = []
    owned: list[KernelLock] | None = None
    known: dict[int | None, Process] = {None: Process(None, _UNKNOWN)}
    for byte, name in enumerate(LOCK_NAMES, LOCK_OFFSET):
        locks = _locks_on(shm_fd, byte, table or [])
        if owned is None and any(lock.kind == _DESCRIPTION for lock in locks):
            owned = read_description_locks(shm_fd)
        for lock in _with_owners(locks, byte, owned or []):
            if lock.pid is not None and lock.pid not in known:
                known[lock.pid] = describe_process(lock.pid)
            holder = _holder(name, lock, known[lock.pid])
            if holder not in found:
                found.append(holder)
    if any(held.pid is None for held in found):
        notes.append(_STRANGER)
    return LockReport(tuple(found), complete=not notes, note="; ".join(notes) or None)


def attached_processes(shm_fd: int) -> tuple[LockHolder, ...]:
    """Return the processes that have the log open, this one included."""
    return read_locks(shm_fd).attached


def _locks_on(fd: int, byte: int, table: list[KernelLock]) -> list[KernelLock]:
    """Return the locks on `byte`, with one that the table lacks if the kernel names it."""
    locks = [lock for lock in table if lock.start <= byte <= lock.end]
    conflict = conflicting_lock(fd, byte)
    if conflict is None:
        return [lock for lock in locks if lock.on_device]
    if any(lock.pid == conflict.pid for lock in locks if not lock.waiting):
        return locks
    return [*locks, conflict]


def _with_owners(locks: list[KernelLock], byte: int, owned: list[KernelLock]) -> list[KernelLock]:
    """Return `locks` with each lock of an open file description given to its processes."""
    found = []
    for lock in locks:
        mine = [
            other
            for other in owned
            if lock.kind == _DESCRIPTION
            and other.start <= byte <= other.end
            and other.exclusive == lock.exclusive
        ]
        found += mine or [lock]
    return found


def _holder(name: str, lock: KernelLock, process: Process) -> LockHolder:
    return LockHolder(
        lock=name,
        pid=process.pid,
        command=process.command,
        exclusive=lock.exclusive,
        waiting=lock.waiting,
        since=process.since,
        user=process.user,
        kind=lock.kind,
        is_stopped=process.is_stopped,
    )


# -- blockers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocker:
    """A process that blocks work of others, and the work that it `blocks`.

    A reader holds read mark `mark` and needs the log from `frame` on; frame 0 is the database file
    alone. Other blockers have neither; `frame` is None if the wal-index cannot be read.
    """

    pid: int | None
    command: str
    lock: str
    mark: int | None
    frame: int | None
    blocks: tuple[Blocks, ...]
    is_stopped: bool = False
    """True if a signal has stopped it: waiting does not help until it goes on."""

    @property
    def facts(self) -> tuple[str, ...]:
        """What a sentence adds to its name."""
        return ("stopped: waiting will not help",) if self.is_stopped else ()

    @property
    def holds_up_folding(self) -> bool:
        """True if it keeps frames from being copied: this is "busy" for a log."""
        return "backfill" in self.blocks or "checkpoint" in self.blocks


def blockers(
    index: WalIndex | None, report: LockReport, *, include_own: bool = False
) -> tuple[Blocker, ...]:
    """Return the lock holders that block work of others; this process only if `include_own`.

    Without an `index` every reader counts as a reader of old frames.
    """
    found = []
    for held in report.holders:
        if held.waiting or (held.is_own and not include_own):
            continue
        mark = int(held.lock[-1]) if held.lock.startswith("READ") and not held.exclusive else None
        frame = index.read_marks[mark].frame if index and mark is not None else None
        blocks = _blocks(held, mark, frame, index)
        if blocks:
            found.append(
                Blocker(held.pid, held.command, held.lock, mark, frame, blocks, held.is_stopped)
            )
    return tuple(found)


def _blocks(
    held: LockHolder, mark: int | None, frame: int | None, index: WalIndex | None
) -> tuple[Blocks, ...]:
    """Return the work that one lock blocks, by the rules of walCheckpoint() in SQLite's wal.c."""
    if mark == 0:  # reads the database file alone: no frame may be copied into it
        return () if index and not index.pending else ("backfill", "reset", "truncate")
    if mark is not None:
        if index is None or frame is None or frame < index.max_frame:
            return "backfill", "reset", "truncate"
        return "reset", "truncate"
    if held.lock == "WRITE":
        return "writers", "reset", "truncate"
    if held.lock == "CHECKPOINT":
        return ("checkpoint",)
    return ("writers", "checkpoint") if held.lock == "RECOVER" else ()
