"""What a database stands on: its SQLite, its place, its owners, and who else has it open.

All of it is seen before SQLite opens the database in this process.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.database import sqlite
from modelstore.database.sqlite import has_wal_reset_bug
from modelstore.finding import Finding, findings_of
from modelstore.text import human_bytes, plural
from modelstore.verify.place import check_ownership, check_place, describe_place
from modelstore.verify.subject import NAMED
from modelstore.wal.processes import describe_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.subject import Subject

_MAX_LIBRARY = 64 << 20  # bytes of a library that are searched for its version
_MAX_MAPS = 4 << 20  # bytes of a table of mappings
_VERSION = re.compile(rb"\0(3\.\d{1,2}\.\d{1,2})\0")
_SOURCE_ID = re.compile(rb"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True)
class User:
    """A process that has a database open. `command` is outside text; `sqlite` None if unknown."""

    pid: int
    command: str
    sqlite: str | None


def users_of(path: str) -> tuple[tuple[User, ...], bool]:
    """Return the other processes that have a file open, and whether these are all.

    Only stats descriptors of others, never opens the file itself.
    """
    if not sys.platform.startswith("linux"):
        return (), False
    try:
        wanted = os.stat(path)
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return (), False
    complete = os.geteuid() == 0
    users = [pid for pid in sorted(pids) if pid != os.getpid() and _has_open(pid, wanted)]
    return tuple(
        User(pid, describe_process(pid).command, _sqlite_version(pid)) for pid in users
    ), complete


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:  # ended, or another user's
        return False
    for name in names:
        try:
            if os.path.samestat(os.stat(f"{directory}/{name}"), wanted):
                return True
        except OSError:
            continue
    return False


def _sqlite_version(pid: int) -> str | None:
    """Return the version in the library, or the program, that the process has SQLite from."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as table:
            lines = table.read(_MAX_MAPS).splitlines()
        program = os.fsencode(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.count(b"/")}
    libraries = sorted(name for name in mapped if b"sqlite" in os.path.basename(name).lower())
    for name in [*libraries, program]:
        version = _version_in(b"/proc/%d/root%s" % (pid, name))
        if version is not None:
            return version
    return None


def _version_in(path: bytes) -> str | None:
    """Return the version that a binary says it is, if SQLite itself is in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(_MAX_LIBRARY)
    if _SOURCE_ID.search(content) is None:
        return None
    versions = {match[1].decode() for match in _VERSION.finditer(content)}
    return versions.pop() if len(versions) == 1 else None


_finding = findings_of("environment")
_BUG = "can lose rows that were committed, when a checkpoint meets a restart of the log"
_BUG_ADVICE = "install SQLite 3.51.3 or newer (sqlite.org/wal.html#walresetbug)"


def check_environment(subject: Subject) -> Iterator[Finding]:
    """Yield each risk, then one line that says what was found."""
    users, complete = users_of(subject.path)
    problems = [
        *_own_sqlite(),
        *check_place(subject),
        *check_ownership(subject),
        *_their_sqlite(users),
    ]
    yield from problems
    is_sound = all(problem.severity in ("pass", "note") for problem in problems)
    place = describe_place(subject.path)
    nobody = "nobody else has it open" if complete else "nobody else is seen to have it open"
    others = (
        f"open in {plural(len(users), 'other process', 'other processes')}: {_names(users)}"
        if users
        else nobody
    )
    free = f", {human_bytes(place.free)} free" if place.free is not None else ""
    yield _finding(
        "facts",
        "pass" if is_sound else "note",
        f"SQLite {sqlite.SQLITE_VERSION}, {place.type or 'unknown file system'}{free}; {others}",
        subject.path,
        None,
        {
            "sqlite_version": sqlite.SQLITE_VERSION,
            "file_system": place.type,
            "mount_point": place.mount_point,
            "free_bytes": place.free,
            "processes_complete": complete,
            "processes": [
                {"pid": user.pid, "command": user.command, "sqlite_version": user.sqlite}
                for user in users
            ],
        },
    )


def _names(users: tuple[User, ...]) -> str:
    more = f" and {len(users) - NAMED:,} more" if len(users) > NAMED else ""
    return ", ".join(_name(user) for user in users[:NAMED]) + more


def _name(user: User) -> str:
    version = f", SQLite {user.sqlite}" if user.sqlite else ""
    return f"pid {user.pid} ({user.command}{version})"


def _own_sqlite() -> Iterator[Finding]:
    if sqlite.HAS_WAL_RESET_BUG:
        yield _finding(
            "sqlite",
            "warn",
            f"this program runs on SQLite {sqlite.SQLITE_VERSION}, which {_BUG}",
            advice=_BUG_ADVICE,
            data={"sqlite_version": sqlite.SQLITE_VERSION},
        )


def _their_sqlite(users: tuple[User, ...]) -> Iterator[Finding]:
    affected = tuple(user for user in users if user.sqlite and has_wal_reset_bug(user.sqlite))
    if affected:
        verb = "run" if len(affected) > 1 else "runs"
        yield _finding(
            "other-sqlite",
            "warn",
            f"{_names(affected)} {verb} on an SQLite that {_BUG}",
            f"pid {affected[0].pid}",
            _BUG_ADVICE,
            {"pids": [user.pid for user in affected]},
        )
