"""Owners and modes that would lock the application out of its database.

The application is taken to run as the owner of the database, with its group; rights that come
from access control lists or capabilities are not seen.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from modelstore.store.access import unwritable
from modelstore.store.filesystem import ownership_warning
from modelstore.verify.finding import Finding, findings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.verify.subject import Subject

_finding = findings_of("environment")

_READ, _WRITE, _ENTER = 4, 2, 1


def check_ownership(subject: Subject) -> Iterator[Finding]:
    """Yield each file that the owner of the database, or this program, cannot use."""
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
        yield _finding(
            "read-only",
            "warn",
            f"mode {stat.S_IMODE(database.st_mode):04o} keeps {who} from writing to the database",
            path,
            "give its owner the right to write, unless it is meant to be read-only",
        )
    for suffix in ("-wal", "-shm"):
        yield from _check_companion(path + suffix, database, who)
    if not _may(directory, database, _WRITE | _ENTER):
        yield _finding(
            "directory",
            "warn",
            f"{who} cannot create a log or a journal in the directory (uid {directory.st_uid}, "
            f"mode {stat.S_IMODE(directory.st_mode):04o})",
            os.path.dirname(path),
            "give the database a directory that its owner may write to",
        )
    blocked = unwritable(path)
    if blocked is not None:
        yield _finding(
            "this-user",
            "warn",
            "this user cannot write there, so that nothing can be folded",
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
        yield _finding(
            "owner",
            "fail",
            f"{who} cannot use {os.path.basename(name)} (uid {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}): the application is locked out",
            name,
            f"give it back: chown {database.st_uid}:{database.st_gid}, chmod "
            f"{stat.S_IMODE(database.st_mode):04o}",
        )
    elif difference is not None:
        yield _finding(
            "mode",
            "warn",
            difference,
            name,
            "give the database, its -wal and its -shm one owner and one mode",
        )


def _may(status: os.stat_result, database: os.stat_result, rights: int) -> bool:
    """Tell whether the owner of the database has rights on a file."""
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
