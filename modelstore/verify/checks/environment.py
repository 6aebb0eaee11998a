"""The environment: our SQLite and that of others, the place, the owners, and who has it open.

Everything is looked at before SQLite opens the database in this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.database import sqlite
from modelstore.database.sqlite import has_wal_reset_bug
from modelstore.finding import Finding
from modelstore.text import human_bytes, listed, plural, process_name
from modelstore.verify.check import NAMED, Check, Run
from modelstore.verify.place import check_ownership, check_place, describe_place
from modelstore.verify.users import users_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.users import User

_BUG = "can lose rows that were committed, when a checkpoint meets a restart of the log"
_BUG_ADVICE = "install SQLite 3.51.3 or newer (sqlite.org/wal.html#walresetbug)"


def _check(run: Run) -> Iterator[Finding]:
    """Yield each risk, then one line of facts."""
    subject = run.subject
    users, unseen = users_of(subject.path, subject.holders)
    problems = [
        *_own_sqlite(),
        *check_place(subject),
        *check_ownership(subject),
        *_their_sqlite(users),
    ]
    yield from problems
    is_sound = all(problem.severity in ("pass", "note") for problem in problems)
    place = describe_place(subject.path)
    nobody = "nobody else " + ("has it open" if unseen is None else "is seen to have it open")
    least = "" if unseen is None else "at least "
    others = (
        f"open in {least}{plural(len(users), 'other process', 'other processes')}: {_names(users)}"
        if users
        else nobody
    )
    free = f", {human_bytes(place.free)} free" if place.free is not None else ""
    yield Finding(
        "environment.facts",
        "pass" if is_sound else "note",
        f"SQLite {sqlite.SQLITE_VERSION}, {place.type or 'unknown file system'}{free}; {others}",
        subject.path,
        None,
        {
            "sqlite_version": sqlite.SQLITE_VERSION,
            "file_system": place.type,
            "mount_point": place.mount_point,
            "free_bytes": place.free,
            "processes_complete": unseen is None,
            "processes_note": unseen,
            "processes": [
                {"pid": user.pid, "command": user.command, "sqlite_version": user.sqlite}
                for user in users
            ],
        },
    )


def _names(users: tuple[User, ...]) -> str:
    return listed([_name(user) for user in users], NAMED)


def _name(user: User) -> str:
    return process_name(user.pid, user.command, *([f"SQLite {user.sqlite}"] if user.sqlite else []))


def _own_sqlite() -> Iterator[Finding]:
    if sqlite.HAS_WAL_RESET_BUG:
        yield Finding(
            "environment.sqlite",
            "warn",
            f"this program runs on SQLite {sqlite.SQLITE_VERSION}, which {_BUG}",
            advice=_BUG_ADVICE,
            data={"sqlite_version": sqlite.SQLITE_VERSION},
        )


def _their_sqlite(users: tuple[User, ...]) -> Iterator[Finding]:
    affected = tuple(user for user in users if user.sqlite and has_wal_reset_bug(user.sqlite))
    if affected:
        verb = "run" if len(affected) > 1 else "runs"
        yield Finding(
            "environment.other-sqlite",
            "warn",
            f"{_names(affected)} {verb} on an SQLite that {_BUG}",
            process_name(affected[0].pid),
            f"in that program, {_BUG_ADVICE}",
            {"pids": [user.pid for user in affected]},
        )


CHECK = Check(
    name="environment",
    title="what the database stands on, and who else uses it",
    order=60,
    raw=_check,
)
