"""Open a database after a raw look at it: to write, or to read in the best way possible."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from modelstore.database import evidence
from modelstore.database.connection import Check, OpenDatabase, Options
from modelstore.database.evidence import forbid_fold
from modelstore.database.files import (
    HeldFiles,
    identity_of,
    make_directories,
    private_copy,
    sync_directory,
    unwritable,
)
from modelstore.database.fold import FoldTotals
from modelstore.database.handle import connect, connect_tuned, set_wal, tune
from modelstore.database.holders import HolderProblem, look_at_holders
from modelstore.database.live_log import LiveLog
from modelstore.database.probe import Probe, probe
from modelstore.database.sqlite import HAS_WAL_RESET_BUG, SQLITE_VERSION, sqlite3
from modelstore.database.sqlite_errors import (
    SQLITE_FULL,
    is_busy,
    is_no_access,
    primary_code,
    translate_sqlite_error,
)
from modelstore.errors import LockedError, RefusedError
from modelstore.text import DEFAULT_TIMEOUT, process_name, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.evidence import Reason
    from modelstore.database.handle import Access, Database
    from modelstore.database.holders import Holders

_MAIN_ALONE = frozenset(
    (evidence.FOREIGN_LOG, evidence.OLDER_LOG, evidence.OVERWRITTEN, HolderProblem.OTHER_DATABASE)
)  # the log at the path is not of the database at the path


class Purpose(Enum):
    """The reason for opening a database. Only CREATE makes a file where there is none.

    Where evidence forbids a fold, READ reads without opening for writing, WRITE and CREATE refuse,
    and FOLD fails: the fold was its task.
    """

    READ = "read"
    FOLD = "fold"
    WRITE = "write"
    CREATE = "create"


def open_database(
    path: str,
    *,
    purpose: Purpose,
    timeout: float = DEFAULT_TIMEOUT,
    fold: bool = True,
    check: Check | None = None,
    known: Holders | None = None,
) -> OpenDatabase:
    """Open a database after a raw look at it; the caller closes it, which folds its log.

    `timeout` is the patience in seconds, for locks and for the fold alike. Without `fold`, no byte
    of the database, or of a log with content, changes. `known` is this command's earlier look at
    the holders. Raises `RefusedError` for a database that
    must not be opened, `LockedError`, and `DamageError`.
    """
    options = Options(timeout=timeout, fold=fold, create=purpose is Purpose.CREATE, check=check)
    found = probe(path, create=options.create, check_main=purpose is Purpose.FOLD, known=known)
    if purpose is Purpose.READ:
        return _open_warily(found, _ways_to_read(found, fold=fold), options)
    if not fold:
        raise RefusedError("a command that writes cannot do without the fold", hint=None)
    if purpose is not Purpose.FOLD:
        found = _with_rollback(found)
    _prepare_to_write(found, purpose)
    open_it = _open_warily if purpose is Purpose.FOLD else _open
    return open_it(found, ("rw",), options)


def _with_rollback(found: Probe) -> Probe:
    """Let a writer go on beside a hot journal of a database that is not in WAL mode, and say so.

    There SQLite's recovery is right: it takes back the transaction that was cut short.
    """
    if not found.has_hot_journal or found.is_wal:
        return found
    text = (
        f"{found.name} was in the middle of a transaction when its writer ended; its journal took "
        "that transaction back"
    )
    return found._replace(journal=None, warnings=(*found.warnings, text))


def _prepare_to_write(found: Probe, purpose: Purpose) -> None:
    """Create a missing file; refuse a database that cannot be written or folded."""
    forbid_fold(found.name, found.reasons, as_refusal=purpose is not Purpose.FOLD)
    if not found.exists:
        _create_file(found)
    blocked = unwritable(found.path)
    if blocked is not None:
        raise RefusedError(
            f"{visible(blocked, 200)} cannot be written by this user"
            + ("" if blocked == found.path else ", so neither can the database"),
            hint="check who owns the database, its -wal, its -shm and its directory, and if their "
            "file system is mounted read-only",
        )


def _create_file(found: Probe) -> None:
    """Create an empty file, and its directory; both outlive a power cut."""
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
            hint="choose another path with --db",
        ) from error


def _ways_to_read(found: Probe, *, fold: bool) -> tuple[Access, ...]:
    """Return the ways to open a database for reading, the best first."""
    reasons = found.reasons
    if reasons:
        return (_way_around(found, reasons),)
    last: Access = "copy" if found.wal_size else "immutable"
    blocked = unwritable(found.path)
    if blocked == found.path:
        # A -wal or -shm that we made would be ours, and shut its owner out of the database.
        return ("ro", last) if found.wal_size is not None and found.shm_size else (last,)
    if not fold and (found.is_wal or found.wal_size) and found.attached is False:
        return (last,)  # SQLite would make a -wal and a -shm, or rebuild the -shm
    if not fold or blocked == found.path + "-wal":
        return ("ro", last)
    # A log and index that are there can be used in a directory that takes no new files.
    return ("rw", "ro", last)


def _way_around(found: Probe, reasons: tuple[Reason, ...]) -> Access:
    """Return the way to read where no SQLite of ours may open the files for writing."""
    codes = evidence.codes(reasons)
    if codes & _MAIN_ALONE:
        return "immutable"
    return "copy" if found.wal_size or evidence.HOT_JOURNAL in codes else "immutable"


def _open_warily(found: Probe, ways: tuple[Access, ...], options: Options) -> OpenDatabase:
    """Open another program's database in rollback mode read-only: it has no log to fold.

    An application without locks may begin a transaction meanwhile. A SQLite that may write takes
    its journal for one that a crash left, and plays it back; we do so in a copy
    (sqlite.org/lockingv3.html#rollback).
    """
    if ways[0] != "rw" or found.is_wal or found.wal_size:
        return _open(found, ways, options)
    opened = _open(found, ("ro", "copy"), options)
    if not opened.is_own:
        return opened
    opened.close()
    return _open(found, ways, options)


def _open(found: Probe, ways: tuple[Access, ...], options: Options) -> OpenDatabase:
    """Open in the first of these ways that works; explain the error of the last."""
    *others, last = ways
    with ExitStack() as stack:
        try:
            held = stack.enter_context(HeldFiles.hold(found.path))
        except FileNotFoundError as error:
            raise _deleted(found) from error
        try:
            for access in others:
                with _another_way_on_no_access():
                    return connected(stack, held, found, access, options)
            return connected(stack, held, found, last, options)
        except sqlite3.Error as error:
            gone = _gone(held, found) or _locked(found, error)
            raise gone or translate_sqlite_error(error, found.path) or error from error


@contextmanager
def _another_way_on_no_access() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if not is_no_access(error):
            raise


def _locked(found: Probe, error: sqlite3.Error) -> LockedError | None:
    """Name the processes that keep a database locked for themselves, if the system tells."""
    if not is_busy(error):
        return None
    owners = [
        holder
        for holder in look_at_holders(found.path, known=found.holders, certain=False).holders
        if holder.locks_database(exclusively=True)
    ]
    if not owners:
        return None
    names = ", ".join(process_name(owner.pid, visible(owner.command, 200)) for owner in owners)
    if any(owner.is_stopped for owner in owners):
        return LockedError(
            f"{found.name} is locked by {names}, which is stopped: waiting will not help",
            hint="let it go on (kill -CONT), or end it",
        )
    return LockedError(
        f"{found.name} is locked by {names}, and time ran out: nothing was written",
        hint="try again, or wait longer with --timeout",
    )


def _gone(held: HeldFiles, found: Probe) -> RefusedError | None:
    """Explain an error of SQLite's by a database that went away meanwhile, if it did."""
    try:
        same = identity_of(os.stat(found.path)) == held.identity
    except OSError:
        same = False
    return None if same else _deleted(found)


def _deleted(found: Probe) -> RefusedError:
    return RefusedError(
        f"{found.name} was deleted or replaced just now", hint="see what cleans up there; try again"
    )


def connected(
    stack: ExitStack, held: HeldFiles, found: Probe, access: Access, options: Options
) -> OpenDatabase:
    """Connect; the result takes over the open files in `stack`. Raises `sqlite3.Error`.

    After an error, `stack` is as it was.
    """
    with ExitStack() as attempt:
        file = found.path
        if access == "copy":
            with_journal = not (found.is_wal or found.wal_size)
            file = attempt.enter_context(private_copy(held, with_journal=with_journal))
        again = partial(connect_tuned, file, access, options.timeout)
        # Before SQLite opens the files: if they are of two databases, its close must leave them.
        is_guarded = access == "rw" and found.is_wal and held.guard()
        db = attempt.enter_context(_closing(connect(file, access)))
        if access == "copy":
            attempt.callback(_discard, file)
        with _leaving_no_log(held, found, is_guarded=is_guarded):
            tune(db, options.timeout)
            if access == "copy":
                db.execute("PRAGMA query_only = ON")
            warnings = _warnings(found, access, fold=options.fold)
            is_own = options.check is not None and options.check(db, found.path)
            if access == "rw" and (is_own or (options.create and _is_blank(db))):
                warnings += _into_wal_mode(db, is_own=is_own)
            totals = None
            if db.journal_mode == "wal" and access in {"rw", "ro"}:
                totals = FoldTotals(attempt.enter_context(LiveLog.follow(db, held, again)))
                if totals.log.database_is_gone():
                    raise _deleted(found)  # SQLite may have its log from beside another one
        if totals is None and is_guarded:
            held.unguard()
        is_guarded = is_guarded or (totals is not None and access == "rw" and held.guard())
        opened = OpenDatabase(
            db,
            found,
            held,
            access=access,
            options=options,
            totals=totals,
            connect_again=again,
            is_guarded=is_guarded,
        )
        stack.push(attempt.pop_all())
    opened.is_own = is_own
    opened.take_over(stack)
    opened.not_folded = _why_nothing_is_folded(found, access)
    opened.warnings += [*opened.not_folded, *warnings]
    return opened


@contextmanager
def _leaving_no_log(held: HeldFiles, found: Probe, *, is_guarded: bool) -> Iterator[None]:
    """Let SQLite delete a log that it made for an attempt that fails; none was there before."""
    try:
        yield
    except BaseException:
        if is_guarded and found.wal_size is None and _gone(held, found) is None:
            held.unguard()
        raise


def _discard(copy: str) -> None:
    """Delete a copy before its connection closes: SQLite does not fold the log of a deleted file.

    That fold would be in vain, as large as the log, and without a sign of life: pysqlite3 closes
    with Python's lock held, so no other thread runs meanwhile.
    """
    with suppress(OSError):  # Windows refuses to delete an open file
        os.unlink(copy)


@contextmanager
def _closing(db: Database) -> Iterator[Database]:
    try:
        yield db
    finally:
        with suppress(sqlite3.Error):
            db.close()


def _into_wal_mode(db: Database, *, is_own: bool) -> list[str]:
    """Put a new database, or one of the caller's own, into WAL mode; return a warning if not."""
    before = db.journal_mode
    if before == "wal":
        return []
    try:
        why = set_wal(db)
    except sqlite3.Error as error:
        if not is_own or primary_code(error) != SQLITE_FULL:
            raise
        why = str(error)  # it can be read in the mode that it has
    if why is None:
        return []
    return [f"WAL mode could not be set ({visible(why, 200)}): the database stays in mode {before}"]


def _is_blank(db: Database) -> bool:
    """Tell whether a database holds nothing: no table or view, and neither of the two marks."""
    marks = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in _MARKS)
    return not (db.table_names() or db.view_names() or any(marks))


_MARKS = ("application_id", "user_version")  # sqlite.org/fileformat.html#application_id


def _why_nothing_is_folded(found: Probe, access: Access) -> tuple[str, ...]:
    what = "the database alone" if access == "immutable" else "a copy"
    return tuple(
        f"nothing is folded, and {what} is read: {reason.text}; {reason.hint}"
        for reason in found.reasons
    )


def _warnings(found: Probe, access: Access, *, fold: bool) -> list[str]:
    warnings = []
    is_told = bool(found.reasons) or not fold
    if access == "copy" and not is_told:
        warnings.append(
            f"{found.name} and its log were read from a private copy, because SQLite cannot use "
            "them where they are"
        )
    elif access == "immutable" and found.is_wal and not is_told:
        warnings.append(
            f"{found.name} was read without locks, because its log cannot be made there"
        )
    if HAS_WAL_RESET_BUG and access == "rw" and found.attached:
        warnings.append(
            f"other processes have {found.name} open, and this program runs on SQLite "
            f"{SQLITE_VERSION}, which can lose rows then (sqlite.org/wal.html#walresetbug): "
            "install a newer SQLite"
        )
    return warnings
