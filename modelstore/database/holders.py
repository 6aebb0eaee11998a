"""Processes that have a database open, or had it open before its files were deleted or replaced.

A path can look perfectly clean while a process commits into a log that has no name any more: only
the descriptors of processes tell. `look_at_holders` reads the kernel's tables, and never opens a
file of the database: closing it would drop the locks of this process on it
(sqlite.org/howtocorrupt.html, section 2.2). Only Linux tells.

A process belongs to a database if it has a file open that is the one at the path, by inode, or
that has, or had, its name in that directory, or that shows it through an overlay or FUSE. If it
has the database open under another name, its log and index have that name too. SQLite opens its
files for writing, so a descriptor that only reads is a backup or a look like ours, and proves
nothing.
"""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.filesystem import mount_of, mount_table
from modelstore.text import plural
from modelstore.wal.format import LOCK_OFFSET
from modelstore.wal.processes import (
    DELETED,
    Descriptor,
    ancestors,
    describe_process,
    descriptor_info,
    is_kernel_thread,
    is_opened_to_write,
    namespace,
    open_files,
    process_ids,
    runs_program,
    sees_all_processes,
    shows_other_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelstore.wal.locks import KernelLock

_INDEX_UNIT = 32 << 10  # bytes; sqlite.org/walformat.html
_READ_LOCKS = range(LOCK_OFFSET + 3, LOCK_OFFSET + 8)
_DMS = LOCK_OFFSET + 8  # the dead man's switch: everybody attached holds it (walformat.html)
PENDING_BYTE = 0x40000000  # sqlite.org/lockingv3.html
SHARED_FIRST, SHARED_SIZE = PENDING_BYTE + 2, 510
# Seconds between looks: SQLite has a file open without its lock for microseconds, but a program
# that opens and closes the database all the time is often at that.
_LOOK_AGAIN = (0.003, 0.007, 0.013)
_WHOLE_LOOK = 5.0  # seconds after which every process is looked at again
_LOOK_AGAIN_REPLICA = (0.01, 0.03, 0.05)  # Litestream gives its read lock up while it checkpoints


class Role(StrEnum):
    """The part that a file plays for a database."""

    DATABASE = "database"
    LOG = "log"
    INDEX = "index"
    JOURNAL = "journal"

    @property
    def suffix(self) -> str:
        """The text that its name adds to the database's."""
        return _SUFFIXES[self]


_SUFFIXES = {Role.DATABASE: "", Role.LOG: "-wal", Role.INDEX: "-shm", Role.JOURNAL: "-journal"}


class HolderProblem(StrEnum):
    """A reason why a living process makes a fold dangerous; the value is a stable code."""

    OTHER_DATABASE = "other-database"
    """It uses a database that is no longer, or not, the one at the path."""
    OTHER_LOG = "other-log"
    """It uses a log that is no longer, or not, the one at the path."""
    OTHER_INDEX = "other-index"
    """It uses a wal-index that is no longer, or not, the one at the path."""
    OTHER_NAME = "other-name"
    """It uses the database under another name, beside which it keeps another log."""
    OTHER_MOUNT = "other-mount"
    """As other-name, in a mount namespace of its own: a file mounted into a container."""
    NO_LOCKS = "no-locks"
    """It has the log or a journal open without the locks that SQLite would hold."""
    EXCLUSIVE = "exclusive"
    """It keeps the database locked for itself alone, and its index in its own memory."""
    REPLICA_LOCK = "replica-lock"
    """It is a Litestream that has lost the read lock on which its copy depends."""


class OpenFile(NamedTuple):
    """A file that a process has open. `name` is outside text, as the kernel shows it.

    `size` is in bytes. `is_current` is True for the file that the path names now. `locks` are those
    that were taken through this descriptor.
    """

    role: Role
    descriptor: int
    name: str
    identity: tuple[int, int]
    size: int
    is_deleted: bool
    is_current: bool
    is_writable: bool
    locks: tuple[KernelLock, ...] = ()

    def has_lock(self, byte: int) -> bool:
        """Tell whether a lock on this byte was taken through it."""
        return any(lock.start <= byte <= lock.end and not lock.waiting for lock in self.locks)


class Holder(NamedTuple):
    """A process and its files of one database. `command` is outside text.

    `started` is the start of the process in seconds since the epoch; no table tells since when a
    lock is held. `base` is the name by which it knows the database. `task` is the process, or a
    thread of it that lives on after the first: ``/proc/TASK`` shows its files.
    """

    pid: int
    task: int
    command: str
    user: int | None
    started: float | None
    is_stopped: bool
    base: str
    files: tuple[OpenFile, ...]
    problems: tuple[HolderProblem, ...] = ()

    def of(self, role: Role) -> tuple[OpenFile, ...]:
        """Return its files of one role."""
        return tuple(file for file in self.files if file.role is role)

    @property
    def is_user(self) -> bool:
        """True if it has a file open for writing, as SQLite does."""
        return any(file.is_writable for file in self.files)

    @property
    def is_attached(self) -> bool:
        """True if it holds the lock of everybody who has the log open."""
        return any(file.has_lock(_DMS) for file in self.of(Role.INDEX))

    def locks_database(self, *, exclusively: bool = False) -> bool:
        """Tell whether it holds a lock on the database file."""
        return any(
            lock.end >= PENDING_BYTE and (lock.exclusive or not exclusively) and not lock.waiting
            for file in self.of(Role.DATABASE)
            for lock in file.locks
        )


class Holders(NamedTuple):
    """The processes found; `note` gives the reason if there may be more than these."""

    path: str
    holders: tuple[Holder, ...]
    complete: bool
    note: str | None = None
    seen: frozenset[int] = frozenset()  # every process that was looked at
    looked: float = 0.0  # when, in seconds of the monotonic clock

    @property
    def unseen(self) -> str | None:
        """A sentence on what this look could not see; None if it saw everything."""
        return None if self.complete else f"{self.note}; a deleted log may still be open there"

    @property
    def troubled(self) -> tuple[Holder, ...]:
        """The processes that make a fold dangerous."""
        return tuple(holder for holder in self.holders if holder.problems)

    @property
    def users(self) -> tuple[Holder, ...]:
        """The processes that use the database as SQLite does."""
        return tuple(holder for holder in self.holders if holder.is_user)


def look_at_holders(path: str, *, known: Holders | None = None, certain: bool = True) -> Holders:
    """Return the other processes that have a database open; `path` is its real path.

    Takes 3 microseconds for each descriptor on the machine. After an earlier look of some seconds
    ago, `known`, it looks only at its holders and at new processes, and takes next to nothing: a
    process that was there, and opens the database only now, takes SQLite's locks as it does. A
    problem counts only if a second look sees it too, unless not `certain`: a process may be between
    an open and its lock.
    """
    if not sys.platform.startswith("linux"):
        return Holders(
            path, (), complete=False, note="this system does not tell which processes have it open"
        )
    look, pids, now = _Look(path), process_ids(), time.monotonic()
    if known is None or known.path != path or now - known.looked > _WHOLE_LOOK:
        found, hidden = look.at(pids)
        known = _new_holders(path, hidden, frozenset(pids), now)
    else:
        mine = {holder.pid for holder in known.holders}
        found, hidden = look.at([pid for pid in pids if pid in mine or pid not in known.seen])
        if hidden and known.complete:
            known = _new_holders(path, hidden, known.seen, known.looked)
    return known._replace(holders=tuple(_confirmed(look, found) if certain else found))


def _new_holders(path: str, hidden: int, seen: frozenset[int], now: float) -> Holders:
    """Return a look without its holders; `hidden` processes do not show their files."""
    notes = []
    if hidden:
        processes = plural(hidden, "process", "processes")
        only = ", only by root" if os.geteuid() else ""
        notes.append(f"the open files of {processes} may not be seen by this user{only}")
    # A mount of /proc with hidepid=2 leaves the processes of other users out, the first one too;
    # without any /proc, or with another namespace's, this process itself is not there.
    if not {1, os.getpid()} <= seen:
        notes.append("this system does not show the processes of other users")
    if not sees_all_processes():
        notes.append("processes outside this container may have it open")
    mount = mount_of(path, mount_table() or ())
    if mount is not None and mount.is_risky:
        notes.append(f"processes elsewhere may have it open through {mount.type}")
    note = "; ".join(notes) or None
    return Holders(path, (), complete=not notes, note=note, seen=seen, looked=now)


def _confirmed(look: _Look, found: list[Holder]) -> list[Holder]:
    """Return `found` with the problems alone that every further look sees as well."""
    seen = {holder.pid: holder for holder in found}
    troubled = [holder.pid for holder in found if holder.problems]
    is_replica = any(HolderProblem.REPLICA_LOCK in holder.problems for holder in found)
    for pause in _LOOK_AGAIN_REPLICA if is_replica else _LOOK_AGAIN:
        if not troubled:
            break
        time.sleep(pause)
        again = {holder.pid: holder for holder in _Look(look.path).at(troubled)[0]}
        for pid in troubled:
            before, later = seen.pop(pid), again.get(pid)
            if later is not None:
                both = tuple(one for one in later.problems if one in before.problems)
                seen[pid] = later._replace(problems=both)
        troubled = [pid for pid, holder in seen.items() if holder.problems]
    return list(seen.values())


class _Look:
    """One look at the processes, from the files that the path names at this moment."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory, name = os.path.split(path)
        self._names = {name + role.suffix: role for role in Role}
        self._current: dict[tuple[int, int], Role] = {}
        self._database: os.stat_result | None = None
        for role in Role:
            try:
                status = os.stat(path + role.suffix)
            except OSError:
                continue
            self._current[status.st_dev, status.st_ino] = role
            if role is Role.DATABASE:
                self._database = status
        self._mounts = namespace("self", "mnt")

    def at(self, pids: Iterable[int]) -> tuple[list[Holder], int]:
        """Return the holders among some processes, and how many processes hide their files."""
        found, hidden = [], 0
        me = os.getpid()
        for pid in pids:
            if pid == me:
                continue
            descriptors = open_files(pid, self._is_ours)
            if descriptors is None:
                hidden += not is_kernel_thread(pid)
            elif descriptors:
                holder = self._holder(pid, descriptors)
                if holder is not None:
                    found.append(holder)
        return _without_heirs(found), hidden

    def _holder(self, pid: int, descriptors: list[Descriptor]) -> Holder | None:
        base = self._base(descriptors)
        task = descriptors[0].task
        files = [
            self._file(descriptor, role)
            for descriptor, role in self._roles(task, base, descriptors)
        ]
        if not files:
            return None
        process = describe_process(pid)
        holder = Holder(
            *(pid, task, process.command, process.user, process.since, process.is_stopped),
            *(base, tuple(files)),
        )
        return holder._replace(problems=tuple(self._problems(holder)))

    def _roles(
        self, task: int, base: str, descriptors: list[Descriptor]
    ) -> list[tuple[Descriptor, Role]]:
        """Return the descriptors on files of the database, with the part that each file plays."""
        roles = {base + role.suffix: role for role in Role} if base != self.path else {}
        found = []
        for descriptor in descriptors:
            role = self._current.get(descriptor.identity) or self._named(task, descriptor)
            role = role or roles.get(descriptor.name)
            if role is not None:
                found.append((descriptor, role))
        if found and not any(role is Role.LOG for _, role in found):
            found += _orphans(descriptors, has_index=any(role is Role.INDEX for _, role in found))
        return found

    def _is_ours(self, target: str, status: os.stat_result) -> bool:
        name = os.path.basename(target)
        if name in self._names or name.removesuffix(DELETED) in self._names:
            return True
        return (status.st_dev, status.st_ino) in self._current

    def _named(self, task: int, descriptor: Descriptor) -> Role | None:
        """Return the role of a file that had one of our names, in our own directory."""
        directory, name = os.path.split(descriptor.name)
        role = self._names.get(name)
        return role if role is not None and self._is_directory(task, directory) else None

    def _is_directory(self, task: int, name: str) -> bool:
        """Tell whether a directory in the eyes of a process is the one of our path."""
        if name == self._directory and namespace(task, "mnt") == self._mounts:
            return True
        try:
            return os.path.samestat(os.stat(f"/proc/{task}/root{name}"), os.stat(self._directory))
        except OSError:
            return False

    def _is_database(self, descriptor: Descriptor) -> bool:
        """Tell whether a file is the database at our path, by whatever name."""
        if self._current.get(descriptor.identity) is Role.DATABASE:
            return True
        ours, theirs = self._database, descriptor.status
        if ours is None or theirs.st_dev == ours.st_dev:
            return False
        name = os.path.basename(descriptor.name)
        if self._names.get(name) is not Role.DATABASE:
            return False
        if (theirs.st_size, theirs.st_mtime_ns) != (ours.st_size, ours.st_mtime_ns):
            return False
        return shows_other_files(ours.st_dev) or shows_other_files(theirs.st_dev, descriptor.task)

    def _base(self, descriptors: list[Descriptor]) -> str:
        """Return the name by which a process knows the database."""
        names = [descriptor.name for descriptor in descriptors if self._is_database(descriptor)]
        return self.path if self.path in names or not names else names[0]

    def _file(self, descriptor: Descriptor, role: Role) -> OpenFile:
        lines = descriptor_info(descriptor.task, descriptor.number)
        from modelstore.wal.locks import parse_locks  # a lone database needs none of it

        locks = parse_locks(
            [line for line in lines if line.startswith(b"lock:")], descriptor.status
        )
        return OpenFile(
            role=role,
            descriptor=descriptor.number,
            name=descriptor.target,
            identity=descriptor.identity,
            size=descriptor.status.st_size,
            is_deleted=descriptor.is_deleted,
            is_current=descriptor.identity in self._current or self._is_database(descriptor),
            is_writable=is_opened_to_write(lines),
            locks=tuple(locks),
        )

    # -- problems --------------------------------------------------------------------------------

    def _problems(self, holder: Holder) -> Iterator[HolderProblem]:
        """Yield the contradictions between a process and the files at the path."""
        if not holder.is_user:
            return
        others = {file.role for file in holder.files if not file.is_current}
        is_orphan = holder.is_attached and not holder.of(Role.DATABASE)  # it was moved away
        if Role.DATABASE in others or is_orphan:
            yield HolderProblem.OTHER_DATABASE
        elif self._has_other_name(holder):
            mounts = namespace(holder.task, "mnt")
            yield (
                HolderProblem.OTHER_NAME if mounts == self._mounts else HolderProblem.OTHER_MOUNT
            )
        if Role.LOG in others:
            yield HolderProblem.OTHER_LOG
        if Role.INDEX in others:
            yield HolderProblem.OTHER_INDEX
        if not others and not is_orphan:
            yield from _lock_problems(holder, self.path)

    def _has_other_name(self, holder: Holder) -> bool:
        """Tell whether a process has the database at another name, and not our log."""
        is_same = os.path.basename(holder.base) == os.path.basename(self.path)
        if holder.base == self.path or any(file.is_current for file in holder.of(Role.LOG)):
            return False
        return not (is_same and self._is_directory(holder.task, os.path.dirname(holder.base)))


def _lock_problems(holder: Holder, path: str) -> Iterator[HolderProblem]:
    """Yield the problems with the locks of a process that has the files at `path` open."""
    if not (holder.of(Role.DATABASE) and holder.of(Role.LOG)):
        # A journal is open as long as a transaction holds the database reserved, and no longer.
        is_writing = any(file.is_writable for file in holder.of(Role.JOURNAL))
        if is_writing and not holder.locks_database():
            yield HolderProblem.NO_LOCKS
        return
    if holder.is_attached:
        if _is_litestream(holder, path) and not _has_read_lock(holder):
            yield HolderProblem.REPLICA_LOCK
    elif not holder.of(Role.INDEX) and holder.locks_database():
        yield HolderProblem.EXCLUSIVE
    else:
        yield HolderProblem.NO_LOCKS


def _has_read_lock(holder: Holder) -> bool:
    return any(file.has_lock(byte) for file in holder.of(Role.INDEX) for byte in _READ_LOCKS)


def _is_litestream(holder: Holder, path: str) -> bool:
    """Tell whether a process replicates this database: it keeps a directory beside it.

    Litestream holds a read lock from its first sync on: frames that it has not copied must stay.
    """
    directory, name = os.path.split(path)
    shadow = os.path.join(directory, f".{name}-litestream")
    return runs_program(holder.pid, "litestream") and os.path.isdir(shadow)


def _without_heirs(found: list[Holder]) -> list[Holder]:
    """Take the reproach of missing locks from a process that inherited its descriptors.

    A fork has its parent's descriptors and none of its locks. While the parent lives and holds
    them, the files are guarded.
    """
    attached = {holder.pid: holder for holder in found if holder.is_attached}
    result = []
    for holder in found:
        if HolderProblem.NO_LOCKS in holder.problems and any(
            _has_same_descriptors(holder, attached[pid])
            for pid in ancestors(holder.pid)
            if pid in attached
        ):
            holder = holder._replace(problems=())  # noqa: PLW2901 - the one that is kept
        result.append(holder)
    return result


def _has_same_descriptors(heir: Holder, parent: Holder) -> bool:
    theirs = {(file.descriptor, file.identity) for file in parent.files}
    return all((file.descriptor, file.identity) in theirs for file in heir.files)


def _orphans(
    descriptors: list[Descriptor], *, has_index: bool
) -> Iterator[tuple[Descriptor, Role]]:
    """Yield a log and its index whose own database the process does not have open.

    The database was renamed: both keep the old name. An index is 32 KiB, or several times that.
    If the process `has_index`, that of our database, then the log alone was moved away.
    """
    named = {descriptor.name: descriptor for descriptor in descriptors}
    for name, log in named.items():
        base = name.removesuffix(Role.LOG.suffix)
        index = named.get(base + Role.INDEX.suffix)
        if base == name or base in named:
            continue
        if index is None:
            if has_index:
                yield log, Role.LOG
            continue
        if index.status.st_size and not index.status.st_size % _INDEX_UNIT:
            yield from ((log, Role.LOG), (index, Role.INDEX))
