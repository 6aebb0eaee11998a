"""Giving up the damaged part of a log, or a log that is not the database's, after saving both."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.database.checkpoint import Checkpoint
from modelstore.database.checkpoint_modes import run_checkpoint
from modelstore.database.files import HeldFiles, save_to, state_of, sync_directory
from modelstore.database.open import connected, log_trouble
from modelstore.database.probe import Probe, probe
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import translate_sqlite_error
from modelstore.errors import RefusedError
from modelstore.text import visible

if TYPE_CHECKING:
    from modelstore.database.connection import OpenDatabase
    from modelstore.wal.frames import WalScan

_SAME_SECOND = 100  # copies of one second that are told apart


@dataclass(frozen=True, slots=True)
class Discarded:
    """What was saved, and what became of the log.

    `saved_log` is `saved_database` with ``-wal`` appended, so that SQLite opens the two together.
    The `checkpoint` has mode ``none`` where the log was another database's and was set aside whole.
    """

    saved_database: str
    saved_log: str
    trouble: str
    dropped_commits: int
    kept_commits: int
    checkpoint: Checkpoint


def discard_damaged(path: str, *, timeout: float = 5.0) -> Discarded:
    """Save the database and its log beside them, then fold what SQLite makes of the log.

    A log that belongs to another database is removed instead. Raises `RefusedError` where the log
    is sound, where it is in use, and where the copies cannot be made.
    """
    found = probe(path)
    if found.attached:
        raise RefusedError(
            f"{found.name} is in use: its log cannot be given up under those who use it",
            hint="`modelstore inspect-wal` names them; end them first",
        )
    log = found.log
    if log is None or not found.must_not_fold:
        raise RefusedError(
            f"the log of {found.name} is sound: there is nothing to discard",
            hint="`modelstore checkpoint` folds it",
        )
    held = HeldFiles(found.path)
    opened: OpenDatabase | None = None
    try:
        saved = _save_unchanged(held, found)
        if found.foreign is not None:
            os.unlink(found.path + "-wal")
            sync_directory(os.path.dirname(found.path))
        else:
            opened = connected(held, found, "rw", timeout=timeout)
    except sqlite3.Error as error:
        raise translate_sqlite_error(error, found.path) or error from error
    finally:
        if opened is None:
            held.release()
    checkpoint = Checkpoint(  # of the log of another database nothing is folded
        mode="none",
        wal_size_before=found.wal_size or 0,
        db_size_before=found.size,
        db_size_after=found.size,
    )
    if opened is not None:
        with opened:
            checkpoint = run_checkpoint(opened, "truncate", timeout)
    return Discarded(
        saved,
        saved + "-wal",
        log_trouble(found),
        dropped_commits=log.commit_count if found.foreign is not None else _dropped(log),
        kept_commits=0 if found.foreign is not None else log.commit_count,
        checkpoint=checkpoint,
    )


def _dropped(log: WalScan) -> int:
    """Count the commits that end with the first invalid frame or later."""
    ends_one = log.fault is None and bool(log.commit_sizes[log.valid])
    return log.later_commits + ends_one


def _save_unchanged(held: HeldFiles, found: Probe) -> str:
    """Save both files; refuse to go on where somebody wrote to them since they were looked at."""
    before = state_of(found.path)
    try:
        saved = _save(held, found.path)
    except OSError as error:
        raise RefusedError(
            f"{found.name} could not be saved beside itself: {error.strerror}; "
            "nothing was discarded",
            hint="make room, or make the directory writable",
        ) from error
    if state_of(found.path) != before or probe(found.path).attached:
        raise RefusedError(
            f"{found.name} changed while it was saved; nothing was discarded",
            hint=f"the copies are {visible(saved, 200)} and its -wal; try again",
        )
    return saved


def _save(held: HeldFiles, path: str) -> str:
    """Copy database and log to new names beside them; return the database's."""
    status = os.fstat(held.db)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    wal = held.open("-wal")
    if wal is None:
        raise FileNotFoundError(errno.ENOENT, "the -wal is gone")
    for number in range(1, _SAME_SECOND):
        name = f"{path}.damaged-{stamp}" + (f"-{number}" if number > 1 else "")
        try:
            save_to(held.db, name, status)
        except FileExistsError:
            continue
        try:
            save_to(wal, name + "-wal", status)
        except FileExistsError:
            os.unlink(name)
            continue
        except BaseException:
            os.unlink(name)
            raise
        held.let_go(wal)
        sync_directory(os.path.dirname(path))
        return name
    raise FileExistsError(errno.EEXIST, "too many copies of this second")
