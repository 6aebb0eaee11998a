"""What a database stands on: its SQLite, its place, its owners, and who else has it open.

All of it is seen before SQLite opens the database in this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.store import sqlite
from modelstore.store.versions import has_wal_reset_bug
from modelstore.text import human_bytes, plural
from modelstore.verify.finding import Finding, findings_of
from modelstore.verify.ownership import check_ownership
from modelstore.verify.place import check_place, describe_place
from modelstore.verify.subject import NAMED
from modelstore.verify.users import User, users_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.subject import Subject

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
