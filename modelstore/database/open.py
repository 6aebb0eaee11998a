"""How a database is opened: to write, or to read in the best way that its files allow."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from modelstore.catalogue.schema import Ownership, check_readable
from modelstore.database.access import Access, PrivateCopy, connect, unwritable, ways_to_read
from modelstore.database.connection import OpenDatabase, set_wal, tune
from modelstore.database.files import HeldFiles, identity_of, make_directories, sync_directory
from modelstore.database.probe import Probe, probe
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, SQLITE_VERSION, sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_FULL,
    is_no_access,
    primary_code,
    translate_sqlite_error,
)
from modelstore.errors import RefusedError
from modelstore.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSPECT = "look first: `modelstore inspect-wal`; then `modelstore checkpoint --discard-damaged`"


def open_to_write(path: str, *, timeout: float, create: bool) -> OpenDatabase:
    """Open read-write, or refuse; see `modelstore.database.connection.open_database`."""
    found = probe(path, create=create)
    if found.must_not_fold:
        raise RefusedError(
            f"{found.name}-wal must not be folded: {log_trouble(found)}", hint=_INSPECT
        )
    if not found.exists:
        _create_file(found)
    blocked = unwritable(found.path)
    if blocked is not None:
        raise RefusedError(
            f"{visible(blocked, 200)} cannot be written by this user, so neither can the database",
            hint="check who owns the database, its -wal, its -shm and its directory",
        )
    held = _hold(found)
    try:
        return connected(held, found, "rw", timeout=timeout, create=create)
    except sqlite3.Error as error:
        gone = _gone(held, found)
        held.release()
        raise gone or translate_sqlite_error(error, found.path) or error from error
    except BaseException:
        held.release()
        raise


def open_to_read(path: str, *, timeout: float, fold: bool) -> OpenDatabase:
    """Open for reading in the first way that works."""
    found = probe(path)
    held = _hold(found)
    *others, last = ways_to_read(found, fold=fold)
    try:
        for access in others:
            with _another_way_on_no_access():
                return connected(held, found, access, timeout=timeout, fold=fold)
        return connected(held, found, last, timeout=timeout, fold=fold)
    except sqlite3.Error as error:
        gone = _gone(held, found)
        held.release()
        raise gone or translate_sqlite_error(error, found.path) or error from error
    except BaseException:
        held.release()
        raise


def _hold(found: Probe) -> HeldFiles:
    try:
        return HeldFiles(found.path)
    except FileNotFoundError as error:
        raise _deleted(found) from error


def _gone(held: HeldFiles, found: Probe) -> RefusedError | None:
    """Return what SQLite's error comes from, where the database went away under it."""
    try:
        same = identity_of(os.stat(found.path)) == held.identity
    except OSError:
        same = False
    return None if same else _deleted(found)


def _deleted(found: Probe) -> RefusedError:
    return RefusedError(
        f"{found.name} was deleted or replaced just now", hint="see what cleans up there; try again"
    )


@contextmanager
def _another_way_on_no_access() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if not is_no_access(error):
            raise


def connected(
    held: HeldFiles,
    found: Probe,
    access: Access,
    *,
    timeout: float,
    create: bool = False,
    fold: bool = True,
) -> OpenDatabase:
    """Connect, and close again whatever was opened if that fails."""
    copy = PrivateCopy(held) if access == "copy" else None
    conn: sqlite3.Connection | None = None
    try:
        conn = connect(copy.path if copy is not None else found.path, access)
        tune(conn, timeout)
        if copy is not None:
            conn.execute("PRAGMA query_only = ON")
        warnings = list(_warnings(found, access))
        owner = check_readable(conn, found.path)
        if access == "rw" and (owner == "catalogue" or (create and owner == "empty")):
            warnings += _use_wal(conn, owner)
        opened = OpenDatabase(
            conn,
            held=held,
            probe=found,
            access=access,
            timeout=timeout,
            may_fold=fold,
            copy=copy,
        )
        opened.warnings += warnings
        opened.follow_log()
    except BaseException:
        if conn is not None:
            with suppress(sqlite3.Error):
                conn.close()
        if copy is not None:
            copy.remove()
        raise
    return opened


def _use_wal(conn: sqlite3.Connection, owner: Ownership) -> list[str]:
    (mode,) = conn.execute("PRAGMA journal_mode").fetchone()
    try:
        why = set_wal(conn) if mode != "wal" else None
    except sqlite3.Error as error:
        if owner == "empty" or primary_code(error) != SQLITE_FULL:
            raise
        why = str(error)  # it can be read as it is
    if why is None:
        return []
    return [f"WAL mode could not be set ({visible(why, 200)}): the database stays in mode {mode}"]


def _warnings(found: Probe, access: Access) -> list[str]:
    warnings = []
    if found.must_not_fold:
        what = "the database alone" if found.foreign else "a copy"
        warnings.append(
            f"{found.name}-wal is not folded, {what} is read: {log_trouble(found)}; " + _INSPECT
        )
    elif access == "copy":
        warnings.append(
            f"{found.name} and its log were read from a private copy, for SQLite cannot use them "
            "where they are"
        )
    elif access == "immutable" and found.is_wal:
        warnings.append(f"{found.name} was read without locks, for its log cannot be made there")
    if HAS_WAL_RESET_BUG and access == "rw" and found.attached:
        warnings.append(
            f"other processes have {found.name} open, and this program runs on SQLite "
            f"{SQLITE_VERSION}, which can lose rows then (sqlite.org/wal.html#walresetbug): "
            "install a newer SQLite"
        )
    return warnings


def log_trouble(found: Probe) -> str:
    """Say what is wrong with a log that must not be folded."""
    if found.foreign is not None:
        return f"it does not belong to this database: {found.foreign}"
    log = found.log
    if log is None:
        return "it is damaged"
    if log.fault is not None:
        return f"{log.fault.value}, and SQLite would drop all of it ({log.later_commits:,} commits)"
    return (
        f"frame {log.valid + 1:,} is damaged, and SQLite would drop it and the "
        f"{log.later_commits:,} commits that follow"
    )


def _create_file(found: Probe) -> None:
    """Create an empty file, and its directory, so that both outlive a power cut."""
    directory = os.path.dirname(found.path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    try:
        make_directories(directory)
        with suppress(FileExistsError):
            os.close(os.open(found.path, flags, 0o644))
        sync_directory(directory)
    except OSError as error:
        raise RefusedError(
            f"{found.name} cannot be created: {error.strerror}",
            hint="choose another place with --db",
        ) from error
