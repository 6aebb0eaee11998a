"""What the shell offers while a command line is typed; nothing here may fail or be slow."""

from __future__ import annotations

import os


def complete_database(incomplete: str) -> list[str]:
    """Offer the SQLite databases beside what was typed, and the directories."""
    directory, prefix = os.path.split(incomplete)
    found: list[str] = []
    try:
        with os.scandir(directory or ".") as entries:
            for entry in entries:
                if not entry.name.startswith(prefix) or not entry.name.isprintable():
                    continue
                path = os.path.join(directory, entry.name)
                if entry.is_dir():
                    found.append(path + os.sep)
                elif _is_database(path):
                    found.append(path)
                if len(found) >= 200:
                    break
    except OSError:
        return []
    return sorted(found)


def _is_database(path: str) -> bool:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return False
    try:
        return os.read(descriptor, 16) == b"SQLite format 3\0"
    except OSError:
        return False
    finally:
        os.close(descriptor)


def complete_kind(incomplete: str) -> list[str]:
    """Offer the kinds of source."""
    from modelstore.sources.registry import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def complete_source(incomplete: str) -> list[str]:
    """Offer files and directories, and the address of a server on this machine."""
    if incomplete.startswith("http"):
        local = ("http://127.0.0.1:9931", "http://127.0.0.1:11434", "http://127.0.0.1:1234")
        return [address for address in local if address.startswith(incomplete)]
    directory, prefix = os.path.split(incomplete)
    try:
        with os.scandir(directory or ".") as entries:
            found = [
                os.path.join(directory, entry.name) + (os.sep if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(prefix) and entry.name.isprintable()
            ]
    except OSError:
        return []
    return sorted(found)[:200]
