"""Paths as other programs wrote them, and their canonical form."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

_MAX_KNOWN = 50_000  # directories remembered
_MAX_PATH = 4096  # characters; no system opens a longer one
_NO_NAMES = frozenset(("", ".", ".."))


def expand(path: str, home: str) -> str:
    """Return `path` with a leading ``~`` replaced by the home directory."""
    return home + path[1:] if path == "~" or path.startswith(("~/", "~\\")) else path


@dataclass(slots=True)
class RealPaths:
    """A cache that turns paths into real paths. It lists each directory once and opens no file.

    Relative paths start from `base`, and ``~/`` from `home`. A path below a missing directory is
    only normalised. A relative path that leads nowhere stays as it was written.
    """

    base: str
    home: str = ""
    _known: dict[str, tuple[str | None, frozenset[str]]] = field(default_factory=dict)

    def canonical(self, path: str) -> str:
        """Return the real path of `path`, or `path` itself if its directory is unknown."""
        directory, _, name = path.rpartition("/")
        known = self._known.get(directory)
        if known is None or name in known[1]:
            return self._resolve(path)
        return path if known[0] is None else f"{known[0]}/{name}"

    def _resolve(self, path: str) -> str:
        if len(path) > _MAX_PATH:
            return path
        path = self._absolute(path)
        if not os.path.isabs(path):
            return path
        directory, _, name = path.rpartition("/")
        real, special = self._known.get(directory) or self._look(directory)
        if name in special:
            return os.path.realpath(path)
        return path if real is None else f"{real}/{name}"

    def _absolute(self, path: str) -> str:
        if path.startswith("~/") and self.home:
            path = self.home + path[1:]
        if os.path.isabs(path):
            return os.path.normpath(path)
        joined = os.path.normpath(os.path.join(self.base, path))
        try:
            return joined if os.path.lexists(joined) else path
        except ValueError:  # a NUL character
            return path

    def _look(self, directory: str) -> tuple[str | None, frozenset[str]]:
        """Return a directory's real path if that differs, and the names in it that are links."""
        special = _NO_NAMES
        real = None
        try:
            with os.scandir(directory or "/") as entries:
                special |= {entry.name for entry in entries if entry.is_symlink()}
            real = os.path.realpath(directory or "/").rstrip("/")
        except (OSError, ValueError):
            pass  # missing or unreadable: keep the path as written
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        known = (None if real == directory else real, special)
        self._known[directory] = known
        return known
