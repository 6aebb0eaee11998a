"""The new file: written whole beside its place, synced, and then given its name.

Nothing is overwritten: the name is made by a hard link, which fails if it exists.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from modelstore.database.files import sync_directory, sync_file
from modelstore.database.handle import uri
from modelstore.database.sqlite import sqlite3
from modelstore.errors import RefusedError
from modelstore.text import human_bytes, visible
from modelstore.wal.files import read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelstore.progress import Progress
    from modelstore.recovery.states import State

# An error's message may quote a damaged schema, and then it is no valid UTF-8 for Python.
SQL_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_CHUNK = 1 << 22  # bytes copied at once
SCAN_CACHE = 2000  # KiB: more leaves the processor's cache, and few pages are read twice


@contextmanager
def new_file(target: str | None) -> Iterator[str]:
    """Yield the path of a draft, which nobody else knows; remove it after the block.

    The draft lies beside `target`, or in a private directory if that is None. Raises `RefusedError`
    if `target` exists or its directory cannot be written.
    """
    if target is None:
        with tempfile.TemporaryDirectory(prefix="modelstore-") as directory:
            draft = os.path.join(directory, "recovered.db")
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            yield draft
        return
    name = visible(target, 200)
    if not target or target.endswith(os.sep):
        raise RefusedError(f"--into {name} names no file", hint="give the path of a new file")
    if os.path.lexists(target):
        raise RefusedError(
            f"{name} exists already, and recover never overwrites a file",
            hint="give another path with --into",
        )
    for suffix in ("-wal", "-shm", "-journal"):
        if os.path.lexists(target + suffix):
            raise RefusedError(
                f"{visible(target + suffix, 200)} lies beside the new file's place: SQLite would "
                "take it for a part of it",
                hint="give another path with --into",
            )
    directory, base = os.path.split(os.path.abspath(target))
    draft = os.path.join(directory, f".{base[:100]}.{secrets.token_hex(6)}.part")
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise RefusedError(
            f"{name} cannot be written: {error.strerror}", hint="check the path and its directory"
        ) from error
    try:
        yield draft
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(draft + suffix)


def require_room(draft: str, needed: int) -> None:
    """Raise `RefusedError` unless the draft's file system has `needed` bytes free."""
    directory = os.path.dirname(os.path.abspath(draft))
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise RefusedError(
            f"the new file needs up to {human_bytes(needed)}, and {visible(directory, 200)} has "
            f"{human_bytes(free)} free",
            hint="give a path on another disk with --into, or set TMPDIR without it",
        )


def publish(draft: str, target: str, mode: int, owner: tuple[int, int]) -> None:
    """Sync the draft and give it the name `target`, which must not exist.

    It gets `owner`, a user and a group, if this user may do that: the application of a database
    that root recovers must be able to write to the new file.
    """
    descriptor = os.open(draft, os.O_RDWR)
    try:
        if hasattr(os, "fchown"):
            with suppress(PermissionError):
                os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode & 0o666)
        sync_file(descriptor, draft)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, target)
    except FileExistsError:
        raise RefusedError(
            f"{visible(target, 200)} exists already, and recover never overwrites a file",
            hint="give another path with --into",
        ) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise
        os.rename(draft, target)
    sync_directory(os.path.dirname(os.path.abspath(target)))


def write_pages(state: State, draft: str, progress: Progress | None = None) -> None:
    """Write every page of a state to the draft, exactly as its files hold it."""
    size = state.page_size * state.page_count
    with open(draft, "r+b" if os.path.exists(draft) else "w+b", buffering=0) as output:
        output.truncate(0)
        _copy_start(state, output.fileno(), size, progress)
        output.truncate(size)
        taken_back = () if state.rollback is None else state.rollback.pages
        for number in sorted({*state.frames, *taken_back}):
            if number > state.page_count:
                continue
            _write_at(output.fileno(), state.read(number), (number - 1) * state.page_size)
        if state.invented_header is not None:
            _write_at(output.fileno(), state.read(1), 0)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _copy_start(state: State, target: int, size: int, progress: Progress | None) -> None:
    """Copy at most the first `size` bytes of the main file, in the kernel if it can."""
    source = state.main_fd
    if source is None:
        return
    size = min(size, os.fstat(source).st_size)
    done = 0
    copy = getattr(os, "copy_file_range", None)
    while done < size:
        count = min(_CHUNK, size - done)
        copied = 0
        if copy is not None:
            try:
                copied = copy(source, target, count, done, done)
            except OSError:
                copy = None
        if not copied:
            data = read_at(source, count, done)
            if not data:
                return
            _write_at(target, data, done)
            copied = len(data)
        done += copied
        if progress is not None:
            progress("copying the main file", done, size, "bytes")


def open_new(path: str, *, immutable: bool = False) -> sqlite3.Connection:
    """Connect to the new file; its schema is hostile, so no function of it is trusted."""
    conn = sqlite3.connect(
        uri(path, "immutable" if immutable else "rw"), uri=True, isolation_level=None, timeout=0
    )
    conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        conn.execute("PRAGMA trusted_schema = OFF")
        conn.execute("PRAGMA cell_size_check = ON")
        conn.execute(f"PRAGMA cache_size = -{SCAN_CACHE if immutable else 64000}")
    except SQL_ERRORS:
        conn.close()  # else its lock stays as long as the error is remembered
        raise
    return conn


def read_at_path(path: str, offset: int, size: int) -> bytes:
    """Return bytes of a file of ours; fewer if it is shorter or absent."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except FileNotFoundError:
        return b""


def set_mode_bytes(path: str, wanted: bytes, only_from: bytes) -> None:
    """Change the format versions in the header: 1 is a rollback journal, 2 a WAL.

    Rows are added without a WAL, so that the new file never has a log of its own.
    """
    with open(path, "r+b", buffering=0) as file:
        file.seek(18)
        if len(only_from) == len(wanted) and file.read(2) == only_from != wanted:
            file.seek(18)
            file.write(wanted)
