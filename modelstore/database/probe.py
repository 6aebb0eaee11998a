"""A raw look at a database and its log before SQLite comes near them.

Merely opening them can destroy data: SQLite deletes a -wal beside an empty database, overwrites
a database from a -wal of another page size, and drops the rest of a damaged log in silence.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from modelstore.database import evidence
from modelstore.database.evidence import Reason, damage_of, holder_reasons, unseen_reason
from modelstore.database.file_kinds import describe
from modelstore.database.files import KEEPS_DESCRIPTORS, HeldFiles, when_still
from modelstore.database.filesystem import ownership_warning, placement_warnings
from modelstore.database.holders import look_at_holders
from modelstore.errors import DamageError, RefusedError
from modelstore.text import listed, plural, process_name, visible
from modelstore.wal.files import read_at, real_path, reason_of, refusing_to_read
from modelstore.wal.format import WAL_HEADER_SIZE, DatabaseHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.database.holders import Holders
    from modelstore.database.older_log import OlderLog
    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex
    from modelstore.wal.journal import Journal

SQLITE_MAGIC = b"SQLite format 3\0"

NEWEST_SCHEMA_FORMAT = 4  # sqlite.org/fileformat2.html#schemaformat

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Probe(NamedTuple):
    """The files at a path, as a raw look shows them. Sizes are bytes; None for an absent file."""

    path: str  # real
    exists: bool = True
    size: int = 0
    header: DatabaseHeader | None = None  # None for a database that is still empty
    wal_size: int | None = None
    shm_size: int | None = None
    attached: bool | None = None  # a process has the log open; None if unknown
    wal_index: WalIndex | None = None  # in the -shm; counts only while a process is attached
    log: WalScan | None = None  # only if SQLite would have to recover the log
    damaged: bool = False  # SQLite would silently drop commits of the log
    foreign: str | None = None  # why the log cannot belong to this database
    older: OlderLog | None = None  # the log seems to be from before the database was restored
    malformed: str | None = None  # what is wrong with the database, with its log too
    is_whole_checked: bool = False  # every page was looked at
    log_replaced: bool = False  # the log contradicts the index of those who are attached
    overwritten: str | None = None  # why the database is not the one whose log is in use
    unseen: str | None = None  # a process that uses another index, and shows no files
    journal: Journal | None = None
    holders: Holders | None = None
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path, safe to show."""
        return visible(self.path, 200)

    @property
    def is_wal(self) -> bool:
        """True if the header of the database says WAL mode."""
        return self.header is not None and self.header.is_wal

    @property
    def is_judged(self) -> bool:
        """True if something is wrong with the files that would be right if they were in use."""
        judgements = (self.foreign, self.older, self.malformed, self.unseen)
        return self.damaged or any(one is not None for one in judgements)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The evidence against folding the log, the gravest first; empty where it may be folded.

        Everything that opens, folds or unlinks a log asks here, so a new kind of evidence belongs
        here too.
        """
        by_holders = holder_reasons(self.holders) if self.holders is not None else ()
        return by_holders + tuple(self._file_reasons())

    def _file_reasons(self) -> Iterator[Reason]:
        if self.log_replaced and not (self.holders is not None and self.holders.troubled):
            yield Reason(evidence.LOG_REPLACED, _REPLACED, self._keep_running)
        if self.overwritten is not None:
            text = f"the database may have been overwritten in use: {self.overwritten}"
            yield Reason(evidence.OVERWRITTEN, text + self._users(), self._keep_running)
        if self.unseen is not None:
            yield unseen_reason(self.unseen)
        if self.has_hot_journal:
            yield self._hot_journal()
        if self.foreign is not None:
            text = f"the log does not belong to this database: {self.foreign}"
            yield Reason(evidence.FOREIGN_LOG, text, self._discard_hint)
        elif self.older is not None:
            yield Reason(evidence.OLDER_LOG, str(self.older), self._put_aside())
        if self.damaged and self.log is not None:
            yield Reason(evidence.DAMAGED_LOG, damage_of(self.log), self._discard_hint)
        if self.malformed is not None:
            text = f"the database is malformed, with its log too: {self.malformed}"
            yield Reason(evidence.MALFORMED, text, f"`modelstore recover {self.name}`")

    @property
    def has_hot_journal(self) -> bool:
        """True if SQLite would play a rollback journal back into the database.

        One that begins with an empty database has nothing to overwrite: a first import was killed.
        """
        if self.journal is None or not self.journal.is_hot:
            return False
        page_size = self.header.page_size if self.header is not None else 0
        return bool(self.wal_size) or self.journal.pages_before > 0 or self.size > page_size

    def _hot_journal(self) -> Reason:
        if not self.is_wal:
            text = (
                "a hot rollback journal lies beside it: a transaction was cut short, and the next "
                "opening for writing takes it back"
            )
            hint = (
                "keep the journal; open the database with its own program, or sqlite3, to do so; "
                "but put the journal aside first if the database was restored from a backup since: "
                f"mv {self.name}-journal {self.name}-journal.old"
            )
            return Reason(evidence.HOT_JOURNAL, text, hint)
        text = (
            "a hot rollback journal lies beside it, but it is in WAL mode: whoever opens it writes "
            "old pages over it"
        )
        hint = f"move {self.name}-journal away if it is left over; keep copies of all files first"
        return Reason(evidence.HOT_JOURNAL, text, hint)

    def _users(self) -> str:
        users = self.holders.users if self.holders is not None else ()
        names = [process_name(user.pid, visible(user.command, 200)) for user in users]
        return f" (in use by {listed(names, _NAMED)})" if names else ""

    def _put_aside(self) -> str:
        return (
            f"if the database is right, put the log aside: mv {self.name}-wal {self.name}-wal.old; "
            "if the log is right: `modelstore checkpoint --yes`, which saves copies first"
        )

    @property
    def _discard_hint(self) -> str:
        return (
            f"`modelstore recover {self.name}` shows what can be saved; then "
            f"`modelstore checkpoint {self.name} --discard-damaged` gives up the rest of the log, "
            "after copies"
        )

    @property
    def _keep_running(self) -> str:
        return (
            "keep the processes that have it open running: they alone may see all its rows; "
            f"`modelstore recover {self.name} --into NEW.db` saves them"
        )

    @property
    def why_not_fold(self) -> str | None:
        """The gravest reason against folding the log; None where it may be folded."""
        reasons = self.reasons
        return reasons[0].text if reasons else None


_NAMED = 5  # processes in one sentence
_REPLACED = "the log was deleted or replaced while processes have it open"


def probe(
    path: str, *, create: bool = False, check_main: bool = False, known: Holders | None = None
) -> Probe:
    """Look at a database and at those who have it open, without SQLite, and change nothing.

    Raises `RefusedError` for a database that must not be opened, and `DamageError` for one that was
    deleted while processes have it open. With `create`, a missing file is no error. With
    `check_main`, the main file is checked without a log too, as far as 3,000 pages go. `known` is
    this command's earlier look at the holders.
    """
    real = real_path(path)
    name = visible(real, 200)
    holders = look_at_holders(real, known=known)
    try:
        status = os.stat(real)
    except FileNotFoundError:
        return _absent(real, name, holders, create=create)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"cannot look at {name}: {reason_of(error)}",
            hint="check the path, and who may enter its directory",
        ) from error
    _require_regular(status, name)
    with ExitStack() as stack:
        try:
            held = stack.enter_context(HeldFiles.hold(real))
        except FileNotFoundError:
            return _absent(real, name, holders, create=create)
        with refusing_to_read(real):
            found = _look(held, name, holders)
            return _with_main_checked(held, found) if check_main else found


def _with_main_checked(held: HeldFiles, found: Probe) -> Probe:
    """Check a main file that no log changes; one in use only by way of a copy, if it is small."""
    header = found.header
    if header is None or found.log is not None or found.reasons:
        return found
    if found.attached is not False:
        return _with_copy_tried(held, found)
    from modelstore.database.foreign_log import check_main

    problem, is_whole = check_main(header, held.db)
    return found._replace(malformed=problem, is_whole_checked=is_whole)


def _with_copy_tried(held: HeldFiles, found: Probe) -> Probe:
    """Try a database in use together with its log; it is malformed if two copies are."""
    from modelstore.database.trial import SMALL, try_log

    if not found.is_wal or found.size + (found.wal_size or 0) > SMALL:
        return found
    both = try_log(held).both and try_log(held).both
    return found._replace(malformed=both)


def _absent(real: str, name: str, holders: Holders, *, create: bool) -> Probe:
    if holders.users:
        raise _deleted_in_use(name, holders)
    if _size(real + "-wal"):
        raise RefusedError(
            f"{name} is missing, but its log {name}-wal is there",
            hint=f"`modelstore recover {name}` reads the log; SQLite would delete it",
        )
    if not create:
        raise RefusedError(
            f"{name} does not exist", hint="check the path; only `import` creates a database"
        )
    return Probe(path=real, exists=False, holders=holders, warnings=placement_warnings(real))


def _deleted_in_use(name: str, holders: Holders) -> DamageError:
    reasons = holder_reasons(holders)
    if reasons:
        return DamageError(f"{name} is missing: {reasons[0].text}", hint=reasons[0].hint)
    user = holders.users[0]
    saves = f"`modelstore recover {name} --into NEW.db` saves what it has"
    return DamageError(
        f"{name} is missing: {process_name(user.pid, visible(user.command, 200))} has its log open",
        hint=f"keep pid {user.pid} running; {saves}",
    )


def _size(path: str) -> int | None:
    """Return the size of a file beside the database; None if it is absent."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefusedError(f"cannot look at {visible(path, 200)}: {reason_of(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(
            f"{visible(path, 200)} is {_kind(status)}, where SQLite keeps a file of the database",
            hint="move it out of the way, and find out who put it there",
        )
    return status.st_size


def _require_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(
            f"{name} is {_kind(status)}, not a database", hint="name the database file itself"
        )


def _kind(status: os.stat_result) -> str:
    return next((kind for test, kind in _KINDS if test(status.st_mode)), "not a regular file")


def _journal(path: str, held: HeldFiles) -> Journal | None:
    """Return the rollback journal beside the database, if there is one."""
    if not os.path.lexists(path + "-journal"):
        return None
    from modelstore.wal.journal import read_journal

    return read_journal(path, held.db)


def _look(held: HeldFiles, name: str, holders: Holders) -> Probe:
    """Look at files that stand still; those that never do are in use, and nothing is judged."""
    found, is_still = when_still(
        held.path, lambda: _look_once(held, name, holders), lambda found: not found.is_judged
    )
    if is_still:
        return found
    return found._replace(
        log=None, damaged=False, foreign=None, older=None, malformed=None, attached=True
    )


def _look_once(held: HeldFiles, name: str, holders: Holders) -> Probe:
    """Read the headers, and the log if SQLite would recover it. Raises as `probe` does."""
    path = held.path
    status = os.fstat(held.db)
    wal_size, shm_size = _size(path + "-wal"), _size(path + "-shm")
    if status.st_size == 0 and wal_size:
        raise RefusedError(
            f"{name} is empty, but its log {name}-wal is not: SQLite would delete the log",
            hint=f"`modelstore recover {name}` reads the log; keep it",
        )
    header = _read_header(held, name) if status.st_size else None
    found = Probe(
        path=path,
        size=status.st_size,
        header=header,
        wal_size=wal_size,
        shm_size=shm_size,
        journal=_journal(path, held),
        holders=holders,
    )
    found = found._replace(warnings=_warnings(found, status))
    found = _look_for_the_unseen(held, _look_at_index(held, found, name))
    if wal_size and header is not None:
        found = _look_at_log(held, found, name)
    return found


def _read_header(held: HeldFiles, name: str) -> DatabaseHeader:
    head = read_at(held.db, 512, 0)
    if not head.startswith(SQLITE_MAGIC):
        what, hint = describe(head)
        raise RefusedError(
            f"{name} is not an SQLite database: {what}", hint=_recover_hint(held, name) or hint
        )
    try:
        header = DatabaseHeader.parse(head)
    except RefusedError as error:
        hint = _recover_hint(held, name) or "restore it from a backup"
        raise RefusedError(f"{name} is {error.message}", hint=hint) from error
    newest = max(header.read_version, header.write_version)
    if newest > 2 or header.schema_format > NEWEST_SCHEMA_FORMAT:
        raise RefusedError(
            f"{name} was written by a newer SQLite (file format {newest}, "
            f"schema format {header.schema_format})",
            hint="use a newer SQLite, or restore it from a backup if this is damage",
        )
    return header


def _recover_hint(held: HeldFiles, name: str) -> str | None:
    """Return the way out where a log may hold the rows that the main file lacks."""
    if not _size(held.path + "-wal"):
        return None
    return f"its log may hold what it lacks: `modelstore recover {name}`; keep both files"


def _warnings(found: Probe, database: os.stat_result) -> tuple[str, ...]:
    warnings = list(placement_warnings(found.path))
    for suffix in ("-wal", "-shm"):
        try:
            other = os.stat(found.path + suffix)
        except OSError:
            continue
        text = ownership_warning(visible(found.path, 200) + suffix, database, other)
        if text is not None:
            warnings.append(text + ": a program that shares the database may be unable to open it")
    return tuple(warnings)


def _look_at_index(held: HeldFiles, found: Probe, name: str) -> Probe:
    """Read the -shm: find out who is attached, and whether a deleted -wal took frames along."""
    if not KEEPS_DESCRIPTORS:
        return found  # Windows does not let us read bytes of the -shm that SQLite has locked
    shm = held.open("-shm") if found.shm_size is not None else None
    if shm is None:
        return found._replace(attached=False)
    # Imported late: a `list` of a folded database needs neither locks nor a scan of the log.
    from modelstore.database.foreign_log import log_is_gone, why_overwritten
    from modelstore.wal.index import read_index
    from modelstore.wal.locks import read_locks

    report = read_locks(shm)
    users = bool(report.attached)
    index = read_index(shm)
    known = users or sys.platform.startswith("linux")  # other systems do not tell
    found = found._replace(attached=users if known else None, wal_index=index)
    if users and log_is_gone(held, shm):
        return found._replace(log_replaced=True)
    if users and found.is_wal:
        found = found._replace(overwritten=why_overwritten(held, shm))
    if index is not None and index.is_settled and index.pending and not (users or found.wal_size):
        text = (
            f"the -shm of {name}, which no process holds, counts {plural(index.pending, 'frame')} "
            "that no checkpoint had folded, and the -wal has none of them: look for it if "
            "something deleted it; after a power cut they may all be in the main file"
        )
        return found._replace(warnings=(*found.warnings, text))
    return found


def _look_for_the_unseen(held: HeldFiles, found: Probe) -> Probe:
    """Ask the locks where the processes do not show their files."""
    holders = found.holders
    if holders is None or holders.complete or not found.is_wal or not held.is_locked():
        return found
    from modelstore.database.foreign_log import unseen_user

    return found._replace(unseen=unseen_user(held, [one.pid for one in holders.holders]))


def _look_at_log(held: HeldFiles, found: Probe, name: str) -> Probe:
    """Check the header of the log, and the whole log if SQLite would recover it."""
    from modelstore.database.foreign_log import judge_log
    from modelstore.database.trial import SMALL, try_log
    from modelstore.wal.format import WalFault, WalHeader
    from modelstore.wal.scan import scan_wal

    wal = held.open("-wal")
    if wal is None:
        return found._replace(wal_size=None)
    raw = read_at(wal, WAL_HEADER_SIZE, 0)
    if len(raw) < WAL_HEADER_SIZE:
        return found  # SQLite treats it as empty
    header = WalHeader.unpack(raw)
    if header.fault is WalFault.NEWER_VERSION:
        raise RefusedError(
            f"{name}-wal was written by a newer SQLite (log version {header.version})",
            hint="use a newer SQLite, or inspect the log first: `modelstore inspect-wal`",
        )
    page_size = found.header.page_size if found.header else header.page_size
    if header.fault is None and header.page_size != page_size:
        users = holder_reasons(found.holders) if found.holders is not None else ()
        raise RefusedError(
            f"{name}-wal has pages of {header.page_size} bytes, the database has {page_size}: "
            "it belongs to another database, and SQLite would overwrite this one with it"
            + "".join(f"; {reason.text}" for reason in users),
            hint=users[0].hint
            if users
            else "move the -wal away, or bring back the database that it belongs to",
        )
    if found.attached or found.log_replaced:
        return found
    log = scan_wal(wal)
    verdict = judge_log(found.header, held.db, log, wal)
    if log.max_frame and verdict.fits and found.size + (found.wal_size or 0) <= SMALL:
        trial = try_log(held)
        if trial.both is not None and trial.alone is not None:
            verdict = verdict._replace(malformed=trial.both)
        elif trial.both is not None:
            verdict = verdict._replace(foreign=f"with it the database is malformed: {trial.both}")
    held.let_go(wal)
    # If the log changes, a process is attached by now, and SQLite will not recover it.
    # The index of a power cut may say anything, so at most the very last commit is left over.
    is_last = log.later_commits == 1 and log.damage_end == log.torn_end
    is_left_over = is_last and log.ends_at(found.wal_index)
    damaged = log.is_damaged and not is_left_over and not log.changed_while_reading
    return found._replace(
        log=log,
        damaged=damaged,
        foreign=verdict.foreign,
        older=verdict.older,
        malformed=verdict.malformed,
        is_whole_checked=verdict.is_whole_checked,
    )
