"""The place of a database: file system, mounts, links, room, and what was left beside it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database.files import unwritable
from modelstore.database.filesystem import mount_of, mount_table, ownership_warning
from modelstore.finding import Finding
from modelstore.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.subject import Subject

_READ, _WRITE, _ENTER = 4, 2, 1
_IN_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs"))
_SPARE = 1 << 20  # bytes that should be free beside what the fold takes
_SIBLINGS = 20_000  # names in the directory that are looked at
_ST_RDONLY = 1


def check_ownership(subject: Subject) -> Iterator[Finding]:
    """Yield each file that the database's owner or this process cannot use."""
    if os.name == "nt":
        return
    path = subject.path
    try:
        database = os.stat(path)
        directory = os.stat(os.path.dirname(path))
    except OSError:
        return
    who = f"the database's owner (uid {database.st_uid})"
    if not _may(database, database, _READ | _WRITE):
        yield Finding(
            "environment.read-only",
            "warn",
            f"mode {stat.S_IMODE(database.st_mode):04o} keeps {who} from writing to the database",
            path,
            "give its owner the right to write, unless it is meant to be read-only",
        )
    for suffix in ("-wal", "-shm"):
        yield from _check_companion(path + suffix, database, who)
    if not _may(directory, database, _WRITE | _ENTER):
        yield Finding(
            "environment.directory",
            "warn",
            f"{who} cannot create a log or a journal in the directory (uid {directory.st_uid}, "
            f"mode {stat.S_IMODE(directory.st_mode):04o})",
            os.path.dirname(path),
            "give the database a directory that its owner may write to",
        )
    blocked = unwritable(path)
    if blocked is not None:
        yield Finding(
            "environment.this-user",
            "warn",
            "this user cannot write there, so nothing can be folded",
            blocked,
            "verify as the user that the application runs as",
        )


def _check_companion(name: str, database: os.stat_result, who: str) -> Iterator[Finding]:
    try:
        status = os.stat(name)
    except OSError:
        return
    difference = ownership_warning(os.path.basename(name), database, status)
    if not _may(status, database, _READ | _WRITE):
        yield Finding(
            "environment.owner",
            "fail",
            f"{who} cannot use {os.path.basename(name)} (uid {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}): the application is locked out",
            name,
            f"give it back: chown {database.st_uid}:{database.st_gid}, chmod "
            f"{stat.S_IMODE(database.st_mode):04o}",
        )
    elif difference is not None:
        yield Finding(
            "environment.mode",
            "warn",
            difference,
            name,
            "give the database, its -wal and its -shm one owner and one mode",
        )


def _may(status: os.stat_result, database: os.stat_result, rights: int) -> bool:
    """Tell if the owner of the database has all of `rights` on a file."""
    user, mode = database.st_uid, stat.S_IMODE(status.st_mode)
    if user == 0:
        return True
    if status.st_uid == user:
        granted = mode >> 6
    elif status.st_gid == database.st_gid:
        granted = mode >> 3
    else:
        granted = mode
    return granted & rights == rights


class MountFacts(NamedTuple):
    """The mount that a file lies on; `free` is in bytes. None is unknown."""

    type: str | None
    mount_point: str | None
    free: int | None
    is_read_only: bool


def describe_place(path: str) -> MountFacts:
    """Return the mount of a file, and the room on it."""
    mount = mount_of(path, mount_table() or ())
    free, read_only = None, False
    if hasattr(os, "statvfs"):
        try:
            status = os.statvfs(os.path.dirname(path))
            free = status.f_bavail * status.f_frsize
            read_only = bool(status.f_flag & _ST_RDONLY)
        except OSError:
            pass
    return MountFacts(
        mount.type if mount else None, mount.point if mount else None, free, read_only
    )


def check_place(subject: Subject) -> Iterator[Finding]:
    """Yield each risk of the mount, the links, the room, and of files left beside the database."""
    place = describe_place(subject.path)
    yield from _mounts(subject.path, place)
    yield from _room(subject, place)
    yield from _hard_links(subject.path)
    yield from _symbolic_link(subject)
    yield from _leftovers(subject)


def _mounts(path: str, place: MountFacts) -> Iterator[Finding]:
    mounts = mount_table() or ()
    mount = mount_of(path, mounts)
    if mount is not None and mount.is_risky:
        yield Finding(
            "environment.file-system",
            "warn",
            f"{mount.type} ({mount.point}): processes on different machines or in containers do "
            "not share WAL's memory and locks through it",
            path,
            "let one machine alone open it, or move it to a local disk",
        )
    if mount is not None and mount.type in _IN_MEMORY:
        yield Finding(
            "environment.volatile",
            "warn",
            f"{mount.type} ({mount.point}): the database lies in memory and is gone with the next "
            "restart",
            path,
            "move it to a disk",
        )
    if mount is not None and mount.point == path:
        yield Finding(
            "environment.mount-point",
            "fail",
            "the database file is itself a mount point: its -wal lies on another file system, and "
            "is lost with that",
            path,
            "mount the directory that holds the database instead of the file",
        )
    for suffix in ("-wal", "-shm"):
        other = mount_of(path + suffix, mounts)
        if other is not None and other.point == path + suffix:
            yield Finding(
                "environment.device",
                "fail",
                f"the database's {suffix} is a mount point of its own ({other.type})",
                path + suffix,
                "keep the database, its -wal and its -shm in one directory of one file system",
            )
    if place.is_read_only:
        yield Finding(
            "environment.read-only-mount",
            "warn",
            "the file system is mounted read-only: nothing can be written or folded",
            path,
            "mount it read-write, or verify where it is",
        )


def _room(subject: Subject, place: MountFacts) -> Iterator[Finding]:
    if place.free is None or subject.probe is None:
        return
    scan = subject.log.scan
    needed = max(0, scan.page_count * scan.page_size - subject.probe.size) if scan.max_frame else 0
    if place.free >= needed + _SPARE:
        return
    words = f"{human_bytes(place.free)} free"
    if place.free < needed:
        words += f", and the fold takes {human_bytes(needed)}"
    yield Finding(
        "environment.space",
        "fail" if place.free < needed else "warn",
        words,
        os.path.dirname(subject.path),
        "free some space: a full disk stops every write, and the fold",
        {"free": place.free, "needed": needed},
    )


def _hard_links(path: str) -> Iterator[Finding]:
    try:
        status = os.stat(path)
    except OSError:
        return
    if status.st_nlink < 2 or os.name == "nt":
        return
    others = _other_names(path, status)
    logs = [name for name in others if _size(name + "-wal")]
    named = f": {', '.join(os.path.basename(name) for name in others)}" if others else ""
    yield Finding(
        "environment.hard-link",
        "fail" if logs else "warn",
        f"the database file has {plural(status.st_nlink, 'name')}{named}"
        + (
            f"; {os.path.basename(logs[0])}-wal is a second log of it"
            if logs
            else "; whoever opens it by another one makes a second log"
        ),
        path,
        "keep one name alone: two logs of one database corrupt it "
        "(sqlite.org/howtocorrupt.html, section 2.6)",
        {"links": status.st_nlink, "others": others, "logs": logs},
    )


def _other_names(path: str, status: os.stat_result) -> list[str]:
    """Return the other names of a file in its own directory."""
    found = []
    directory = os.path.dirname(path)
    try:
        with os.scandir(directory) as entries:
            for count, entry in enumerate(entries):
                if count >= _SIBLINGS:
                    break
                if entry.inode() == status.st_ino and entry.path != path and not entry.is_symlink():
                    found.append(entry.path)
    except OSError:
        return found
    return sorted(found)


def _symbolic_link(subject: Subject) -> Iterator[Finding]:
    if not os.path.islink(subject.given):
        return
    log = subject.given + "-wal"
    has_log = bool(_size(log)) and os.path.realpath(log) != subject.log_path
    yield Finding(
        "environment.symlink",
        "fail" if has_log else "warn",
        f"the path is a symbolic link to {subject.path}"
        + (
            f"; {os.path.basename(log)} beside the link is a second log"
            if has_log
            else ", and the -wal lies there: whoever copies or mounts by the link misses it"
        ),
        subject.given,
        "name the database by its real path everywhere",
    )


def _leftovers(subject: Subject) -> Iterator[Finding]:
    journal, found = subject.journal, subject.probe
    if journal is not None and journal.is_hot:
        yield _hot_journal(subject)
    elif journal is not None and journal.size and subject.is_wal:
        yield Finding(
            "environment.journal",
            "note",
            f"a rollback journal of {human_bytes(journal.size)} lies beside a database in WAL "
            "mode; it is not hot",
            journal.path,
        )
    knows_more = found is not None and found.wal_index is not None and found.wal_index.pending
    if (
        found is not None
        and found.shm_size
        and found.wal_size is None
        and found.attached is False
        and not knows_more  # told with the log
    ):
        yield Finding(
            "environment.shm",
            "warn",
            f"a -shm of {human_bytes(found.shm_size)} was left without a -wal, and no process has "
            "a lock on it: SQLite removes the -wal first, and then the -shm",
            subject.path + "-shm",
            "something deleted the -wal or copied the -shm, or a program was killed while it "
            "closed the database: find out which",
        )


def _hot_journal(subject: Subject) -> Finding:
    journal = subject.journal
    size = human_bytes(journal.size) if journal is not None else ""
    if subject.is_wal:
        return Finding(
            "environment.hot-journal",
            "fail",
            f"a hot rollback journal of {size} lies beside a database in WAL mode: SQLite would "
            "write what it holds into the database",
            subject.path + "-journal",
            "it was not opened; if the journal is not this database's, move it away",
        )
    return Finding(
        "environment.hot-journal",
        "warn",
        f"a hot rollback journal of {size}: a program was killed in a transaction, which the "
        "next opening takes back",
        subject.path + "-journal",
        "never delete the journal, for the main file is whole only together with it; but put it "
        "aside if the database was restored from a backup since",
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
