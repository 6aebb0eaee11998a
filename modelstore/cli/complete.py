"""What the shell offers while a command line is typed; nothing here may fail or be slow."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOKED_AT = 10_000  # names of one directory
_OFFERED = 200


def complete_database(incomplete: str) -> list[str]:
    """Offer the SQLite databases beside what was typed, and the directories."""
    return _files(incomplete, _is_database)


def complete_kind(incomplete: str) -> list[tuple[str, str]]:
    """Offer the kinds of source."""
    from modelstore.sources.registry import KINDS

    return [(kind, info.summary) for kind, info in KINDS.items() if kind.startswith(incomplete)]


def complete_source(incomplete: str) -> list[str]:
    """Offer files and directories, and the address of a server on this machine."""
    if incomplete.startswith("http"):
        local = ("http://127.0.0.1:9931", "http://127.0.0.1:11434", "http://127.0.0.1:1234")
        return [address for address in local if address.startswith(incomplete)]
    return _files(incomplete, lambda _: True)


def _files(incomplete: str, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """Return the directories that begin so, and the files that are wanted.

    A name that could be taken for an option or a home directory is led by its directory.
    """
    directory, prefix = os.path.split(incomplete)
    found: list[str] = []
    try:
        with os.scandir(directory or ".") as entries:
            for entry in islice(entries, _LOOKED_AT):
                name = entry.name
                if not name.startswith(prefix) or not name.isprintable():
                    continue
                if name.startswith(".") and not prefix:
                    continue
                path = os.path.join(directory, name)
                if not directory and name.startswith(("-", "~")):
                    path = os.path.join(".", name)
                if entry.is_dir():
                    found.append(path + os.sep)
                elif is_wanted(entry):
                    found.append(path)
                if len(found) >= _OFFERED:
                    break
    except (OSError, ValueError):
        return []
    return sorted(found)


def _is_database(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file():  # a FIFO or a device is not to be opened
        return False
    try:
        with open(entry.path, "rb", buffering=0) as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False
