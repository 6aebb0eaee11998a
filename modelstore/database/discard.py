"""Give up the damaged part of a log, or another database's log, after saving both files."""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.database import evidence
from modelstore.database.checkpoint import Checkpoint
from modelstore.database.checkpoint_modes import run_checkpoint
from modelstore.database.connection import Check, Options
from modelstore.database.evidence import forbid_fold
from modelstore.database.files import HeldFiles, save_to, state_of, sync_directory
from modelstore.database.open import connected
from modelstore.database.probe import Probe, probe
from modelstore.database.sqlite import sqlite3
from modelstore.database.sqlite_errors import translate_sqlite_error
from modelstore.errors import RefusedError
from modelstore.text import DEFAULT_TIMEOUT, visible

if TYPE_CHECKING:
    from modelstore.wal.frames import WalScan

_GIVEN_UP = frozenset((evidence.FOREIGN_LOG, evidence.OLDER_LOG, evidence.DAMAGED_LOG))
_SAME_SECOND = 100  # copies of one second that get names of their own


@dataclass(frozen=True, slots=True)
class Discarded:
    """The copies that were saved, and the fate of the log.

    `saved_log` is `saved_database` with ``-wal`` appended, so that SQLite opens the two together.
    `checkpoint` has mode ``none`` if the log was another database's and was removed whole.
    """

    saved_database: str
    saved_log: str
    trouble: str
    dropped_commits: int
    kept_commits: int
    checkpoint: Checkpoint


def discard_damaged(
    path: str, *, timeout: float = DEFAULT_TIMEOUT, check: Check | None = None
) -> Discarded:
    """Save the database and its log beside them, then fold the part of the log that SQLite keeps.

    Removes a log that belongs to another database. Raises `RefusedError` if the log is sound or in
    use, and if the copies cannot be made.
    """
    found = probe(path)
    if found.attached:
        raise RefusedError(
            f"{found.name} is in use: its log cannot be given up under those who use it",
            hint="`modelstore inspect-wal` names them; end them first",
        )
    others = [reason for reason in found.reasons if reason.code not in _GIVEN_UP]
    forbid_fold(found.name, tuple(others))
    log, trouble = found.log, found.why_not_fold
    if log is None or trouble is None:
        raise RefusedError(
            f"the log of {found.name} is sound: there is nothing to discard",
            hint="`modelstore checkpoint` folds it",
        )
    options = Options(timeout=timeout, check=check)
    with ExitStack() as stack:
        held = stack.enter_context(HeldFiles.hold(found.path))
        saved = _save_unchanged(held, found)
        is_foreign = found.foreign is not None or found.older is not None
        checkpoint = _remove_log(found) if is_foreign else _fold_rest(stack, held, found, options)
    return Discarded(
        saved,
        saved + "-wal",
        trouble,
        dropped_commits=log.commit_count if is_foreign else _dropped(log),
        kept_commits=0 if is_foreign else log.commit_count,
        checkpoint=checkpoint,
    )


def fold_older(
    path: str, *, timeout: float = DEFAULT_TIMEOUT, check: Check | None = None
) -> Discarded:
    """Save the database and its log beside them, then fold a log that seems older than it.

    Raises as `discard_damaged` does.
    """
    found = probe(path)
    others = tuple(reason for reason in found.reasons if reason.code != evidence.OLDER_LOG)
    forbid_fold(found.name, others)
    if found.log is None or found.older is None or found.attached:
        raise RefusedError(
            f"nothing speaks against folding the log of {found.name}: there is nothing to confirm",
            hint="leave out --yes",
        )
    with ExitStack() as stack:
        held = stack.enter_context(HeldFiles.hold(found.path))
        saved = _save_unchanged(held, found)
        checkpoint = _fold_rest(stack, held, found, Options(timeout=timeout, check=check))
    return Discarded(saved, saved + "-wal", str(found.older), 0, found.log.commit_count, checkpoint)


def _remove_log(found: Probe) -> Checkpoint:
    """Remove the log of another database: nothing of it is folded."""
    os.unlink(found.path + "-wal")
    sync_directory(os.path.dirname(found.path))
    return Checkpoint(
        mode="none",
        wal_size_before=found.wal_size or 0,
        db_size_before=found.size,
        db_size_after=found.size,
        unseen=found.holders.unseen if found.holders is not None else None,
    )


def _fold_rest(stack: ExitStack, held: HeldFiles, found: Probe, options: Options) -> Checkpoint:
    """Let SQLite recover the log, which drops the damaged part, and fold the rest."""
    rest = found._replace(damaged=False, older=None)
    try:
        opened = connected(stack, held, rest, "rw", options)
    except sqlite3.Error as error:
        raise translate_sqlite_error(error, found.path) or error from error
    with opened:
        return run_checkpoint(opened, "truncate", options.timeout)


def _dropped(log: WalScan) -> int:
    """Count the commits that end with the first invalid frame or later."""
    ends_one = log.fault is None and bool(log.commit_sizes[log.valid])
    return log.later_commits + ends_one


def _save_unchanged(held: HeldFiles, found: Probe) -> str:
    """Save both files; refuse to go on if somebody wrote to them since the first look."""
    before = state_of(found.path)
    try:
        saved = _save(held, found.path)
    except OSError as error:
        raise RefusedError(
            f"{found.name} could not be saved beside itself: {error.strerror}; "
            "nothing was discarded",
            hint="make room, or make the directory writable",
        ) from error
    again = probe(found.path)
    is_new = evidence.codes(again.reasons) - evidence.codes(found.reasons)
    if state_of(found.path) != before or again.attached or is_new:
        raise RefusedError(
            f"{found.name} changed while it was saved; nothing was discarded",
            hint=f"the copies are {visible(saved, 200)} and its -wal; try again",
        )
    return saved


def _save(held: HeldFiles, path: str) -> str:
    """Copy database and log to new names beside them; return the name of the database's copy."""
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
