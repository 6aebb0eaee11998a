"""Reading another program's store: nothing in it is trusted, and no link goes unnoticed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from modelstore.errors import SourceError
from modelstore.found import Skipped
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
    """A part of a store that cannot be read. The text is the reason."""

    def as_source_error(self, path: str) -> SourceError:
        """Return the error for a store that cannot be read at all."""
        return SourceError(f"'{visible(path, 200)}' {visible(str(self), 200)}")


def fault(error: OSError | ValueError) -> UnreadableError:
    """Return the error for a file or directory that could not be read."""
    if isinstance(error, FileNotFoundError):
        return UnreadableError("does not exist")
    if isinstance(error, PermissionError):
        return UnreadableError("cannot be read by this user")
    reason = error.strerror if isinstance(error, OSError) else None
    return UnreadableError(f"cannot be read: {reason or error}")


def open_store(path: str, *, holds: str) -> str:
    """Return the real path of a store's directory. Raises `SourceError` if it is not one."""
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        wrong = "is not a directory" if os.path.lexists(path) else "does not exist"
        raise SourceError(f"'{visible(path, 200)}' {wrong}", hint=f"name the {holds}")
    return real


def contains(root: str, real: str) -> bool:
    """Return True if the real path `real` lies below the real path `root`."""
    return real.startswith(root.rstrip(os.sep) + os.sep)


def file_at(entry: os.DirEntry[str]) -> LocalFile:
    """Look at a file of a store with one ``stat``, through a link as the store's program does.

    Raises `UnreadableError` for anything but a regular file. `entry` must have been listed under
    a real path.
    """
    real = entry.path
    try:
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
        status = entry.stat()
    except FileNotFoundError:
        raise UnreadableError("is a broken link: its target is gone") from None
    except (OSError, ValueError) as error:
        raise fault(error) from None
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(f"is {kind_of(status.st_mode)}, not a file")
    return from_stat(entry.path, real, status)


def entries(path: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory, sorted by name; none if it does not exist.

    Raises `UnreadableError` if it cannot be listed or holds more than `MAX_ENTRIES`.
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


def is_litter(name: str) -> bool:
    """Return True for a file that a file manager leaves behind."""
    return name.startswith("._") or name in (".DS_Store", "Thumbs.db", "desktop.ini")


def walk(path: str, depth: int = MAX_DEPTH) -> Iterator[os.DirEntry[str] | Skipped]:
    """Yield every file and link below a directory.

    Links to directories are not followed, so the walk ends.
    """
    for _, listed in folders(path, depth):
        yield from listed


def folders(
    path: str, depth: int = MAX_DEPTH
) -> Iterator[tuple[str, list[os.DirEntry[str] | Skipped]]]:
    """Yield a directory and each directory below it, with its files and links."""
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
    return json_object(read_text(path, limit))


def json_object(content: bytes) -> dict[str, object]:
    """Return the JSON object in the content of a file. Raises `UnreadableError`."""
    if not content:
        raise UnreadableError("is empty: 0 bytes")
    try:
        value = parse_json(content)
    except ValueError as error:
        raise UnreadableError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableError("holds no JSON object")
    return value
