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
