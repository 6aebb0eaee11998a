"""A raw look at a database and its log before SQLite comes near them.

Merely opening them can destroy data: SQLite deletes a -wal beside an empty database, overwrites
a database from a -wal of another page size, and drops the rest of a damaged log in silence.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelstore.database.files import KEEPS_DESCRIPTORS, HeldFiles
from modelstore.database.filesystem import ownership_warning, placement_warnings
from modelstore.errors import DamageError, RefusedError
from modelstore.text import plural, visible
from modelstore.wal.files import read_at
from modelstore.wal.format import WAL_HEADER_SIZE, DatabaseHeader

if TYPE_CHECKING:
    from modelstore.wal.frames import WalScan
    from modelstore.wal.index import WalIndex

SQLITE_MAGIC = b"SQLite format 3\0"

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x1f\x8b", "gzip-compressed"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (0, b"\xfd7zXZ\0", "xz-compressed"),
    (0, b"BZh", "bzip2-compressed"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x37\x7f\x06\x82", "the -wal of a database"),
    (0, b"\x37\x7f\x06\x83", "the -wal of a database"),
    (0, b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", "the rollback journal of a database"),
    (0, struct.pack("=II", 3007000, 0), "the -shm of a database"),
    (0, b"** This file contains an SQLite 2", "an SQLite 2 database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (0, b"\x7fELF", "a program"),
    (0, b"#!", "a script"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
    (257, b"ustar", "a tar archive"),
    (8, b"{", "a safetensors model"),
    (0, b"{", "JSON"),
    (0, b"[", "JSON"),
)

_HINTS = {
    "a GGUF model": "`modelstore import FILE` reads a model into the catalogue",
    "a safetensors model": "`modelstore import FILE` reads a model into the catalogue",
    "JSON": "`modelstore import FILE` reads records into the catalogue",
    "gzip-compressed": "unpack it first",
    "zstd-compressed": "unpack it first",
    "xz-compressed": "unpack it first",
    "the -wal of a database": "name the database itself, without -wal",
    "the -shm of a database": "name the database itself, without -shm",
    "the rollback journal of a database": "name the database itself, without -journal",
}


def describe(head: bytes) -> tuple[str, str | None]:
    """Name a file by its first bytes (512 are enough), and give a hint of what to do with it."""
    for offset, magic, what in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return f"it is {what}", _HINTS.get(what)
    if not head.strip(b"\0"):
        return "it holds nothing but zeros", "restore it from a backup"
    if _is_text(head):
        return "it is text", "`modelstore import FILE` reads records into the catalogue"
    return "it is of no known kind, or encrypted", None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a character cut at the end
            return False
        text = head[: error.start].decode("utf-8")
    return all(char.isprintable() or char.isspace() for char in text)


NEWEST_SCHEMA_FORMAT = 4  # sqlite.org/fileformat2.html#schemaformat

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The files at a path, as a raw look shows them. Sizes are bytes; None for an absent file."""

    path: str  # real
    exists: bool = True
    size: int = 0
    header: DatabaseHeader | None = None  # None for a database that is still empty
    wal_size: int | None = None
    shm_size: int | None = None
    attached: bool | None = None  # a process has the log open; None if unknown
    index: WalIndex | None = None  # in the -shm; counts only while a process is attached
    log: WalScan | None = None  # only if SQLite would have to recover the log
    damaged: bool = False  # SQLite would silently drop commits of the log
    foreign: str | None = None  # why the log cannot belong to this database
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
    def why_not_fold(self) -> str | None:
        """The reason why folding the log would destroy something; None where it would not.

        Everything that opens, folds or unlinks a log asks here, so a new kind of evidence belongs
        here too.
        """
        if self.foreign is not None:
            return f"it does not belong to this database: {self.foreign}"
        if not self.damaged or self.log is None:
            return None
        fault, lost = self.log.fault, f"{self.log.later_commits:,} commits"
        if fault is not None:
            return f"{fault.value}, and SQLite would drop all of it ({lost})"
        return (
            f"frame {self.log.valid + 1:,} is damaged, and SQLite would drop it and the "
            f"{lost} that follow"
        )


def probe(path: str, *, create: bool = False) -> Probe:
    """Look at a database without SQLite, and change nothing.

    Raises `RefusedError` for a database that must not be opened, and `DamageError` for a log that
    was deleted while processes have it open. With `create`, a missing file is no error.
    """
    real = real_path(path)
    name = visible(real, 200)
    try:
        status = os.stat(real)
    except FileNotFoundError:
        return _absent(real, name, create=create)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"cannot look at {name}: {_reason(error)}",
            hint="check the path, and who may enter its directory",
        ) from error
    _require_regular(status, name)
    with ExitStack() as stack:
        try:
            held = stack.enter_context(HeldFiles.hold(real))
        except FileNotFoundError:
            return _absent(real, name, create=create)
        return _look(held, name)


def real_path(path: str) -> str:
    """Return the path that SQLite will use: absolute, symbolic links followed."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{visible(path, 200)} is not the path of a file: {_reason(error)}",
            hint="check the path",
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _absent(real: str, name: str, *, create: bool) -> Probe:
    if _size(real + "-wal"):
        raise RefusedError(
            f"{name} is missing, but its log {name}-wal is there",
            hint="restore the database from a backup beside it; SQLite would delete the log",
        )
    if not create:
        raise RefusedError(
            f"{name} does not exist", hint="check the path; only `import` creates a database"
        )
    return Probe(path=real, exists=False, warnings=placement_warnings(real))


def _size(path: str) -> int | None:
    """Return the size of a file beside the database; None if it is absent."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefusedError(f"cannot look at {visible(path, 200)}: {_reason(error)}") from error
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


def _look(held: HeldFiles, name: str) -> Probe:
    """Read the headers, and the log if SQLite would recover it. Raises as `probe` does."""
    path = held.path
    status = os.fstat(held.db)
    wal_size, shm_size = _size(path + "-wal"), _size(path + "-shm")
    if status.st_size == 0 and wal_size:
        raise RefusedError(
            f"{name} is empty, but its log {name}-wal is not: SQLite would delete the log",
            hint="restore the database from a backup beside it, or move the -wal away",
        )
    header = _read_header(held, name) if status.st_size else None
    found = Probe(
        path=path, size=status.st_size, header=header, wal_size=wal_size, shm_size=shm_size
    )
    found = replace(found, warnings=_warnings(found, status))
    found = _look_at_index(held, found, name)
    if wal_size and header is not None:
        found = _look_at_log(held, found, name)
    return found


def _read_header(held: HeldFiles, name: str) -> DatabaseHeader:
    head = read_at(held.db, 512, 0)
    if not head.startswith(SQLITE_MAGIC):
        what, hint = describe(head)
        raise RefusedError(f"{name} is not an SQLite database: {what}", hint=hint)
    try:
        header = DatabaseHeader.parse(head)
    except RefusedError as error:
        raise RefusedError(f"{name} is {error.message}", hint="restore it from a backup") from error
    newest = max(header.read_version, header.write_version)
    if newest > 2 or header.schema_format > NEWEST_SCHEMA_FORMAT:
        raise RefusedError(
            f"{name} was written by a newer SQLite (file format {newest}, "
            f"schema format {header.schema_format})",
            hint="use a newer SQLite, or restore it from a backup if this is damage",
        )
    return header


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
        return replace(found, attached=False)
    # Imported late: a `list` of a folded database needs neither locks nor a scan of the log.
    from modelstore.database.foreign_log import log_is_gone
    from modelstore.wal.index import read_index
    from modelstore.wal.locks import read_locks

    report = read_locks(shm)
    users = bool(report.attached)
    index = read_index(shm)
    known = users or sys.platform.startswith("linux")  # other systems do not tell
    found = replace(found, attached=users if known else None, index=index)
    if users and log_is_gone(held, shm):
        raise DamageError(
            f"the log of {name} was deleted or replaced while in use",
            hint="keep the processes that have it open running: they alone still see its rows; "
            "let them save the data (VACUUM INTO), then restart them",
        )
    if index is not None and index.is_settled and index.pending and not (users or found.wal_size):
        text = (
            f"the -shm of {name}, which no process holds, counts {plural(index.pending, 'frame')} "
            "that no checkpoint had folded, and the -wal has none of them: look for it if "
            "something deleted it; after a power cut they may all be in the main file"
        )
        return replace(found, warnings=(*found.warnings, text))
    return found


def _look_at_log(held: HeldFiles, found: Probe, name: str) -> Probe:
    """Check the header of the log, and the whole log if SQLite would recover it."""
    from modelstore.database.foreign_log import why_foreign
    from modelstore.wal.format import WalFault, WalHeader
    from modelstore.wal.scan import scan_wal

    wal = held.open("-wal")
    if wal is None:
        return replace(found, wal_size=None)
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
        raise RefusedError(
            f"{name}-wal has pages of {header.page_size} bytes, the database has {page_size}: "
            "it belongs to another database, and SQLite would overwrite this one with it",
            hint="move the -wal away, or bring back the database that it belongs to",
        )
    if found.attached:
        return found
    log = scan_wal(wal)
    foreign = why_foreign(found.header, held.db, log, wal)
    held.let_go(wal)
    # If the log changes, a process is attached by now, and SQLite will not recover it.
    damaged = log.is_damaged and not log.changed_while_reading
    return replace(found, log=log, damaged=damaged, foreign=foreign)
