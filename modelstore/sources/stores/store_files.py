"""Looking into another program's store without trusting it, and without ever leaving it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from modelstore.errors import SourceError
from modelstore.model import Skipped
from modelstore.sources.files.local_files import LocalFile, from_stat
from modelstore.sources.values import parse_json
from modelstore.text import visible
from modelstore.wal.files import kind_of, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_ENTRIES = 100_000  # of one directory of a store
MAX_DEPTH = 16  # of directories below the one that is walked
MAX_TEXT = 4 * 1024 * 1024  # bytes of a manifest, a list of files, a settings file


class UnreadableError(Exception):
    """A part of a store that cannot be read; its text is the reason."""

    def as_source_error(self, path: str) -> SourceError:
        """Return the error of a store that cannot be read as a whole."""
        return SourceError(f"'{visible(path, 200)}' {visible(str(self), 200)}")


def fault(error: OSError | ValueError) -> UnreadableError:
    """Return the reason why a file or directory could not be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return UnreadableError("does not exist")
    if isinstance(error, PermissionError):
        return UnreadableError("may not be read by this user")
    reason = error.strerror if isinstance(error, OSError) else None
    return UnreadableError(f"cannot be read: {reason or error}")


def open_store(path: str, *, holds: str) -> str:
    """Return the real path of a store's directory. Raises `SourceError` where there is none."""
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        wrong = "is not a directory" if os.path.lexists(path) else "does not exist"
        raise SourceError(f"'{visible(path, 200)}' {wrong}", hint=f"name the {holds}")
    return real


def contains(root: str, real: str) -> bool:
    """Whether the real path `real` lies below the real path `root`."""
    return real.startswith(root.rstrip(os.sep) + os.sep)


def file_inside(entry: os.DirEntry[str], *roots: str) -> LocalFile:
    """Look at a file of a store with one ``stat``, through a link if it stays below `roots`.

    Raises `UnreadableError` where it leads out, or is no regular file. `entry` must have been
    listed under a real path.
    """
    real = entry.path
    try:
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            if not any(contains(root, real) for root in roots):
                raise UnreadableError("is a link out of the store, which is not followed")
        status = entry.stat()
    except FileNotFoundError:
        raise UnreadableError("is a link to nothing: what it stood for is gone") from None
    except (OSError, ValueError) as error:
        raise fault(error) from None
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(f"is {kind_of(status.st_mode)}, not a file")
    return from_stat(entry.path, real, status)


def entries(path: str) -> list[os.DirEntry[str]]:
    """Return what a directory holds, by name; nothing where it does not exist.

    Raises `UnreadableError` where it cannot be listed, or holds more than `MAX_ENTRIES`.
    """
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(path) as listed:
            for entry in listed:
                found.append(entry)
                if len(found) > MAX_ENTRIES:
                    raise UnreadableError(f"holds more than {MAX_ENTRIES:,} entries")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise fault(error) from None
    found.sort(key=lambda entry: entry.name)
    return found


def walk(path: str, depth: int = MAX_DEPTH) -> Iterator[os.DirEntry[str] | Skipped]:
    """Yield everything below a directory that is no directory itself, links included.

    No link to a directory is followed, so that nothing loops.
    """
    for _, listed in folders(path, depth):
        yield from listed


def folders(
    path: str, depth: int = MAX_DEPTH
) -> Iterator[tuple[str, list[os.DirEntry[str] | Skipped]]]:
    """Yield a directory and each one below it, with what it holds that is none itself."""
    try:
        listed = entries(path)
    except UnreadableError as error:
        yield path, [Skipped(path, str(error))]
        return
    below = [entry.path for entry in listed if entry.is_dir(follow_symlinks=False)]
    here: list[os.DirEntry[str] | Skipped] = [
        entry for entry in listed if not entry.is_dir(follow_symlinks=False)
    ]
    if depth == 0:
        here += [Skipped(folder, "is nested too deeply") for folder in below]
        below = []
    yield path, here
    for folder in below:
        yield from folders(folder, depth - 1)


def read_text(path: str, limit: int = MAX_TEXT) -> bytes:
    """Return the whole of a regular file of at most `limit` bytes. Raises `UnreadableError`."""
    try:
        descriptor = open_regular(path)
        with open(descriptor, "rb", buffering=0) as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise fault(error) from None
    if len(content) > limit:
        raise UnreadableError(f"is larger than {limit:,} bytes")
    return content


def read_object(path: str, limit: int = MAX_TEXT) -> dict[str, object]:
    """Return the JSON object in a small regular file. Raises `UnreadableError`."""
    try:
        value = parse_json(read_text(path, limit))
    except ValueError as error:
        raise UnreadableError(f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableError("holds no JSON object")
    return value
