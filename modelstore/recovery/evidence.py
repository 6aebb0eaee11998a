"""The evidence: every file that may hold rows of a database, opened to be read and nothing else.

No file is opened by SQLite or written. Files that living processes hold though their names are gone
are read out of the kernel's hands: ``/proc/PID/fd/N`` opens them
(https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html).
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from modelstore.database.files import copy_to, sync_directory
from modelstore.database.holders import Role, look_at_holders
from modelstore.errors import RefusedError
from modelstore.recovery.writer import require_room
from modelstore.text import human_bytes, plural, process_name, visible
from modelstore.wal.files import (
    NotRegularError,
    open_or_refuse,
    open_regular,
    read_at,
    real_path,
)
from modelstore.wal.format import DATABASE_MAGIC, WAL_MAGIC
from modelstore.wal.index import read_index
from modelstore.wal.inspection import split_path
from modelstore.wal.journal import read_journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelstore.database.holders import Holder, Holders, OpenFile

_MAX_HELD = 64  # deleted files that are taken into account
_ATTEMPTS = 5
_COMMAND = 60  # characters of a process's command in a sentence


class Origin(Enum):
    """The way in which a file was found; the value is the word in reports."""

    PATH = "path"
    HELD = "held"  # a living process has it open, and its name is gone or leads elsewhere
    GIVEN = "given"  # --wal
    COPY = "copy"  # --also


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """A database or a log that is open at `fd`. `name` is how people call it, raw outside text.

    `mode` and `owner`, a user and a group, are those of the file as it was found.
    """

    fd: int
    name: str
    path: str
    origin: Origin
    pid: int | None = None
    identity: tuple[int, int] = (0, 0)
    mode: int = 0o600
    owner: tuple[int, int] = (-1, -1)

    @property
    def size(self) -> int:
        """Bytes of the file now."""
        return os.fstat(self.fd).st_size


@dataclass(frozen=True, slots=True)
class Pair:
    """A database and a log that were used together; either may be missing.

    `journal` is the rollback journal of a transaction that never ended.
    `raced` is True if the database was written while the log was read, in every attempt.
    """

    main: EvidenceFile | None
    log: EvidenceFile | None
    raced: bool = False
    journal: EvidenceFile | None = None

    @property
    def is_held(self) -> bool:
        """True if a living process uses this log or this database under no name."""
        return any(f is not None and f.origin is Origin.HELD for f in (self.main, self.log))


@dataclass(frozen=True, slots=True)
class Evidence:
    """All files of one database, as pairs; the notes say what could not be read.

    `held` are sentences on the processes that hold files without their names. `hidden` says that
    no other log was found and some processes could not be looked at. `gone` says that the log is
    gone.
    """

    path: str
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()
    hidden: str | None = None
    gone: str | None = None
    held: tuple[str, ...] = ()
    saved_to: str | None = None
    saved: tuple[str, ...] = ()

    @property
    def is_raced(self) -> bool:
        """True if some file changed during every attempt to read it."""
        return any(pair.raced for pair in self.pairs)


@dataclass(slots=True)
class _Search:
    """The files found so far; each inode is opened once."""

    stack: ExitStack
    notes: list[str] = field(default_factory=list)
    hidden: str | None = None
    gone: str | None = None
    held: list[str] = field(default_factory=list)
    opened: dict[tuple[int, int], EvidenceFile] = field(default_factory=dict)

    def open(
        self, path: str, origin: Origin, name: str = "", pid: int | None = None
    ) -> EvidenceFile | None:
        """Open a file that may be absent; a file that cannot be read becomes a note."""
        label = name or visible(os.path.basename(path), 200)
        try:
            is_held = origin is Origin.HELD
            fd = open_regular(path) if is_held else open_or_refuse(path)
        except FileNotFoundError:
            return None
        except (NotRegularError, OSError) as error:
            self.notes.append(f"{label} cannot be read: {error}")
            return None
        except RefusedError as error:
            self.notes.append(error.message)
            return None
        self.stack.callback(os.close, fd)
        status = os.fstat(fd)
        if is_held:
            adjective = "" if status.st_nlink else "deleted "
            label = f"the {adjective}{name} that pid {pid} holds"
        identity = (status.st_dev, status.st_ino)
        owner = status.st_uid, status.st_gid
        found = EvidenceFile(fd, label, path, origin, pid, identity, status.st_mode, owner)
        return self.opened.setdefault(identity, found)

    def open_held(self, path: str, noun: str, pid: int) -> EvidenceFile | None:
        """Open the file behind a descriptor of process `pid`."""
        return self.open(path, Origin.HELD, noun, pid)


def _split(path: str) -> tuple[str, str]:
    """Return the paths of the database and its log; `path` may be either, with a damaged header."""
    if path.endswith("-wal") and not os.path.lexists(path + "-wal"):
        return real_path(path[:-4]), path
    database, log = split_path(path)
    return os.path.realpath(database), log


@contextmanager
def gather(
    path: str,
    *,
    logs: Sequence[str] = (),
    copies: Sequence[str] = (),
    save_to: str | None = None,
) -> Iterator[Evidence]:
    """Open all evidence for the database, or the log, at `path`.

    `logs` are logs found elsewhere, `copies` other copies of the database. With `save_to`, a
    directory that does not exist yet, files without a name are copied into it first: the process
    that holds them may end at any moment. Raises `RefusedError` if nothing can be read at all.
    """
    database, log_path = _split(path)
    with ExitStack() as stack:
        search = _Search(stack)
        pairs = _pairs_of(search, database, log_path, logs, copies)
        for name in (*logs, *copies):
            if not os.path.exists(name):
                raise RefusedError(
                    f"{visible(name, 200)} does not exist", hint="check the path of this option"
                )
        _refuse_confused(logs, copies)
        if not pairs:
            raise RefusedError(
                search.notes[0]
                if search.notes
                else f"nothing is left to recover: {visible(database, 200)} "
                f"{'is empty' if os.path.exists(database) else 'does not exist'}, no log beside it "
                "holds anything, and no process has either open",
                hint="name other copies with --also FILE, and logs found elsewhere with --wal FILE",
            )
        saved: tuple[str, ...] = ()
        if save_to is not None and any(pair.is_held for pair in pairs):
            pairs, saved = _save_held(search, pairs, save_to)
        notes = tuple(search.notes)
        place = save_to if saved else None
        held = tuple(search.held)
        yield Evidence(
            database, tuple(pairs), notes, search.hidden, search.gone, held, place, saved
        )


def _refuse_confused(logs: Sequence[str], copies: Sequence[str]) -> None:
    """Raise `RefusedError` for a database that is named as a log, or a log named as a database."""
    for name in logs:
        if _start_of(name, len(DATABASE_MAGIC)) == DATABASE_MAGIC:
            raise RefusedError(
                f"{visible(name, 200)} is a database, not a log",
                hint="name another copy of the database with --also FILE",
            )
    for name in copies:
        if int.from_bytes(_start_of(name, 4), "big") & ~1 == WAL_MAGIC:
            raise RefusedError(
                f"{visible(name, 200)} is a log, not a database",
                hint="name a log that was found elsewhere with --wal FILE",
            )


def _place(file: EvidenceFile) -> str:
    """Return where a held file is now, if it has a name."""
    with suppress(OSError):
        if os.fstat(file.fd).st_nlink:
            return f" that is now {visible(os.readlink(file.path), 200)}"
    return ""


def _start_of(path: str, size: int) -> bytes:
    with suppress(OSError, NotRegularError):
        fd = open_regular(path)
        try:
            return read_at(fd, size, 0)
        finally:
            os.close(fd)
    return b""


def _pairs_of(
    search: _Search, database: str, log_path: str, logs: Sequence[str], copies: Sequence[str]
) -> list[Pair]:
    main = search.open(database, Origin.PATH)
    journal = _journal(search, database, Origin.PATH)
    beside = search.open(log_path, Origin.PATH)
    pairs = []
    holders = look_at_holders(database, certain=False)
    for held in _held_pairs(holders):
        main_of = search.open_held(held.main, "database", held.pid) if held.main else main
        log_of = search.open_held(held.log, "log", held.pid) if held.log else None
        if (main_of, log_of) != (main, beside):
            its_journal = journal if main_of is main else None
            pairs.append(Pair(main_of, log_of, journal=its_journal))
            files = [file for file in (main_of, log_of) if file and file.origin is Origin.HELD]
            search.held += [
                f"{process_name(held.pid, visible(held.command, _COMMAND))} uses "
                f"{file.name.rpartition(' that ')[0]}{_place(file)}: {human_bytes(file.size)}"
                for file in files
            ]
    for name in logs:
        found = search.open(name, Origin.GIVEN)
        if found is not None:
            pairs.append(Pair(main, found, journal=journal))
    pairs.append(Pair(main, beside, journal=journal))
    if not _size(beside) and not holders.users:
        search.gone = _gone_frames(database)
    if not (holders.complete or search.held or logs):
        search.hidden = holders.unseen
    for name in copies:
        found = search.open(name, Origin.COPY)
        if found is not None:
            log = search.open(name + "-wal", Origin.COPY)
            pairs.append(Pair(found, log, journal=_journal(search, name, Origin.COPY)))
    unique = list(dict.fromkeys(pairs))
    return [pair for pair in unique if _size(pair.main) or _size(pair.log)]


def _gone_frames(database: str) -> str | None:
    """Return a sentence on the frames that the -shm of a database counts, if it does."""
    with suppress(OSError, NotRegularError):
        fd = open_regular(database + "-shm")
        try:
            index = read_index(fd)
        finally:
            os.close(fd)
        if index is not None and index.is_settled and index.pending:
            name = visible(os.path.basename(database), 200)
            return (
                f"{name}-shm counts {plural(index.pending, 'frame')} that are not here: after a "
                f"power cut {name} may have them; if not, look for {name}-wal (trash, backup, "
                "container) and name it with --wal FILE"
            )
    return None


def _journal(search: _Search, database: str, origin: Origin) -> EvidenceFile | None:
    """Return the journal of a database unless it is stale: its transaction was committed then."""
    found = read_journal(os.path.realpath(database))
    if found is None or found.is_stale or not found.pages_before:
        return None
    return search.open(found.path, origin)


def _size(file: EvidenceFile | None) -> int:
    return 0 if file is None else file.size


def _save_held(
    search: _Search, pairs: list[Pair], directory: str
) -> tuple[list[Pair], tuple[str, ...]]:
    """Copy the pairs with nameless files into `directory`; return the pairs of copies."""
    files = {file for pair in pairs if pair.is_held for file in (pair.main, pair.log) if file}
    require_room(directory, sum(file.size for file in files))
    try:
        os.mkdir(directory, 0o700)
    except OSError as error:
        raise RefusedError(
            f"{visible(directory, 200)}, the place for copies of files that only a process holds, "
            f"cannot be made: {error.strerror}",
            hint="give another path with --into",
        ) from error
    saved: list[str] = []
    result = []
    for number, pair in enumerate(pairs):
        if not pair.is_held:
            result.append(pair)
            continue
        stem = os.path.join(directory, f"{number}.db")
        copied, names = _copy_pair(search, pair, stem)
        saved += names
        result.append(copied)
    sync_directory(directory)
    return result, tuple(saved)


def _copy_pair(search: _Search, pair: Pair, stem: str) -> tuple[Pair, list[str]]:
    """Copy a pair until the database did not change meanwhile, which only a checkpoint does."""
    raced = True
    for _ in range(_ATTEMPTS):
        for name in (stem, stem + "-wal"):
            with suppress(FileNotFoundError):
                os.unlink(name)
        before = _stamp(pair.main)
        if pair.main is not None:
            copy_to(pair.main.fd, stem)
        if pair.log is not None:
            copy_to(pair.log.fd, stem + "-wal")
        if _stamp(pair.main) == before:
            raced = False
            break
    main = _reopened(search, pair.main, stem)
    log = _reopened(search, pair.log, stem + "-wal")
    names = [file.path for file in (main, log) if file is not None]
    return Pair(main, log, raced, pair.journal), names


def _reopened(search: _Search, file: EvidenceFile | None, copy: str) -> EvidenceFile | None:
    if file is None:
        return None
    fd = open_regular(copy)
    search.stack.callback(os.close, fd)
    os.fsync(fd)
    return replace(file, fd=fd, path=copy)


def _stamp(file: EvidenceFile | None) -> tuple[int, int] | None:
    if file is None:
        return None
    status = os.fstat(file.fd)
    return status.st_size, status.st_mtime_ns


# -- living processes ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _HeldPair:
    """The files of one process: paths below ``/proc``; "" for the file at the path, or none."""

    pid: int
    command: str
    main: str
    log: str


def _held_pairs(holders: Holders) -> list[_HeldPair]:
    """Return the processes that use another database or log than those at the path."""
    found = []
    for holder in holders.holders:
        main = _elsewhere(holder, Role.DATABASE)
        log = _elsewhere(holder, Role.LOG)
        if main and not log:  # the log at the path belongs to the database that is elsewhere
            log = next((_link(holder, file) for file in holder.of(Role.LOG)), "")
        if main or log:
            found.append(_HeldPair(holder.pid, holder.command, main, log))
    return found[:_MAX_HELD]


def _elsewhere(holder: Holder, role: Role) -> str:
    """Return the descriptor of a file that is not at the path; of several, the one written to."""
    files = [file for file in holder.of(role) if not file.is_current]
    files.sort(key=lambda file: (file.is_writable, file.descriptor))
    return _link(holder, files[-1]) if files else ""


def _link(holder: Holder, file: OpenFile) -> str:
    return f"/proc/{holder.task}/fd/{file.descriptor}"
