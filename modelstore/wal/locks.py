"""Who holds which lock of a log, and what that keeps a checkpoint from doing.

Linux tells through three doors, none of which shows everything: ``/proc/locks`` lists all locks
of the processes that we can see, ``F_GETLK`` one conflicting lock even of a process that we
cannot, and ``/proc/PID/fdinfo`` the owners of locks that belong to an open file description.
On other systems nobody tells, and the report says so.

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
from modelstore.wal.processes import Process, describe_process

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelstore.wal.index import WalIndex

_EOF = sys.maxsize
_MAX_FDINFO = 1 << 16  # bytes of one fdinfo that are looked at
_LINE = re.compile(
    rb"\d+:\s+(?P<waiting>->\s+)?(?P<kind>POSIX|OFDLCK)\s+\S+\s+(?P<mode>READ|WRITE)\s+(?P<pid>-?\d+)"
    rb"\s+(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+)\s+(?P<start>\d+)\s+(?P<end>\d+|EOF)"
)


@dataclass(frozen=True, slots=True)
class KernelLock:
    """One lock on bytes `start` to `end`; `pid` is None where the kernel does not tell it.

    `on_device` is whether its device is the file's: an overlay has another one than the file has
    below it, and then the number of the inode alone is no proof.
    """

    kind: str
    exclusive: bool
    waiting: bool
    pid: int | None
    start: int
    end: int
    on_device: bool


def read_lock_table(fd: int, path: str = "/proc/locks") -> list[KernelLock] | None:
    """Return the locks on the file open at `fd`, or None where the table cannot be read.

    Where some are on the file's own device, those of equal inodes elsewhere are left out.
    """
    try:
        with open(path, "rb") as table:
            found = _entries(table, os.fstat(fd))
    except OSError:
        return None
    certain = [entry for entry in found if entry.on_device]
    return certain or found


def read_description_locks(fd: int) -> list[KernelLock]:
    """Return the locks of open file descriptions on the file at `fd`, each with a process.

    Several processes may share a description. Descriptors of other users' processes are out of
    reach without privilege: their locks are missing here.
    """
    status = os.fstat(fd)
    found: list[KernelLock] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            found += _owned(int(name), status)
    return found


def _owned(pid: int, status: os.stat_result) -> list[KernelLock]:
    found: list[KernelLock] = []
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended, or belongs to another user
        return found
    for descriptor in descriptors:
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), status):
                with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as info:
                    lines = info.read(_MAX_FDINFO).splitlines()
                locks = _entries([line for line in lines if line.startswith(b"lock:")], status)
                found += [replace(lock, pid=pid) for lock in locks if lock.kind == "OFDLCK"]
        except OSError:  # closed meanwhile
            continue
    return found


def _entries(lines: Iterable[bytes], status: os.stat_result) -> list[KernelLock]:
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


Blocks = Literal["backfill", "truncate", "reset", "writers", "checkpoint"]

_NOT_LINUX = "this system does not tell which process holds a lock"
_NO_TABLE = "/proc/locks cannot be read, so only one holder of each lock is shown"
_STRANGER = "the kernel hides one holder or more: a process of another container, user or host"
_CONTAINED = "processes outside this container may hold locks that are not shown"
_UNKNOWN = "unknown process (another container, user or host)"
_DESCRIPTION = "OFDLCK"  # a lock that belongs to an open file description, not to a process
_F_OFD_GETLK = 36
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel

# struct flock, 64-bit offsets: type, whence, start, length, pid
_FLOCK = struct.Struct("@hhqqi4x")


@dataclass(frozen=True, slots=True)
class LockHolder:
    """One process that holds, or is `waiting` for, one lock of the log.

    `pid` is None where the kernel hides it. `command` is outside text. `since` is when the process
    started (seconds since the epoch), not when it took the lock; `user` its owner's numeric id.
    """

    lock: str
    pid: int | None
    command: str
    exclusive: bool
    waiting: bool = False
    since: float | None = None
    user: int | None = None
    kind: str = "POSIX"

    @property
    def is_own(self) -> bool:
        """Whether it is this very process."""
        return self.pid == os.getpid()


@dataclass(frozen=True, slots=True)
class LockReport:
    """All holders that could be found; `note` says, in words, why it may not be `complete`."""

    holders: tuple[LockHolder, ...]
    complete: bool
    note: str | None = None

    def of(self, *locks: str) -> tuple[LockHolder, ...]:
        """Return those that hold one of `locks`, not those that wait for it."""
        return tuple(held for held in self.holders if held.lock in locks and not held.waiting)

    @property
    def attached(self) -> tuple[LockHolder, ...]:
        """The processes that have the log open: each holds the dead man's switch, shared."""
        return self.of("DMS")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A process that keeps others from something, and from what.

    A reader holds read mark `mark` and needs the log as of `frame` at least; 0 is the database
    file alone. Both are None for others, `frame` also where the wal-index could not be read.
    """

    pid: int | None
    command: str
    lock: str
    mark: int | None
    frame: int | None
    blocks: tuple[Blocks, ...]

    @property
    def holds_up_folding(self) -> bool:
        """Whether it keeps frames from being copied: that is what "busy" means of a log."""
        return "backfill" in self.blocks or "checkpoint" in self.blocks


def read_locks(shm_fd: int) -> LockReport:
    """Return who holds or awaits which lock of the log whose ``-shm`` is open at `shm_fd`."""
    if not sys.platform.startswith("linux"):
        return LockReport((), complete=False, note=_NOT_LINUX)
    table = read_lock_table(shm_fd)
    notes = [_NO_TABLE] if table is None else []
    if not _in_initial_namespace():
        notes.append(_CONTAINED)
    found: list[LockHolder] = []
    owners: list[KernelLock] | None = None
    known: dict[int | None, Process] = {None: Process(None, _UNKNOWN)}
    for byte, lock in enumerate(LOCK_NAMES, LOCK_OFFSET):
        entries = _entries_of(shm_fd, byte, table or [])
        if owners is None and any(entry.kind == _DESCRIPTION for entry in entries):
            owners = read_description_locks(shm_fd)
        for entry in _with_owners(entries, byte, owners or []):
            if entry.pid is not None and entry.pid not in known:
                known[entry.pid] = describe_process(entry.pid)
            holder = _holder(lock, entry, known[entry.pid])
            if holder not in found:
                found.append(holder)
    if any(held.pid is None for held in found):
        notes.append(_STRANGER)
    return LockReport(tuple(found), complete=not notes, note="; ".join(notes) or None)


def attached_processes(shm_fd: int) -> tuple[LockHolder, ...]:
    """Return the processes that have the log open, this one among them."""
    return read_locks(shm_fd).attached


def blockers(
    index: WalIndex | None, report: LockReport, *, include_own: bool = False
) -> tuple[Blocker, ...]:
    """Return what each lock holder keeps others from; those that block nothing are left out.

    Without an `index` a reader counts as one of old frames. Our own process is left out, unless
    `include_own`.
    """
    found = []
    for held in report.holders:
        if held.waiting or (held.is_own and not include_own):
            continue
        mark = int(held.lock[-1]) if held.lock.startswith("READ") and not held.exclusive else None
        frame = index.read_marks[mark].frame if index and mark is not None else None
        blocks = _blocks(held, mark, frame, index)
        if blocks:
            found.append(Blocker(held.pid, held.command, held.lock, mark, frame, blocks))
    return tuple(found)


def _blocks(
    held: LockHolder, mark: int | None, frame: int | None, index: WalIndex | None
) -> tuple[Blocks, ...]:
    """Return what one lock keeps others from doing, as walCheckpoint() in SQLite's wal.c has it."""
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


def _entries_of(fd: int, byte: int, table: list[KernelLock]) -> list[KernelLock]:
    """Return the locks on `byte`, those that the table leaves out among them."""
    entries = [entry for entry in table if entry.start <= byte <= entry.end]
    probed = _probe(fd, byte)
    if probed is None:
        return [entry for entry in entries if entry.on_device]
    known = [entry for entry in entries if not entry.waiting]
    if any(entry.pid == probed.pid for entry in known):
        return entries
    return [*entries, probed]


def _probe(fd: int, byte: int) -> KernelLock | None:
    """Return one lock on `byte`, as the kernel tells somebody who would like to write there.

    Asked on behalf of the descriptor, so that locks of our own process are seen as well.
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
            end=start + length - 1 if length else sys.maxsize,
            on_device=True,
        )
    return None


def _with_owners(
    entries: list[KernelLock], byte: int, owners: list[KernelLock]
) -> list[KernelLock]:
    """Return `entries` with each lock of an open file description replaced by its owners'."""
    found = []
    for entry in entries:
        mine = [
            owner
            for owner in owners
            if entry.kind == _DESCRIPTION
            and owner.start <= byte <= owner.end
            and owner.exclusive == entry.exclusive
        ]
        found += mine or [entry]
    return found


def _holder(lock: str, entry: KernelLock, who: Process) -> LockHolder:
    return LockHolder(
        lock=lock,
        pid=who.pid,
        command=who.command,
        exclusive=entry.exclusive,
        waiting=entry.waiting,
        since=who.since,
        user=who.user,
        kind=entry.kind,
    )


def _in_initial_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return False
